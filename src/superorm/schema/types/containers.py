"""Types made of types: unions, lists and dicts; and Any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import numpy as np
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from superorm.expr.literals import key_literal, literal
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.order import in_order
from superorm.schema.compare import same
from superorm.schema.types.base import BsonType, Misfit, Rejected
from superorm.schema.types.scalars import DatetimeType, IntType
from superorm.schema.types.walk import checked_keys, each, each_item

if TYPE_CHECKING:
    from superorm.schema.mapping import MappedField

__all__ = ["BSON_TYPES", "MAX_DEPTH", "AnyType", "DictType", "ListType", "TupleType", "UnionType", "stored_alike"]


_AS_IS = frozenset(
    {str, bool, float, bytes, UUID}
    | {Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, type(None)}
)
BSON_TYPES = (_AS_IS | {int, datetime, Binary, dict, list}) - {type(None)}
"""The types of decoded BSON values, but for null."""
_LIST: type[Any] = list
MAX_DEPTH = 100
"""So many levels MongoDB lets documents and arrays nest."""


class AnyType(BsonType):
    """Anything that BSON holds, kept as it is; containers are copied."""

    name = "Any"
    same_value = True
    reads = BSON_TYPES
    _int = IntType()
    _datetime = DatetimeType()

    def from_bson(self, value: Any) -> Any:
        if is_dict(value):
            return {key: self.from_bson(item) for key, item in value.items()}
        return [self.from_bson(item) for item in value] if is_list(value) else value

    def to_bson(self, value: Any) -> Any:
        return value if type(value) in _AS_IS else self._convert(value, MAX_DEPTH)

    def _convert(self, value: Any, levels: int) -> Any:
        if type(value) in _AS_IS:
            return value
        if type(value) is int:
            return self._int.to_bson(value)
        if is_dict(value) or is_list(value) or is_tuple(value):
            if not levels:
                raise Misfit(value, f"at most {MAX_DEPTH} levels of nesting")
            if is_dict(value):
                return each_item(lambda item: self._convert(item, levels - 1), checked_keys(value))
            return each(lambda item: self._convert(item, levels - 1), value)
        if isinstance(value, Binary):
            return value if value.subtype else bytes(value)
        if isinstance(value, datetime):
            return self._datetime.to_bson(value)
        if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
            return self.to_bson(value.item())
        raise Misfit(value, "a value that BSON holds")

    def unchanged(self, value: Any, raw: Any) -> bool:
        return same(raw, value) or super().unchanged(value, raw)


def stored_alike(members: Sequence[BsonType]) -> tuple[BsonType, BsonType] | None:
    """Two of the types that cannot be told apart once they are stored."""
    for number, member in enumerate(members):
        for other in members[:number]:
            if member.reads & other.reads and not (member.same_value and other.same_value):
                return other, member
    return None


class UnionType(BsonType):
    """One of some types; plain where all members are.

    What is stored is told apart by its BSON type, so no two members may read the same one.
    """

    def __init__(self, members: tuple[BsonType, ...]) -> None:
        self.members = members
        self.name = " | ".join(member.name for member in members)
        self.plain = all(member.plain for member in members)
        self.same_value = all(member.same_value for member in members)
        self.reads = frozenset[type]().union(*(member.reads for member in members))
        self.hashable = all(member.hashable for member in members)
        self._optional = type(None) in self.reads
        self._others = [member for member in members if not member.reads <= {type(None)}]
        self._others.sort(key=lambda member: float in member.reads)  # a float field takes ints too
        self._only = self._others[0] if len(self._others) == 1 else None

    def load_check(self, v: str) -> str:
        return "(" + " or ".join(member.load_check(v) for member in self.members) + ")"

    def dump_check(self, v: str) -> str:
        return "(" + " or ".join(member.dump_check(v) for member in self.members) + ")"

    def from_bson(self, value: Any) -> Any:
        if value is None and self._optional:
            return None
        if self._only is not None:
            return self._only.from_bson(value)
        kind = cast("type", type(value))
        return self._first("from_bson", value, sorted(self._others, key=lambda member: kind not in member.reads))

    def to_bson(self, value: Any) -> Any:
        if value is None and self._optional:
            return None
        return self._first("to_bson", value, self._others) if self._only is None else self._only.to_bson(value)

    def _first(self, way: str, value: Any, members: list[BsonType]) -> Any:
        deepest: Misfit | None = None
        for member in members:
            try:
                return getattr(member, way)(value)
            except Misfit as misfit:  # one deep inside, or of more than the type, says more than "expected A | B"
                says_more = misfit.path or misfit.error or misfit.expected != member.name
                if says_more and (deepest is None or len(misfit.path) > len(deepest.path)):
                    deepest = misfit
        raise deepest or Misfit(value, self.name)

    def unchanged(self, value: Any, raw: Any) -> bool:
        if value is None or raw is None:
            return value is raw
        if self._only is not None:
            return self._only.unchanged(value, raw)
        return any(member.unchanged(value, raw) for member in self._others)

    @property
    def without_none(self) -> BsonType:
        return self if self._only is None else self._only

    @property
    def is_list(self) -> bool:
        return any(member.is_list for member in self.members)

    @property
    def embedded(self) -> type | None:
        return next((member.embedded for member in self.members if member.embedded is not None), None)

    def holds(self, cls: object) -> bool:
        return any(member.holds(cls) for member in self.members)

    def beside(self, value: object) -> Any:
        if self._only is not None:
            return self._only.beside(value)
        try:
            return self.to_bson(value)
        except Misfit:
            return super().beside(value)

    def member(self, name: str) -> MappedField:
        first: AttributeError | None = None
        for member in sorted(self.members, key=lambda member: member.is_list):  # what stands alone can be assigned
            if member.embedded is not None:
                try:
                    return member.member(name)
                except AttributeError as error:
                    first = first or error
        if first is not None:
            raise first
        return super().member(name)


class ListType(BsonType):
    """A list, set, frozenset or tuple of any length, stored as an array; sets in one order."""

    reads = frozenset({list})

    def __init__(self, container: type, element: BsonType) -> None:
        self.container = container
        self.element = element
        self.name = f"{container.__name__}[{element.name}]"
        self.hashable = container in (tuple, frozenset) and element.hashable
        self.is_set = container in (set, frozenset)
        """Whether it is stored in the order of sets."""

    def from_bson(self, value: Any) -> Any:
        if not is_list(value):
            raise Misfit(value, self.name)
        items: list[Any] = []
        try:
            self.element.read_all(value, items)
        except Misfit as misfit:
            raise misfit.within(len(items)) from None
        if self.container is list:
            return items
        try:
            return self.container(items)
        except TypeError:  # a set of what cannot be hashed
            raise Misfit(value, self.name) from None
        except Exception as error:
            raise Rejected(value, error, f"__hash__ or __eq__ of {self.element.name}") from error

    def to_bson(self, value: Any) -> Any:
        if not isinstance(value, self.container):
            raise Misfit(value, self.name)
        stored = each(self.element.to_bson, cast("Iterable[Any]", value))
        return in_order(stored) if self.is_set else stored

    def unchanged(self, value: Any, raw: Any) -> bool:
        if type(raw) is not _LIST or not isinstance(value, self.container):
            return False
        if self.is_set:
            return super().unchanged(value, in_order(raw))
        values = cast("list[Any]", value)
        return len(values) == len(raw) and all(map(self.element.comparison, values, raw))

    @property
    def comparison(self) -> Callable[[Any, Any], bool]:
        return self.element.list_comparison(self.unchanged) if self.container is _LIST else self.unchanged

    @property
    def is_list(self) -> bool:
        return True

    @property
    def embedded(self) -> type | None:
        return self.element.embedded

    def holds(self, cls: object) -> bool:
        return self.element.holds(cls)

    def beside(self, value: object) -> Any:
        """Of a list, or of one of its elements."""
        if self.element.plain and isinstance(value, np.ndarray):
            return literal(cast("Any", value).tolist())
        if isinstance(value, (set, frozenset)) and (self.is_set or not self.element.is_list):
            return in_order(each(self.element.beside, cast("Iterable[Any]", value)))
        items = cast("Any", value)
        return each(self.element.beside, items) if is_list(items) or is_tuple(items) else self.element.beside(items)

    def member(self, name: str) -> MappedField:
        return self.element.member(name)


class TupleType(BsonType):
    """A tuple of fixed types, stored as an array."""

    reads = frozenset({list})

    def __init__(self, elements: tuple[BsonType, ...]) -> None:
        self.elements = elements
        self.name = f"tuple[{', '.join(element.name for element in elements)}]"
        self.hashable = all(element.hashable for element in elements)

    def from_bson(self, value: Any) -> Any:
        if not is_list(value):
            raise Misfit(value, self.name)
        return tuple(self._each("from_bson", value))

    def to_bson(self, value: Any) -> Any:
        if not is_tuple(value):
            raise Misfit(value, self.name)
        return self._each("to_bson", value)

    def beside(self, value: object) -> Any:
        if (is_tuple(value) or is_list(value)) and len(value) == len(self.elements):
            return [element.beside(item) for element, item in zip(self.elements, value, strict=True)]
        return super().beside(value)

    def unchanged(self, value: Any, raw: Any) -> bool:
        if not is_list(raw) or not is_tuple(value) or not len(self.elements) == len(value) == len(raw):
            return False
        return all(element.unchanged(*pair) for element, *pair in zip(self.elements, value, raw, strict=True))

    def _each(self, way: str, values: list[Any] | tuple[Any, ...]) -> list[Any]:
        if len(values) != len(self.elements):
            raise Misfit(values, self.name)
        result: list[Any] = []
        for position, (element, value) in enumerate(zip(self.elements, values, strict=True)):
            try:
                result.append(getattr(element, way)(value))
            except Misfit as misfit:
                raise misfit.within(position) from None
        return result

    @property
    def is_list(self) -> bool:
        return True


class DictType(BsonType):
    """A dict with string keys, none of which has a dot, a dollar sign or NUL in it."""

    reads = frozenset({dict})
    hashable = False

    def __init__(self, value: BsonType) -> None:
        self.value = value
        self.name = f"dict[str, {value.name}]"

    def from_bson(self, value: Any) -> Any:
        if not is_dict(value):
            raise Misfit(value, self.name)
        return each_item(self.value.from_bson, value)

    def to_bson(self, value: Any) -> Any:
        if not is_dict(value):
            raise Misfit(value, self.name)
        return each_item(self.value.to_bson, checked_keys(value))

    def beside(self, value: object) -> Any:
        if not is_dict(value):
            return super().beside(value)
        return {key_literal(key): self.value.beside(item) for key, item in value.items()}

    def unchanged(self, value: Any, raw: Any) -> bool:
        if not is_dict(raw) or not is_dict(value):
            return False
        return list(value) == list(raw) and all(map(self.value.unchanged, value.values(), raw.values()))
