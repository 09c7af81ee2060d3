"""Types that users register, each with functions to BSON and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from bson import Int64

from superorm.exc import MappingError, StatementError
from superorm.expr.literals import register_literal
from superorm.schema.types.base import BsonType, Misfit, Rejected, has_hash
from superorm.schema.types.containers import BSON_TYPES, AnyType
from superorm.schema.types.known import KNOWN

__all__ = ["RegisteredType", "Unregistered", "register_type", "registered_type"]

T = TypeVar("T")

_types: dict[type, RegisteredType] = {}


class Unregistered(Exception):
    """A class that is no type of fields yet, but that may still be registered; the text says where and how."""


class RegisteredType(BsonType):
    """A class that BSON does not know. One object for each, so that registering it again changes it everywhere."""

    _any = AnyType()

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.name = cls.__name__
        self.hashable = has_hash(cls)
        self.encode: Callable[[Any], Any]
        self.decode: Callable[[Any], Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Registered again where it is loaded, unless its class is registered there."""
        return _restored, (self.cls, self.encode, self.decode, self.reads)

    def from_bson(self, value: Any) -> Any:
        if type(value) not in self.reads:
            raise Misfit(value, self.name)
        found = self._call(self.decode, "from_bson", self._any.from_bson(value))
        if not isinstance(found, self.cls):
            raise Misfit(found, f"{self.name} from the function from_bson of this registered type")
        return found

    def to_bson(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Misfit(value, self.name)
        encoded = self._call(self.encode, "to_bson", value)
        try:
            stored = self._any.to_bson(encoded)
        except Misfit as misfit:
            misfit.expected = f"{misfit.expected} from the function to_bson of {self.name}"
            raise
        if type(stored) not in self.reads:
            kinds = "a value other than None" if self.reads == BSON_TYPES else " or ".join(_names(self.reads))
            raise Misfit(encoded, f"{kinds} from the function to_bson of {self.name}")
        if type(value) is not self.cls and type(self.from_bson(stored)) is not type(value):
            raise Misfit(value, f"{self.name} itself, as which it would be read")
        return stored

    def _call(self, function: Callable[[Any], Any], name: str, value: Any) -> Any:
        try:
            return function(value)
        except Exception as error:
            raise Rejected(value, error, f"{name} of {self.name}") from error


def register_type(
    cls: type[T],
    to_bson: Callable[[T], Any],
    from_bson: Callable[[Any], T],
    *,
    bson_type: type | tuple[type, ...] | None = None,
) -> None:
    """Let fields hold instances of `cls`, as ``Mapped[cls]`` and inside lists, dicts and unions.

    `to_bson` gives a value that BSON holds and that is not None; `from_bson` gets it as it is read, and gives an
    object equal to the first. What they raise becomes a `ValidationError` that names document, field and value.
    An instance of a subclass is taken only if it is read as one of that subclass.
    `bson_type` says which type or types `to_bson` gives, such as ``str`` or ``(int, dict)``:
    needed where the class stands in a union with other types than None.

    A class may be registered after documents were declared with it, and again, which replaces its functions.
    Raises `MappingError` for a class that fields hold anyway, and for settings that cannot be.
    """
    where = f"register_type({getattr(cls, '__name__', cls)})"
    if not _is_new(cls):
        raise MappingError(f"{where}: give a class of your own, which fields do not hold anyway")
    functions: tuple[object, ...] = to_bson, from_bson
    if not all(map(callable, functions)):
        raise MappingError(f"{where}: to_bson and from_bson must be functions")
    kinds: tuple[object, ...] = bson_type if isinstance(bson_type, tuple) else (bson_type,)
    unknown = [kind for kind in kinds if not isinstance(kind, type) or kind not in BSON_TYPES]
    if bson_type is not None and (unknown or not kinds):
        raise MappingError(f"{where}: bson_type={(*unknown, ())[0]!r} is none of {', '.join(_names(BSON_TYPES))}")
    kind = _types.get(cls)
    if kind is None:
        kind = _types[cls] = RegisteredType(cls)
    reads = BSON_TYPES if bson_type is None else frozenset(cast("tuple[type, ...]", kinds))
    kind.encode, kind.decode = to_bson, from_bson
    kind.reads = reads | {Int64} if int in reads else reads
    register_literal(cls, partial(_literal, kind))


def _restored(cls: type, encode: Any, decode: Any, reads: frozenset[type]) -> RegisteredType:
    if cls not in _types:
        register_type(cls, encode, decode)
        _types[cls].reads = reads
    return _types[cls]


def _is_new(cls: object) -> bool:
    """Whether it is a class, and not one that fields hold anyway."""
    if not isinstance(cls, type) or cls is object or hasattr(cls, "__superorm__"):
        return False
    return cls not in KNOWN and cls not in BSON_TYPES


def registered_type(cls: object) -> RegisteredType | None:
    """The type of a registered class."""
    return _types.get(cls) if isinstance(cls, type) else None


def _literal(kind: RegisteredType, value: object) -> Any:
    try:
        return kind.to_bson(value)
    except Misfit as misfit:
        raise StatementError(f"a {kind.name} cannot stand in a statement: {misfit.describe()}") from misfit.error


def _names(kinds: frozenset[type]) -> list[str]:
    return sorted(kind.__name__ for kind in kinds)
