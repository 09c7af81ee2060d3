"""Which computed vectors a flush has to compute, and what becomes of a model's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from superorm.codec.documents import has_changed, key_of, stored_value
from superorm.exc import NotLoadedError, SuperormError, VectorError
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.vector_spec import VectorSpec

__all__ = ["Need", "accept", "blame", "inputs_of", "needs"]


@frozen
class Need:
    """Vectors of one field to compute: for each object the value of its source."""

    mapping: ClassMap
    part: MappedField
    declared: VectorFieldSpec
    spec: VectorSpec
    objects: Sequence[tuple[Any, Any]]

    @property
    def model(self) -> str:
        """The model's name."""
        assert self.declared.model is not None
        return self.declared.model


def needs(mapping: ClassMap, new: Iterable[Any], changed: Iterable[Any]) -> list[Need]:
    """The computed fields whose source is new or changed, or whose vector somebody changed.

    A source of None makes the vector None at once.

    Raises `ValidationError` where a source is of the wrong type: nothing of the kind reaches the model;
    `NotLoadedError` where a vector was assigned, and its source is not loaded.
    """
    found: list[Need] = []
    new, changed = list(new), list(changed)
    for part, declared, spec in mapping.vectors:
        if declared.source is None:
            continue
        source = mapping.by_attribute[declared.source]
        objects: list[tuple[Any, Any]] = []
        stale = [one for one in changed if has_changed(source, one) or has_changed(part, one)]
        for instance in [*new, *stale]:
            try:
                value = getattr(instance, source.attribute, None)
            except NotLoadedError as error:
                raise _unknown(mapping, part, source, instance) from error
            if value is None:
                setattr(instance, part.attribute, None)
                continue
            stored_value(mapping, source, instance, value)
            objects.append((instance, getattr(instance, source.attribute)))
        if objects:
            found.append(Need(mapping, part, declared, spec, objects))
    return found


def _unknown(mapping: ClassMap, part: MappedField, source: MappedField, instance: object) -> NotLoadedError:
    """The error of a vector that was assigned while its source is not there to compute it from."""
    key = key_of(mapping, instance)
    return NotLoadedError(
        f"{mapping.name} {key!r}: {part.attribute} is computed from {source.attribute}, which was not loaded, "
        f"or has expired; refresh() the object, or do not assign {part.attribute}",
        document_class=mapping.cls,
        key=key,
        field=part.attribute,
    )


def inputs_of(need: Need) -> list[Any]:
    """What the model is asked: each text once, the shortest first so that batches are of like lengths."""
    values = [value for _, value in need.objects]
    return sorted(set(values), key=lambda value: (len(value), value)) if _are_texts(values) else values


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def accept(need: Need, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Put the model's outputs into the objects.

    Raises `VectorError` naming class, key and field for an output of the wrong shape or not finite;
    no object is changed then.
    """
    vectors = [_vector(need, value, output) for value, output in zip(inputs, outputs, strict=True)]
    if _are_texts(inputs):
        by_text = dict(zip(inputs, vectors, strict=True))
        vectors = [by_text[text] for _, text in need.objects]
    for (instance, _), vector in zip(need.objects, vectors, strict=True):
        setattr(instance, need.part.attribute, vector.copy())


def _vector(need: Need, value: Any, output: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(output, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last by torch, of a tensor with a gradient
        raise _refused(need, value, f"a {type(output).__name__}, no vector") from None
    if vector.shape != (need.spec.dim,):
        raise _refused(need, value, f"an output of shape {vector.shape}, expected ({need.spec.dim},)")
    if not np.isfinite(vector).all():
        raise _refused(need, value, "NaN or infinity")
    return vector


def _refused(need: Need, value: Any, what: str) -> VectorError:
    key = _key_for(need, value)
    return VectorError(
        f"{need.mapping.name} {key!r}: {need.part.attribute} cannot be computed: model {need.model!r} returned {what}",
        document_class=need.mapping.cls,
        key=key,
        field=need.part.attribute,
        component=need.model,
    )


def _key_for(need: Need, value: Any) -> Any:
    """The key of an object with this source value."""
    text = isinstance(value, str)
    instance = next(instance for instance, given in need.objects if given is value or (text and given == value))
    return key_of(need.mapping, instance)


def blame(need: Need, inputs: Sequence[Any], error: SuperormError) -> SuperormError:
    """The model's error with the class, field and, where the input at fault is known, key."""
    position = getattr(error, "position", None)
    key = _key_for(need, inputs[position]) if position is not None else None
    where = need.mapping.name if position is None else f"{need.mapping.name} {key!r}"
    return type(error)(
        f"{where}: {need.part.attribute} cannot be computed: {error}",
        document_class=need.mapping.cls,
        key=key,
        field=need.part.attribute,
        component=need.model,
    )
