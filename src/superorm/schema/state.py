"""What objects carry beside their fields, and fields that are read at first access."""

from __future__ import annotations

from typing import Any, cast

from superorm.exc import ValidationError
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.types.base import Misfit

__all__ = ["DEFAULTS", "GONE", "RAW", "SOURCE", "TOUCHED", "LazyPart", "mismatch", "new_object", "read_part"]

RAW = "_superorm_raw"
"""The attribute that keeps the document an object was loaded from or stored as; absent on new objects."""
GONE = "_superorm_gone"
"""The attribute that keeps the same once the document was deleted."""
SOURCE = "_superorm_source"
"""The attribute that keeps the dict an embedded object was read from."""
DEFAULTS = "_superorm_defaults"
"""The attribute that keeps, of the keys that were missing there, the defaults given as BSON; absent where none were."""
TOUCHED = "_superorm_touched"
"""The attribute that keeps the bits of the lazy fields that were read: one of them that is not there was deleted."""


def new_object(mapping: ClassMap) -> object:
    """An object of the class without any attributes."""
    return cast("object", object.__new__(mapping.cls))


class LazyPart:
    """A non-data descriptor: at first access it converts a copy of the stored value and leaves it in the object."""

    __slots__ = ("part",)

    def __init__(self, part: MappedField) -> None:
        self.part = part

    def __get__(self, instance: object | None, owner: type) -> Any:
        part = self.part
        if instance is None:  # reached only through super(); the class's own side is the metaclass's
            return getattr(owner, part.attribute)
        state = vars(instance)
        raw: dict[str, Any] | None = state.get(RAW) or state.get(GONE)
        touched: int = state.get(TOUCHED, 0)
        if raw is None or touched & part.bit:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {part.attribute!r}")
        state[part.attribute] = value = read_part(class_map(owner), part, instance, raw)
        state[TOUCHED] = touched | part.bit
        return value


def read_part(mapping: ClassMap, part: MappedField, instance: object, raw: dict[str, Any]) -> Any:
    """The value of a field in a stored document; a default is remembered, so that reading it is no change.

    Raises `ValidationError` naming document, field and value where the stored value does not fit.
    """
    try:
        if part.stored in raw:
            return part.type.from_bson(raw[part.stored])
        value, stored = part.missing()
    except Misfit as misfit:
        raise mismatch(mapping, raw.get("_id"), misfit.within(part.stored)) from None
    vars(instance).setdefault(DEFAULTS, {})[part.stored] = stored
    return value


def mismatch(mapping: ClassMap, key: Any, misfit: Misfit) -> ValidationError:
    """The error for a stored value of the wrong type."""
    path = ".".join(misfit.path)
    return ValidationError(
        f"{mapping.name} {key!r}: the stored value of {path} does not fit: {misfit.describe()}",
        document_class=mapping.cls,
        key=key,
        field=path,
    )
