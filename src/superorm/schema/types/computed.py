"""The types of what is computed from fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from decimal import Decimal
from typing import Any

from bson import Decimal128, Int64

from superorm.expr.narrow import is_list
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import AnyType, DictType, ListType, TupleType, UnionType, stored_alike
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.registered import RegisteredType
from superorm.schema.types.scalars import DecimalType, EnumType, FloatType, IntType, LiteralType, NoneType
from superorm.schema.types.typed_dict import TypedDictType

__all__ = [
    "KeptType",
    "NumberType",
    "SpreadType",
    "UntoldType",
    "WrapperType",
    "bare",
    "item_of",
    "list_of",
    "one_of",
    "same_kind",
    "untold",
    "unwound",
    "widest",
]


class NumberType(BsonType):
    """A computed number: one of another kind than expected, as the server gives beyond 64 bits, is read as it is."""

    plain = True

    def __init__(self, python: type[int | float | Decimal]) -> None:
        self.python = python
        self.name = python.__name__
        self.reads = frozenset({Decimal128} if python is Decimal else {int, Int64, float})

    def from_bson(self, value: Any) -> Any:
        kind = _class(value)
        if kind is Decimal128:
            return value.to_decimal()
        if kind is Int64 or (kind is int and self.python is not int):
            return self.python(value)
        whole = self.python is int and kind is float and value.is_integer() and -(2.0**63) <= value < 2.0**63
        return int(value) if whole else value

    def to_bson(self, value: Any) -> Any:
        return _STORED[self.python].to_bson(value)


_STORED: dict[type, BsonType] = {int: IntType(), float: FloatType(), Decimal: DecimalType()}


def _class(value: object) -> type:
    return type(value)


class WrapperType(BsonType):
    """Values of another type, which may be read otherwise."""

    def __init__(self, inner: BsonType) -> None:
        self.inner = inner
        self.name = inner.name

    def to_bson(self, value: Any) -> Any:
        return self.inner.to_bson(value)

    def beside(self, value: object) -> Any:
        return self.inner.beside(value)

    @property
    def is_list(self) -> bool:
        return self.inner.is_list

    @property
    def embedded(self) -> type | None:
        return self.inner.embedded

    def holds(self, cls: object) -> bool:
        return self.inner.holds(cls)

    def member(self, name: str) -> Any:
        return self.inner.member(name)


class KeptType(WrapperType):
    """A type of which wrong values are read as they are."""

    reads = AnyType.reads

    def from_bson(self, value: Any) -> Any:
        try:
            return self.inner.from_bson(value)
        except Misfit:
            return deepcopy(value)


class SpreadType(WrapperType):
    """Values whose path leads through a list, so that there may be a list of such."""

    def __init__(self, inner: BsonType) -> None:
        super().__init__(inner)
        self.reads = inner.reads | {list}

    def from_bson(self, value: Any) -> Any:
        try:
            return self.inner.from_bson(value)
        except Misfit:
            if not is_list(value):
                raise
            return [None if item is None else self.from_bson(item) for item in value]


class UntoldType(UnionType):
    """Some types that are stored alike, so that a value does not tell of which it is: it cannot be read."""

    def __init__(self, members: tuple[BsonType, ...], names: tuple[str, ...]) -> None:
        super().__init__(members)
        self.names = names
        """What has values of each of the types, for messages."""


def untold(kind: BsonType | None) -> UntoldType | None:
    """The type inside a type of which values cannot be read."""
    match kind:
        case UntoldType():
            return kind
        case WrapperType(inner=inner) | ListType(element=inner):
            return untold(inner)
        case UnionType(members=members):
            return next(filter(None, map(untold, members)), None)
        case _:
            return None


def one_of(kinds: Sequence[BsonType], names: Sequence[str]) -> BsonType:
    """The type of values that are each of one of the types; `names` are what has values of these.

    Where the types are stored alike, and so cannot be told apart, it is an `UntoldType`.
    """
    if len(kinds) == 1:
        return kinds[0]
    if len({_identity(bare(kind)) for kind in kinds}) == 1:
        return max(kinds, key=lambda kind: (isinstance(kind, WrapperType), type(None) in kind.reads))
    for wrapper in KeptType, SpreadType:
        if any(isinstance(kind, wrapper) for kind in kinds):
            return wrapper(one_of([kind.inner if isinstance(kind, wrapper) else kind for kind in kinds], names))
    free = next((kind for kind in kinds if isinstance(kind, AnyType)), None)
    if free is not None:
        return free
    found: list[BsonType] = []
    for kind in kinds:
        for member in kind.members if isinstance(kind, UnionType) else (kind,):
            found = _with_member(found, member, names)
    if stored_alike(found) is not None and (numbers := [kind for kind in found if _rank(kind) is not None]):
        number = widest(numbers)
        assert number is not None
        found = [number, *[kind for kind in found if kind not in numbers]]
    if len(found) == 1:
        return found[0]
    return UnionType(tuple(found)) if stored_alike(found) is None else UntoldType(tuple(found), (*names,))


def _with_member(kinds: list[BsonType], kind: BsonType, names: Sequence[str]) -> list[BsonType]:
    """The types with one more, or with one of them that holds both."""
    for position, other in enumerate(kinds):
        both = None
        if _identity(other) == _identity(kind) or _is_below(kind, other):
            both = other
        elif _is_below(other, kind):
            both = kind
        elif isinstance(kind, ListType) and isinstance(other, ListType) and kind.container is other.container:
            both = ListType(kind.container, one_of((other.element, kind.element), names))
        if both is not None:
            return [*kinds[:position], both, *kinds[position + 1 :]]
    return [*kinds, kind]


def _is_below(kind: BsonType, other: BsonType) -> bool:
    """Whether it is of a class that derives from another's, which its documents tell."""
    if not (isinstance(kind, EmbeddedType) and isinstance(other, EmbeddedType)):
        return False
    return other.mapping.family.get(kind.mapping.name) is kind.mapping


