"""The types of Python values that stand in statements, as data."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from types import UnionType
from typing import Any, Union, get_args, get_origin
from uuid import UUID

import numpy as np
from attrs import Factory, field, frozen
from bson import ObjectId

__all__ = ["ANNOTATIONS", "ClassName", "ValueType", "annotation_of", "described"]

_PLAIN: dict[str, Any] = {
    kind.__name__: kind
    for kind in (str, int, float, bool, bytes, datetime, date, Decimal, UUID, ObjectId, type(None), np.ndarray)
}
_NAMES = {kind: name for name, kind in _PLAIN.items()}
_CONTAINERS: dict[str, Any] = {kind.__name__: kind for kind in (list, set, frozenset, tuple, dict)}
_UNION = "union"
_MAX_SIZE = 256
"""How many types one may be made of, which takes as long to read though it is small where it is stored."""
ANNOTATIONS: tuple[str, ...] = (*_PLAIN, *_CONTAINERS, _UNION, "class")
"""What a type may be by name: plain, a container, of one of some types, or a class."""


class ClassName(str):
    """The qualified name of a class, which may not be known where it is read."""

    __slots__ = ()


@frozen(eq=False)
class ValueType:
    """The type of a Python value: of a container with those of its items, of a union with its members."""

    name: str
    cls: Any = None
    """Of ``class``: its `ClassName`, or the class; None for one that is not known."""
    items: tuple[ValueType, ...] = ()
    size: int = field(init=False, default=Factory(lambda self: 1 + _sizes(self.items), takes_self=True))
    """Of how many types it is made, itself included."""


def _sizes(items: tuple[ValueType, ...]) -> int:
    return sum(one.size for one in items)


def described(annotation: Any) -> ValueType:
    """The type that an annotation names."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return ValueType(_UNION, None, tuple(map(described, arguments)))
    if origin in _CONTAINERS.values():
        items = arguments[1:] if origin is dict else arguments
        return ValueType(origin.__name__, None, tuple(map(described, items)))
    if annotation in _NAMES or annotation in _CONTAINERS.values():
        return ValueType(annotation.__name__)
    return ValueType("class", ClassName(f"{annotation.__module__}.{annotation.__qualname__}"))


def annotation_of(kind: ValueType) -> Any:
    """The annotation that names a type; None where a class of it is not known, and for a type that is too large."""
    if kind.size > _MAX_SIZE:
        return None
    if kind.name in _PLAIN:
        return _PLAIN[kind.name]
    if kind.name == "class":
        return kind.cls
    items = [annotation_of(item) for item in kind.items]
    if any(item is None for item in items):
        return None
    if kind.name == _UNION:
        return reduce(lambda one, other: one | other, items) if items else None
    container = _CONTAINERS[kind.name]
    if not items:
        return container
    return container[(str, items[0]) if container is dict else tuple(items)]
