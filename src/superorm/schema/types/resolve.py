"""Annotations to types."""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Callable, Hashable
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ForwardRef, Literal, NewType, TypeAlias, Union, get_args, get_origin
from uuid import UUID

import numpy as np
from bson import ObjectId

from superorm.exc import MappingError, UnsupportedError
from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import (
    AnyType,
    DictType,
    EmbeddedType,
    ListType,
    TupleType,
    UnionType,
)
from superorm.schema.types.scalars import (
    BoolType,
    BytesType,
    DatetimeType,
    DateType,
    DecimalType,
    EnumType,
    FloatType,
    IntType,
    LiteralType,
    NoneType,
    ObjectIdType,
    StrType,
    UuidType,
)

__all__ = ["resolve"]

_SCALARS: dict[Any, Callable[[], BsonType]] = {
    str: StrType,
    int: IntType,
    float: FloatType,
    bool: BoolType,
    bytes: BytesType,
    dt.datetime: DatetimeType,
    dt.date: DateType,
    Decimal: DecimalType,
    UUID: UuidType,
    ObjectId: ObjectIdType,
    None: NoneType,
    type(None): NoneType,
    Any: AnyType,
    np.ndarray: ArrayType,
    dict: lambda: DictType(AnyType()),
    list: lambda: ListType(list, AnyType()),
    set: lambda: ListType(set, AnyType()),
    frozenset: lambda: ListType(frozenset, AnyType()),
    tuple: lambda: ListType(tuple, AnyType()),
}


Lookup: TypeAlias = Callable[[str], Any]
"""The value of an annotation that is given as text. Raises `NameError` for what is not there yet."""


def resolve(annotation: Any, where: str, lookup: Lookup) -> BsonType:
    """The type of an annotation, the part inside ``Mapped[...]``.

    `where` names the field in errors: `MappingError` for what superorm does not know,
    `UnsupportedError` for unions whose members cannot be told apart.
    """
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        annotation = lookup(annotation)
    if isinstance(annotation, NewType):
        return resolve(annotation.__supertype__, where, lookup)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or not arguments:
        return _class(origin or annotation, where)
    if origin is Literal:
        return LiteralType(tuple((choice, _choice(choice, where)) for choice in arguments))
    if origin is np.ndarray:
        return ArrayType()
    if origin is Annotated:
        return resolve(arguments[0], where, lookup)
    if origin is dict:
        if arguments[0] is not str:
            raise MappingError(f"{where}: the keys of a dict must be str, not {arguments[0]!r}")
        return DictType(resolve(arguments[1], where, lookup))
    parts = tuple(resolve(argument, where, lookup) for argument in arguments if argument is not Ellipsis)
    if origin is Union or origin is types.UnionType:
        return _union(parts, where)
    if origin in (list, set, frozenset):
        return _list(origin, parts[0], where)
    if origin is tuple:
        return _list(tuple, parts[0], where) if Ellipsis in arguments else TupleType(parts)
    raise _unknown(annotation, where)


def _class(kind: Any, where: str) -> BsonType:
    if isinstance(kind, Hashable) and kind in _SCALARS:
        return _SCALARS[kind]()
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return _enum(kind, where)
        mapping = kind.__dict__.get("__superorm__")
        if mapping is not None and mapping.collection is None:
            return EmbeddedType(mapping)
    raise _unknown(kind, where)


def _unknown(annotation: Any, where: str) -> MappingError:
    known = ", ".join(sorted(key.__name__ for key in _SCALARS if isinstance(key, type)))
    return MappingError(
        f"{where}: no type {annotation!r} is known; use one of {known}, an Enum, a Literal, an Embedded class, "
        "or lists, sets, tuples, dicts and unions of these"
    )


def _choice(choice: Any, where: str) -> BsonType:
    """The type of one choice of a Literal."""
    return _enum(type(choice), where) if isinstance(choice, Enum) else _SCALARS[type(choice)]()


def _enum(enum: type[Enum], where: str) -> BsonType:
    for member in enum:
        kind = _SCALARS.get(type(member.value))
        if kind is None or not kind().plain:
            raise MappingError(
                f"{where}: the value of {member} cannot be stored as it is: {member.value!r}; "
                "give the Enum texts or numbers as values"
            )
    return EnumType(enum)


def _list(container: type, element: BsonType, where: str) -> BsonType:
    if container is not tuple and container is not list and not element.hashable:
        raise MappingError(f"{where}: a {container.__name__} cannot hold {element.name}, which has no hash; use a list")
    return ListType(container, element)


def _union(members: tuple[BsonType, ...], where: str) -> BsonType:
    for number, member in enumerate(members):
        for other in members[:number]:
            if member.reads & other.reads and not (member.same_value and other.same_value):
                raise UnsupportedError(
                    f"{where}: {other.name} | {member.name} cannot be told apart once they are stored; "
                    "declare one of them, or a field for each"
                )
    return UnionType(members)