def bare(kind: BsonType) -> BsonType:
    """The type without None."""
    members = kind.members if isinstance(kind, UnionType) else ()
    others = [member for member in members if not isinstance(member, NoneType)]
    return others[0] if len(others) == 1 else kind


def list_of(kind: BsonType) -> BsonType:
    """Lists of values of the type, and of null."""
    takes_null = type(None) in kind.reads or isinstance(kind, (AnyType, KeptType))
    return ListType(list, kind if takes_null else UnionType((kind, NoneType())))


def item_of(kind: BsonType) -> BsonType | None:
    """The type of the items of a list; None where that is not known."""
    match bare(kind):
        case ListType(element=element):
            return bare(element)
        case TupleType(elements=elements):
            return same_kind(elements)
        case KeptType(inner=inner):
            item = item_of(inner)
            return None if item is None else KeptType(item)
        case SpreadType(inner=inner):
            return None if inner.is_list else inner  # of lists in lists it is not known how deep it goes
        case UnionType(members=members):
            return next((item_of(member) for member in members if member.is_list), None)
        case AnyType() as other:
            return other
        case _:
            return None


def unwound(kind: BsonType) -> BsonType | None:
    """The type of what unwinding leaves: items of lists, and values that are none; None where that is not known."""
    match kind:
        case KeptType(inner=inner):
            left = unwound(inner)
            return None if left is None else KeptType(left)
        case UnionType(members=members) if kind.is_list:
            item = item_of(kind)
            alone = [one for one in members if not (one.is_list or isinstance(one, NoneType))]
            if item is None or not alone:
                return item
            names = f"an element ({item.name})", *[f"a value that is no list ({one.name})" for one in alone]
            return one_of((item, *alone), names)
        case _:
            return item_of(kind) if kind.is_list or isinstance(kind, (AnyType, SpreadType)) else kind


def same_kind(kinds: Iterable[BsonType | None]) -> BsonType | None:
    """The type that all of them are, null aside; of numbers the widest; None for others."""
    found = [None if kind is None else bare(kind) for kind in kinds]
    known = [kind for kind in found if kind is not None]
    if not known or len(known) < len(found):
        return None
    unclear = next(filter(None, map(untold, known)), None)
    if unclear is not None:
        return unclear
    first, *others = known
    if all(other is first or _identity(other) == _identity(first) for other in others):
        return next((kind for kind in known if isinstance(kind, WrapperType)), first)
    return widest(found)


def _identity(kind: BsonType, seen: tuple[BsonType, ...] = ()) -> Any:
    """What is equal of types that read alike: the classes of their values. TypedDicts in `seen` hold themselves."""
    match kind:
        case WrapperType(inner=inner):
            return _identity(inner, seen)
        case EnumType(enum=cls) | RegisteredType(cls=cls) | EmbeddedType(mapping=cls):
            return cls
        case OneOfType(mappings=classes):
            return frozenset(classes)
        case ListType(container=container, element=element):
            return container, _identity(element, seen)
        case DictType(value=value):
            return dict, _identity(value, seen)
        case TupleType(elements=kinds) | UnionType(members=kinds):
            return type(kind), *[_identity(one, seen) for one in kinds]
        case LiteralType(choices=choices):
            return LiteralType, *[(type(choice), choice) for choice, _ in choices]
        case TypedDictType(name=name, keys=keys) if kind not in seen:
            return name, *[(key, one.required, _identity(one.type, (*seen, kind))) for key, one in keys.items()]
        case _:
            return type(kind), kind.name


_RANKS: dict[type, type[int | float | Decimal]] = {IntType: int, FloatType: float, DecimalType: Decimal}


def _rank(kind: BsonType) -> type[int | float | Decimal] | None:
    """The class of a type's numbers; None where it has others than numbers."""
    return kind.python if isinstance(kind, NumberType) else _RANKS.get(type(kind))


def widest(kinds: Iterable[BsonType | None], least: type[int | float] = int) -> BsonType | None:
    """The type of a number that is computed from numbers of these types; None where some may be anything else."""
    python: type[int | float | Decimal] = least
    for kind in kinds:
        found = None if kind is None else _rank(bare(kind))
        if found is None:
            return None
        if found is Decimal or python is int:
            python = found
    return NumberType(python)
