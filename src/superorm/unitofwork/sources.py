"""The sources of computed vectors: of the objects that a flush writes, those from which a vector is to be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from superorm.codec.documents import has_changed, invalid, key_of, stored_value
from superorm.codec.vectors import value_at
from superorm.exc import NotLoadedError
from superorm.expr.narrow import is_dict
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.state import DEFAULTS, RAW
from superorm.schema.types.base import Misfit
from superorm.schema.vector_fields import VectorField

__all__ = ["sources_of"]


def sources_of(
    field: VectorField, source: MappedField, new: Sequence[Any], changed: Sequence[Any]
) -> Iterator[tuple[Any, Any]]:
    """The objects whose source is new or changed, or whose vector somebody changed, each with the source's value.

    A source of None makes the vector None at once.

    Raises `ValidationError` where a source is of the wrong type, and `NotLoadedError` where it is not loaded.
    """
    for instance, holder in (_embedded if field.parents else _whole)(field, source, new, changed):
        try:
            value = getattr(holder, source.attribute, None)
        except NotLoadedError as error:
            raise _unknown(field, source, instance) from error
        if value is None:
            setattr(holder, field.part.attribute, None)
            continue
        if holder is instance:
            stored_value(field.mapping, source, instance, value)
        else:
            try:
                source.store(holder, value)
            except Misfit as misfit:
                raise invalid(field.mapping, field.parents[0], instance, field.misfit(misfit, source)) from misfit.error
        yield instance, getattr(holder, source.attribute)


def _whole(
    field: VectorField, source: MappedField, new: Sequence[Any], changed: Sequence[Any]
) -> Iterator[tuple[Any, Any]]:
    stale = [one for one in changed if has_changed(source, one) or has_changed(field.part, one)]
    return ((one, one) for one in (*new, *stale))


def _embedded(
    field: VectorField, source: MappedField, new: Sequence[Any], changed: Sequence[Any]
) -> Iterator[tuple[Any, Any]]:
    """The objects, each with the embedded one that has the field; others there are left out."""
    above = field.stored_path(field.part).rpartition(".")[0]
    stale = [one for one in changed if has_changed(field.parents[0], one)]
    documents: list[Any] = [None] * len(new) + [vars(one)[RAW] for one in stale]
    for instance, document in zip([*new, *stale], documents, strict=True):
        before = None if document is None else value_at(document, above)
        holder: object = field.below(instance)
        held: ClassMap | None = getattr(type(holder), "__superorm__", None)
        if held is None or field.part.attribute not in held.by_attribute:
            continue
        if not is_dict(before) or _differs(source, holder, before) or _differs(field.part, holder, before):
            yield instance, holder


def _differs(part: MappedField, holder: object, before: Mapping[str, Any]) -> bool:
    """Whether a field of an embedded object is not what the stored document reads as."""
    state = vars(holder)
    if part.attribute not in state:
        return part.stored in before
    there = before if part.stored in before else state.get(DEFAULTS, {})
    return part.stored not in there or not part.unchanged(state[part.attribute], there[part.stored])


def _unknown(field: VectorField, source: MappedField, instance: object) -> NotLoadedError:
    """The error of a vector that was assigned while its source is not there to compute it from."""
    key = key_of(field.mapping, instance)
    return NotLoadedError(
        f"{field.mapping.name} {key!r}: {field.attribute} is computed from {source.attribute}, which was not loaded, "
        f"or has expired; refresh() the object, or do not assign {field.attribute}",
        document_class=field.mapping.cls,
        key=key,
        field=field.attribute,
    )
