"""Annotations to types."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence, Set
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NewType,
    NotRequired,
    Protocol,
    Required,
    Union,
    cast,
    get_args,
    get_origin,
    is_typeddict,
)

import numpy as np
from attrs import Factory, define
from typing_extensions import ReadOnly
from typing_extensions import is_typeddict as is_typeddict_too

from superorm.exc import MappingError, UnsupportedError
from superorm.schema.parts import storable
from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType, stored_alike
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.known import KNOWN
from superorm.schema.types.registered import Unregistered, registered_type
from superorm.schema.types.scalars import EnumType, LiteralType
from superorm.schema.types.typed_dict import Key, TypedDictType

if TYPE_CHECKING:
    from superorm.schema.mapping import ClassMap

__all__ = ["Lookup", "resolve"]

_ABSTRACT: dict[Any, type] = {
    Mapping: dict,
    MutableMapping: dict,
    Sequence: list,
    MutableSequence: list,
    Set: set,
    MutableSet: set,
}
"""What fields of abstract containers hold."""
_COUNTS: dict[Any, int | None] = {list: 1, set: 1, frozenset: 1, dict: 2, tuple: None}
"""Of how many types containers are."""
_OWN = ("superorm.expr.", "superorm.schema.")
"""The modules with classes that cannot be registered: `Mapped`, `Document` and the like."""


class Lookup(Protocol):
    """Where the names in annotations are looked up."""

    def __call__(self, text: str) -> Any:
        """The value of an annotation that is given as text. Raises `NameError` for what is not there yet."""
        ...

    def inside(self, other: Any) -> Lookup:
        """The same for the annotations of another class, or for an alias."""
        ...


def resolve(annotation: Any, where: str, lookup: Lookup) -> BsonType:
    """The type of an annotation, the part inside ``Mapped[...]``.

    `where` names the field in errors: `MappingError` for what superorm does not know,
    `UnsupportedError` for unions whose members cannot be told apart.
    Raises `Unregistered` for a class that may be registered later, `NameError` for a name that is not there yet.
    """
    return _Resolver(where, lookup).type_of(annotation)


@define
class _Resolver:
    where: str
    lookup: Lookup
    aliases: tuple[Any, ...] = ()
    """The type aliases around."""
    typed_dicts: dict[Any, TypedDictType] = Factory(dict[Any, TypedDictType])
    """Those met so far: they may hold themselves."""

    def type_of(self, annotation: Any) -> BsonType:
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            annotation = self.lookup(annotation)
        if isinstance(annotation, NewType):
            return self.type_of(annotation.__supertype__)
        if type(annotation).__name__ == "TypeAliasType":  # of typing, or of typing_extensions
            return self._alias(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        origin = _ABSTRACT.get(origin, origin) if isinstance(origin, Hashable) else origin
        if isinstance(annotation, types.GenericAlias) and origin in _COUNTS:
            self._check_count(annotation, arguments, _COUNTS[origin])
        if origin is None or not arguments:
            return self._class(origin or annotation)
        if origin is Literal:
            return LiteralType(tuple((choice, self._choice(choice)) for choice in arguments))
        if origin is np.ndarray:
            return ArrayType()
        if origin is Annotated:
            return self.type_of(arguments[0])
        if origin is dict:
            if arguments[0] is not str:
                raise MappingError(f"{self.where}: the keys of a dict must be str, not {arguments[0]!r}")
            return DictType(self.type_of(arguments[1]))
        if registered_type(origin) is not None or is_typeddict(origin) or is_typeddict_too(origin):
            return self._class(origin)
        parts = [self.type_of(argument) for argument in arguments if argument is not Ellipsis]
        if origin is Union or origin is types.UnionType:
            return self._union(parts)
        if origin in (list, set, frozenset):
            return self._list(origin, parts[0])
        if origin is tuple:
            return self._list(tuple, parts[0]) if Ellipsis in arguments else TupleType(tuple(parts))
        return self._class(origin)

    def _check_count(self, annotation: Any, arguments: tuple[Any, ...], count: int | None) -> None:
        """Refuse what Python lets pass, such as ``list[int, str]``; a tuple, of any `count`, is not empty."""
        any_length = count is None and len(arguments) == 2 and arguments[1] is Ellipsis
        if (
            not arguments
            or len(arguments) != (count or len(arguments))
            or Ellipsis in arguments[: -1 if any_length else None]
        ):
            raise MappingError(
                f"{self.where}: {annotation!r} is no type of a field; "
                "write list[int], dict[str, int], tuple[int, str] or, for any length, tuple[int, ...]"
            )

    def _alias(self, alias: Any) -> BsonType:
        if alias in self.aliases:
            raise MappingError(f"{self.where}: the type {alias} holds itself; write Any in its place")
        outer = self.aliases, self.lookup
        self.aliases, self.lookup = (*self.aliases, alias), self.lookup.inside(alias)
        try:
            return self.type_of(alias.__value__)
        finally:
            self.aliases, self.lookup = outer

    def _class(self, kind: Any) -> BsonType:
        if isinstance(kind, Hashable) and kind in KNOWN:
            return KNOWN[kind]()
        registered = registered_type(kind)
        if registered is not None:
            return registered
        if is_typeddict(kind) or is_typeddict_too(kind):
            return self._typed_dict(kind)
        if not isinstance(kind, type) or kind is object:
            raise MappingError(f"{self.where}: no type {kind!r} is known; {_advice()}")
        if issubclass(kind, Enum):
            return self._enum(kind)
        mapping = kind.__dict__.get("__superorm__")
        if mapping is not None and mapping.collection is None:
            return EmbeddedType(mapping)
        if "__superorm_declared__" in kind.__dict__:
            raise MappingError(
                f"{self.where}: {kind.__name__} is abstract (__abstract__ = True), so that no field can hold it; "
                "name the classes that derive from it, or leave out __abstract__"
            )
        if mapping is not None:
            raise MappingError(
                f"{self.where}: no type {kind!r} is known: a Document has a collection of its own; "
                "derive it from Embedded, or hold its key"
            )
        if kind.__module__.startswith(_OWN):
            raise MappingError(f"{self.where}: a field cannot hold {kind.__name__} of superorm; {_advice()}")
        raise Unregistered(
            f"{self.where}: no type {kind!r} is known; "
            f"call superorm.register_type({kind.__name__}, to_bson, from_bson) before its first use, or {_advice()}"
        )

    def _typed_dict(self, cls: Any) -> BsonType:
        known = self.typed_dicts.get(cls)
        if known is not None:
            return known
        keys: dict[str, Key] = {}
        self.typed_dicts[cls] = kind = TypedDictType(cls.__name__, keys)
        outer, self.lookup = self.lookup, self.lookup.inside(cls)
        own = self.lookup
        try:
            for name, annotation in cls.__annotations__.items():
                if {".", "$", "\0"} & set(name):
                    raise MappingError(f"{self.where}: {cls.__name__} has a key that no document can have, {name!r}")
                module = getattr(annotation, "__forward_module__", None)
                if module not in (None, cls.__module__):  # inherited
                    self.lookup = self.lookup.inside(types.SimpleNamespace(__module__=module, __name__=""))
                keys[name] = self._key(annotation, name in cls.__required_keys__)
                self.lookup = own
        finally:
            self.lookup = outer
        return kind

    def _key(self, annotation: Any, required: bool) -> Key:
        if isinstance(annotation, ForwardRef):
            annotation = self.lookup(annotation.__forward_arg__)
        while get_origin(annotation) in (Required, NotRequired, ReadOnly):
            if get_origin(annotation) is not ReadOnly:
                required = get_origin(annotation) is Required
            (annotation,) = get_args(annotation)
        return Key(self.type_of(annotation), required)

    def _choice(self, choice: Any) -> BsonType:
        """The type of one choice of a Literal."""
        if isinstance(choice, Enum):
            return self._enum(type(choice))
        if not _is_kept(choice):
            raise MappingError(f"{self.where}: {choice!r} cannot be stored as it is, and so not stand in a Literal")
        return KNOWN[type(choice)]()

    def _enum(self, enum: type[Enum]) -> BsonType:
        for member in enum:
            if not _is_kept(cast("object", member.value)):
                raise MappingError(
                    f"{self.where}: the value of {member} cannot be stored as it is: {member.value!r}; "
                    "give the Enum texts or numbers as values, which are read again as they were"
                )
        return EnumType(enum)

    def _list(self, container: type, element: BsonType) -> BsonType:
        if container is not tuple and container is not list and not element.hashable:
            raise MappingError(
                f"{self.where}: a {container.__name__} cannot hold {element.name}, which has no hash; use a list"
            )
        return ListType(container, element)

    def _union(self, members: list[BsonType]) -> BsonType:
        flat: list[BsonType] = []
        classes: dict[ClassMap, None] = {}
        for member in members:
            flat += member.members if isinstance(member, UnionType) else (member,)
        for member in flat:
            if isinstance(member, EmbeddedType):
                classes[member.mapping] = None
            elif isinstance(member, OneOfType):
                classes |= dict.fromkeys(member.mappings)
        if len(classes) > 1:
            others = [member for member in flat if not isinstance(member, (EmbeddedType, OneOfType))]
            flat = [OneOfType(tuple(classes), self.where), *others]
        if len(flat) == 1:
            return flat[0]
        alike = stored_alike(flat)
        if alike is not None:
            raise UnsupportedError(
                f"{self.where}: {alike[0].name} | {alike[1].name} cannot be told apart once they are stored; "
                "declare one of them, or a field for each"
            )
        return UnionType(tuple(flat))


def _is_kept(value: object) -> bool:
    """Whether a value is plain, and read from the database as it is."""
    kind = KNOWN[type(value)]() if type(value) in KNOWN else None
    try:
        return kind is not None and kind.plain and bool(kind.from_bson(storable(kind.to_bson(value))) == value)
    except Misfit:
        return False


def _advice() -> str:
    known = ", ".join(sorted(key.__name__ for key in KNOWN if isinstance(key, type)))
    return (
        f"use one of {known}, an Enum, a Literal, a TypedDict, an Embedded class, "
        "or lists, sets, tuples, dicts and unions of these"
    )
