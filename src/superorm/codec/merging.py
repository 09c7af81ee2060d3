"""Copying the values of one object of a document onto another."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from superorm.codec.documents import key_of
from superorm.exc import NotLoadedError, StaleDocumentError, ValidationError
from superorm.expr.reprs import short_repr
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.state import GONE, RAW, UNLOADED, delete_part, is_shown, new_object
from superorm.schema.types.artifacts import ArtifactType

__all__ = ["check_same_version", "copies_for", "copy_to_add", "show_copies"]


def copies_for(mapping: ClassMap, target: object, given: object) -> list[tuple[MappedField, Any]]:
    """Copies of the values that the given object has, for the target to show; not of its key and version.

    Values that are not loaded there are left out; for attributes that were deleted there stands `MISSING`.
    Raises `ValidationError` for a value that cannot be copied.
    """
    copies: list[tuple[MappedField, Any]] = []
    for part in mapping.fields:
        if part is mapping.key or part is mapping.version:
            continue
        if not is_shown(part, vars(given)):
            continue
        if isinstance(part.type, ArtifactType):  # neither is read for the other's sake
            if part.attribute in vars(given):
                copies.append((part, _copy(mapping, part, given, getattr(given, part.attribute))))
            continue
        value = getattr(given, part.attribute, MISSING)
        before = getattr(target, part.attribute, MISSING)  # a default is remembered, so that the same is no change
        if value is not MISSING:
            copies.append((part, _copy(mapping, part, given, value)))
        elif before is not MISSING:
            copies.append((part, MISSING))
    return copies


def show_copies(target: object, copies: Iterable[tuple[MappedField, Any]]) -> None:
    """Let the target show the copies; attributes of which there are none are deleted."""
    for part, value in copies:
        if value is MISSING:
            delete_part(part, target)
        else:
            setattr(target, part.attribute, value)


def _copy(mapping: ClassMap, part: MappedField, given: object, value: object) -> Any:
    """A deep copy. Raises `ValidationError`."""
    try:
        return deepcopy(value)
    except Exception as error:  # whatever a value's own methods raise
        key = key_of(mapping, given)
        raise ValidationError(
            f"{mapping.name} {short_repr(key)}: {part.attribute} is a {type(value).__name__} that cannot be copied, "
            f"as merging does: {type(error).__name__}: {error}",
            document_class=mapping.cls,
            key=key,
            field=part.attribute,
        ) from error


def copy_to_add(mapping: ClassMap, given: object) -> Any:
    """A new object with the same values, also those of keys that the class does not map.

    Raises `NotLoadedError` for a partial object, `StaleDocumentError` for a stored one with a version,
    `ValidationError` for a value that cannot be copied.
    """
    state = vars(given)
    raw: dict[str, Any] | None = state.get(RAW)
    if UNLOADED in state:
        key = key_of(mapping, given)
        raise NotLoadedError(
            f"{mapping.name} {key!r} was loaded in part only, and its document is gone, so it cannot be added; "
            "merge a whole object",
            document_class=mapping.cls,
            key=key,
        )
    if raw is not None and mapping.version is not None:
        raise _stale(mapping, raw["_id"], "was deleted underneath")
    made = new_object(mapping)
    before = raw or state.get(GONE)
    if before is not None:
        setattr(made, GONE, before)
    for part in mapping.fields:
        value = getattr(given, part.attribute, MISSING)
        if value is not MISSING:
            setattr(made, part.attribute, _copy(mapping, part, given, value))
        else:
            delete_part(part, made)
    return made


def check_same_version(mapping: ClassMap, target: object, given: object) -> None:
    """Raise `StaleDocumentError` where the given object has another version than the target.

    One that was never stored, and whose version was not set, has none.
    """
    part = mapping.version
    if part is None:
        return
    mine, theirs = _version(part, given), _version(part, target)
    if (RAW not in vars(given) and mine == 0) or mine == theirs:
        return
    raise _stale(
        mapping,
        key_of(mapping, target),
        f"is at {part.attribute} {theirs!r}, and the object to merge has {mine!r}: it was changed underneath",
    )


def _version(part: MappedField, instance: object) -> Any:
    raw: dict[str, Any] | None = vars(instance).get(RAW)
    return vars(instance).get(part.attribute, 0) if raw is None else raw.get(part.stored, 0)


def _stale(mapping: ClassMap, key: Any, why: str) -> StaleDocumentError:
    return StaleDocumentError(
        f"{mapping.name} {key!r} {why}; load it again, and make the change there", document_class=mapping.cls, key=key
    )
