"""What may be in artifact fields, as far as their annotations tell it of any type."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

__all__ = ["annotated_types"]

_ALSO: dict[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}
"""What type checkers take for these types."""


def annotated_types(annotation: Any) -> tuple[type, ...] | None:
    """The classes that a value is to be an instance of; None where the annotation does not tell them all."""
    if annotation is None:
        return (NoneType,)
    origin = get_origin(annotation)
    if origin is Annotated:
        return annotated_types(get_args(annotation)[0])
    if origin in (Union, UnionType):
        found: list[type] = []
        for member in get_args(annotation):
            types = annotated_types(member)
            if types is None:
                return None
            found += types
        return tuple(found)
    kind = annotation if origin is None else origin
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False) or hasattr(kind, "__total__"):
        return None
    return kind, *_ALSO.get(kind, ())
