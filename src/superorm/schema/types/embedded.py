"""Types of embedded documents: of one class and its subclasses, or of one of several classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from superorm.exc import MappingError, StatementError
from superorm.schema.types.base import BsonType, Misfit, has_hash
from superorm.schema.types.containers import MAX_DEPTH

if TYPE_CHECKING:
    from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["EmbeddedType", "OneOfType"]

_DICT: type[Any] = dict


class EmbeddedType(BsonType):
    """An embedded document of a class, or of one of its subclasses, which are told apart by the discriminator."""

    reads = frozenset({dict})

    def __init__(self, mapping: ClassMap) -> None:
        self.mapping = mapping
        self.name = mapping.name
        self.hashable = has_hash(mapping.cls)

    def from_bson(self, value: Any) -> Any:
        if not isinstance(value, _DICT):
            raise Misfit(value, self.name)
        return (self.class_of(value) if self.mapping.family else self.mapping).load(value)

    def read_all(self, values: list[Any], found: list[Any]) -> None:
        if self.mapping.family:
            super().read_all(values, found)
        else:
            self.mapping.load_all(values, found)

    def to_bson(self, value: Any) -> Any:
        mapping = self.mapping
        if type(value) is not mapping.cls:
            found = mapping.family.get(type(value).__name__)
            if found is None or type(value) is not found.cls:
                raise Misfit(value, self.name)
            mapping = found
        try:
            return mapping.dump(value)
        except RecursionError:
            raise _too_deep(value) from None

    def unchanged(self, value: Any, raw: Any) -> bool:
        if not isinstance(raw, _DICT):
            return False
        mapping = self.mapping
        if mapping.family:
            try:
                mapping = self.class_of(raw)
            except Misfit:
                return False
        return type(value) is mapping.cls and mapping.unchanged(value, raw)

    @property
    def comparison(self) -> Callable[[Any, Any], bool]:
        functions = self.mapping.functions
        if "unchanged" not in functions:
            functions["unchanged"] = self.mapping.comparison(self.unchanged)
        found: Callable[[Any, Any], bool] = functions["unchanged"]
        return found

    def list_comparison(self, otherwise: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
        functions = self.mapping.functions
        if "list unchanged" not in functions:
            functions["list unchanged"] = self.mapping.list_comparison(otherwise)
        found: Callable[[Any, Any], bool] = functions["list unchanged"]
        return found

    def class_of(self, stored: dict[str, Any]) -> ClassMap:
        """The class of a stored document. Raises `Misfit`."""
        key = self.mapping.discriminator
        if key not in stored:
            return self.mapping
        found = self.mapping.family.get(stored[key]) if isinstance(stored[key], str) else None
        if found is None:
            raise _unknown(stored[key], key, self.mapping.family)
        return found

    @property
    def discriminator(self) -> str:
        return self.mapping.discriminator

    @property
    def classes(self) -> Iterable[ClassMap]:
        return self.mapping.family.values() or (self.mapping,)

    @property
    def embedded(self) -> type | None:
        return self.mapping.cls

    def holds(self, cls: object) -> bool:
        return _holds([self.mapping, *self.mapping.family.values()], cls)

    def member(self, name: str) -> MappedField:
        return _member(self.name, [self.mapping, *self.mapping.family.values()], name)


class OneOfType(BsonType):
    """An embedded document of one of several classes, always stored with the discriminator."""

    reads = frozenset({dict})

    def __init__(self, mappings: tuple[ClassMap, ...], where: str) -> None:
        """Raises `MappingError` for classes that cannot be told apart; `where` names the field."""
        self.mappings = mappings
        self.name = " | ".join(mapping.name for mapping in mappings)
        self.hashable = all(has_hash(mapping.cls) for mapping in mappings)
        self._key = mappings[0].discriminator
        self._classes = {mapping.name: mapping for mapping in mappings}
        if len(self._classes) < len(mappings):
            raise MappingError(f"{where}: two classes of {self.name} have the same name, by which they are told apart")
        for mapping in mappings:
            if mapping.discriminator != self._key:
                raise MappingError(
                    f"{where}: {mappings[0].name} and {mapping.name} have different keys in __discriminator__, "
                    f"{self._key!r} and {mapping.discriminator!r}; give them the same"
                )
            mapping.check_discriminator(where)

    def from_bson(self, value: Any) -> Any:
        if not isinstance(value, _DICT):
            raise Misfit(value, self.name)
        return self.class_of(value).load(value)

    def to_bson(self, value: Any) -> Any:
        mapping = self._named(type(value).__name__)
        if mapping is None or type(value) is not mapping.cls:
            raise Misfit(value, self.name)
        try:
            return _tagged(mapping, mapping.dump(value))
        except RecursionError:
            raise _too_deep(value) from None

    def unchanged(self, value: Any, raw: Any) -> bool:
        if not isinstance(raw, _DICT):
            return False
        mapping = self._named(raw.get(self._key))
        return mapping is not None and type(value) is mapping.cls and mapping.unchanged(value, raw)

    def _named(self, name: Any) -> ClassMap | None:
        """The class of that name, or the subclass of one."""
        if not isinstance(name, str):
            return None
        families = (mapping.family.get(name) for mapping in self.mappings)
        return self._classes.get(name) or next(filter(None, families), None)

    def class_of(self, stored: dict[str, Any]) -> ClassMap:
        """The class of a stored document. Raises `Misfit`."""
        if self._key not in stored:
            raise Misfit(stored, f"{self.name}, which the key {self._key!r} has to tell")
        found = self._named(stored[self._key])
        if found is None:
            raise _unknown(stored[self._key], self._key, self._known())
        return found

    @property
    def discriminator(self) -> str:
        return self._key

    @property
    def classes(self) -> Iterable[ClassMap]:
        return self._known().values()

    def _known(self) -> dict[str, ClassMap]:
        """The classes and their subclasses."""
        known = dict(self._classes)
        for mapping in self.mappings:
            known |= mapping.family
        return known

    @property
    def embedded(self) -> type | None:
        """The nearest class that all derive from."""
        bases: tuple[type, ...] = self.mappings[0].cls.__mro__
        return next(base for base in bases if all(issubclass(mapping.cls, base) for mapping in self.mappings))

    def holds(self, cls: object) -> bool:
        return _holds(self._known().values(), cls)

    def beside(self, value: object) -> Any:
        mapping = self._named(type(value).__name__)
        stored = super().beside(value)
        return _tagged(mapping, stored) if mapping is not None and type(value) is mapping.cls else stored

    def member(self, name: str) -> MappedField:
        return _member(self.name, self._known().values(), name)


def _unknown(name: Any, key: str, known: dict[str, ClassMap]) -> Misfit:
    return Misfit(name, f"the name of a class, {' or '.join(known)}").within(key)


def _tagged(mapping: ClassMap, document: dict[str, Any]) -> dict[str, Any]:
    """The document with the discriminator, where it stood or else first."""
    if mapping.discriminator not in document:
        return {mapping.discriminator: mapping.name, **document}
    document[mapping.discriminator] = mapping.name
    return document


def _holds(mappings: Iterable[ClassMap], cls: object) -> bool:
    return isinstance(cls, type) and any(issubclass(mapping.cls, cls) for mapping in mappings)


def _too_deep(value: Any) -> Misfit:
    return Misfit(value, f"at most {MAX_DEPTH} levels of nesting")


def _member(where: str, mappings: Iterable[ClassMap], name: str) -> MappedField:
    """The field that the first class with such an attribute has.

    Raises `AttributeError`, and `StatementError` where other classes store theirs under another key.
    """
    found: MappedField | None = None
    known: dict[str, None] = {}
    for mapping in mappings:
        known |= dict.fromkeys(mapping.by_attribute)
        part = mapping.by_attribute.get(name)
        if part is None:
            continue
        if found is not None and found.stored != part.stored:
            raise StatementError(
                f"{found.where} is stored under {found.stored!r} and {part.where} under {part.stored!r}; "
                f"write [{found.where}] or [{part.where}] instead of .{name}"
            )
        found = found or part
    if found is None:
        raise AttributeError(f"{where} has no field {name!r}; it has {', '.join(known)}")
    return found
