"""Parts of a field's value that statements name: elements of lists and values of dicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve, frozen

from superorm.exc import StatementError, ValidationError, VectorError
from superorm.expr.narrow import is_dict, is_list
from superorm.schema.types.arrays import VectorType
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.computed import unwound
from superorm.schema.types.containers import AnyType, DictType, ListType, TupleType, UnionType
from superorm.schema.types.fitting import forms_of
from superorm.schema.types.typed_dict import TypedDictType
from superorm.schema.types.walk import each, each_item

__all__ = [
    "Part",
    "compared",
    "compared_forms",
    "element_part",
    "is_vector",
    "item_part",
    "refused",
    "storable",
    "value_part",
]


@frozen(eq=False)
class Part:
    """An element of a list, or a value of a dict."""

    where: str
    """For messages: ``Movie.genres[0]``."""
    attribute: str
    stored: str | None
    step: tuple[str, Any]
    type: BsonType

    @property
    def is_list(self) -> bool:
        return self.type.is_list

    @property
    def may_be_list(self) -> bool:
        return list in self.type.reads

    @property
    def embedded(self) -> Any:
        return self.type.embedded

    def holds(self, cls: object) -> bool:
        return self.type.holds(cls)

    def beside(self, value: object) -> Any:
        return compared(self.type, self.where, value)

    def member(self, name: str) -> Any:
        return self.type.member(name)

    def element(self, position: int | None) -> Part:
        return element_part(self.where, self.type, position)

    def item(self) -> Part:
        return item_part(self.where, self.type)

    def value(self, key: str) -> Part:
        return value_part(self.where, self.type, key)

    def missing(self) -> tuple[Any, Any]:
        """What stands for a part that is not there: None."""
        return None, None

    def stored_value(self, value: object, where: str, holder: Any = None) -> Any:
        try:
            return storable(self.type.to_bson(value))
        except Misfit as misfit:
            raise refused(self.type, where, misfit, holder) from misfit.error


def storable(value: Any) -> Any:
    """The BSON value itself. Raises `Misfit` for text in it that is not Unicode."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(value, "text without lone surrogates") from None
    elif is_dict(value):
        for key in value:
            storable(key)
        each_item(storable, value)
    elif is_list(value):
        each(storable, value)
    return value


def is_vector(kind: BsonType, path: Sequence[str]) -> bool:
    """Whether a vector is what stands at a path, of attributes, in a value of the type."""
    for name in path:
        try:
            kind = kind.member(name).type
        except (AttributeError, StatementError):
            return False
    return any(isinstance(member, VectorType) for member in (kind.members if isinstance(kind, UnionType) else (kind,)))


def refused(kind: BsonType, where: str, misfit: Misfit, holder: Any) -> ValidationError | VectorError:
    """The error for a value in a statement that does not fit its field."""
    error = VectorError if is_vector(kind, misfit.path) else ValidationError
    path = ".".join([where, *misfit.path])
    return error(f"{path} cannot be stored: {misfit.describe()}", document_class=holder, field=path)


def compared(kind: BsonType, where: str, value: object) -> Any:
    """The BSON value of a value beside a field in a condition. Raises `StatementError`."""
    forms = compared_forms([kind], where)(value)
    if len(forms) > 1:
        raise StatementError(f"{where}: {value!r:.80} may be stored as {' or as '.join(map(repr, forms))}", field=where)
    return forms[0]


def compared_forms(kinds: Sequence[BsonType], where: str) -> Callable[[object], list[Any]]:
    """A function: the same for a field of one of some types, each of the values that these store for it."""
    forms_beside = forms_of(kinds)

    def forms(value: object) -> list[Any]:
        try:
            return forms_beside(value)
        except Misfit as misfit:
            path = ".".join([where, *misfit.path])
            raise StatementError(f"{path} cannot be compared: {misfit.describe()}", field=path) from misfit.error

    return forms


def element_part(where: str, kind: BsonType, position: int | None) -> Part:
    """The element of a list; without a position any of them. Raises `StatementError`."""
    found = _element(kind, position)
    if found is None:
        raise StatementError(f"{where} is no list that has such an element, but {kind.name}", field=where)
    if position is None:
        return Part(f"{where}.item()", "item()", None, ("element", None), found)
    if position < 0:
        raise StatementError(f"{where}[{position}]: positions count from 0; use func.array_elem_at() from the end")
    return Part(f"{where}[{position}]", f"[{position}]", str(position), ("element", position), found)


def item_part(where: str, kind: BsonType) -> Part:
    """What unwinding left in the list's place; a value that is no list it left there. Raises `StatementError`."""
    part = element_part(where, kind, None)
    left = unwound(kind) if isinstance(kind, UnionType) else None
    return part if left is None else evolve(part, type=left)


def value_part(where: str, kind: BsonType, key: str) -> Part:
    """The value of a dict under a key. Raises `StatementError`."""
    if not key or key[0] == "$" or {".", "\0"} & set(key):
        raise StatementError(f"{where}[{key!r}]: a key is not empty, has no dots and NUL, and does not begin with $")
    found = _value(kind, key)
    if found is None:
        raise StatementError(f"{where}[{key!r}]: {where} is no dict, but {kind.name}", field=where)
    return Part(f"{where}[{key!r}]", f"[{key!r}]", key, ("key", key), found)


def _element(kind: BsonType, position: int | None) -> BsonType | None:
    match kind:
        case ListType():
            return kind.element
        case TupleType():
            inside = position is not None and 0 <= position < len(kind.elements)
            return kind.elements[position] if inside and position is not None else AnyType()
        case AnyType():
            return kind
        case UnionType():
            return next((found for member in kind.members if (found := _element(member, position))), None)
        case _:
            return None


def _value(kind: BsonType, key: str) -> BsonType | None:
    match kind:
        case DictType():
            return kind.value
        case TypedDictType():
            if key not in kind.keys:
                raise StatementError(f"{kind.name} has no key {key!r}; it has {', '.join(kind.keys)}")
            return kind.keys[key].type
        case AnyType():
            return kind
        case UnionType():
            return next((found for member in kind.members if (found := _value(member, key))), None)
        case _:
            return None
