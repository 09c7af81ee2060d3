"""What objects carry beside their fields, and fields that are read at first access."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

from superorm.exc import NotLoadedError, ValidationError
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.types.artifacts import Artifacts, ArtifactType
from superorm.schema.types.base import Misfit

__all__ = [
    "DEFAULTS",
    "GONE",
    "RAW",
    "SOURCE",
    "TOUCHED",
    "UNLOADED",
    "LazyPart",
    "delete_part",
    "has_getattr",
    "is_shown",
    "is_unloaded",
    "kept",
    "mismatch",
    "new_object",
    "not_loaded",
    "read_part",
]

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
UNLOADED = "_superorm_unloaded"
"""The attribute that keeps, of a partial document, the attributes that were not loaded; absent on whole ones."""


def has_getattr(cls: type) -> bool:
    """Whether `getattr` may find what is not there."""
    return any("__getattr__" in vars(base) for base in cls.__mro__)


def new_object(mapping: ClassMap) -> object:
    """An object of the class without any attributes."""
    return cast("object", object.__new__(mapping.cls))


class LazyPart:
    """A non-data descriptor: at first access it converts a copy of the stored value and leaves it in the object."""

    __slots__ = ("_attribute", "_bit", "_convert", "_owner", "_stored", "part")

    def __init__(self, part: MappedField) -> None:
        self.part = part
        self._attribute = part.attribute
        self._stored = part.stored
        self._bit = part.bit
        self._convert: Callable[[Any], Any] = self._convert_first
        self._owner: type | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def _convert_first(self, value: Any) -> Any:
        self._convert = self.part.type.from_bson  # now that all types are known
        return self._convert(value)

    def __get__(self, instance: Any, owner: type) -> Any:
        if owner is self._owner:  # neither a partial object nor one of a subclass
            try:
                touched = instance._superorm_touched
                if not touched & self._bit:
                    value = self._convert(instance._superorm_raw[self._stored])
                    setattr(instance, self._attribute, value)
                    instance._superorm_touched = touched | self._bit
                    return value
            except (AttributeError, KeyError, Misfit):
                pass
        return self._get_slowly(instance, owner)

    def _get_slowly(self, instance: object | None, owner: type) -> Any:
        part = self.part
        if instance is None:  # reached only through super(); the class's own side is the metaclass's
            return getattr(owner, part.attribute)
        mapping = class_map(owner)
        state = vars(instance)
        raw: dict[str, Any] | None = state.get(RAW) or state.get(GONE)
        touched: int = state.get(TOUCHED, 0)
        if raw is None or touched & part.bit or mapping.by_attribute[part.attribute] is not part:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {part.attribute!r}")
        if is_unloaded(part, state):
            raise not_loaded(mapping, part, raw)
        state[part.attribute] = value = read_part(mapping, part, instance, raw)
        state[TOUCHED] = touched | part.bit
        return value


def delete_part(part: MappedField, instance: object) -> None:
    """Delete a field where it is there; a lazy one is not read again, even if it was assigned without being read."""
    state = vars(instance)
    state.pop(part.attribute, None)
    if part.lazy and not is_unloaded(part, state):
        setattr(instance, TOUCHED, state.get(TOUCHED, 0) | part.bit)


def read_part(mapping: ClassMap, part: MappedField, instance: object, raw: dict[str, Any]) -> Any:
    """The value of a field in a stored document; a default is remembered, so that reading it is no change.

    Raises `ValidationError` naming document, field and value where the stored value does not fit;
    where the class keeps such values, a copy of it, and None for a key that is missing without a default.
    """
    try:
        if part.stored in raw:
            if isinstance(part.type, ArtifactType) and isinstance(raw[part.stored], dict):
                return Artifacts.read(mapping, part, instance, raw)
            return part.type.from_bson(raw[part.stored])
        value, stored = part.missing()
    except Misfit as misfit:
        if not part.keep:
            raise mismatch(mapping, raw.get("_id"), misfit.within(part.stored)) from misfit.error
        return kept(part, raw, vars(instance).setdefault(DEFAULTS, {}))
    vars(instance).setdefault(DEFAULTS, {})[part.stored] = stored
    return value


def kept(part: MappedField, raw: dict[str, Any], defaults: dict[str, Any]) -> Any:
    """What stands for a stored value of the wrong type: a copy of it; for a key that is missing None, as a default."""
    if part.stored in raw:
        return deepcopy(raw[part.stored])
    defaults[part.stored] = None
    return None


def mismatch(mapping: ClassMap, key: Any, misfit: Misfit) -> ValidationError:
    """The error for a stored value of the wrong type; where the document's key was not read, `key` is None."""
    path = ".".join(misfit.path)
    document = mapping.name if key is None else f"{mapping.name} {key!r}"
    return ValidationError(
        f"{document}: the stored value of {path} does not fit: {misfit.describe()}",
        document_class=mapping.cls,
        key=key,
        field=path,
    )


def is_unloaded(part: MappedField, state: dict[str, Any]) -> bool:
    """Whether a field of an object with these attributes was not loaded, nor stored since."""
    unloaded = state.get(UNLOADED)
    if unloaded is None or part.attribute not in unloaded:
        return False
    return part.stored not in (state.get(RAW) or state.get(GONE) or {})


def is_shown(part: MappedField, state: dict[str, Any]) -> bool:
    """Whether an object with these attributes can tell the field: it was loaded, stored or set."""
    return part.attribute in state or not is_unloaded(part, state)


def not_loaded(mapping: ClassMap, part: MappedField, raw: dict[str, Any]) -> NotLoadedError:
    """The error for an attribute of a partial document."""
    return NotLoadedError(
        f"{mapping.name} {raw.get('_id')!r}: {part.attribute} was not loaded, or has expired; "
        f"refresh() the object, give {part.where} to load_only(...), or select the whole document",
        document_class=mapping.cls,
        key=raw.get("_id"),
        field=part.attribute,
    )
