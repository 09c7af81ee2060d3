"""What stands in a class body, and around it, beside fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import FrameType
from typing import Any

from superorm.exc import MappingError

__all__ = ["around", "check_body", "check_undecorated", "is_method", "is_unpickling"]

_SETTINGS = (
    "__abstract__",
    "__collection__",
    "__discriminator__",
    "__extra__",
    "__indexes__",
    "__on_mismatch__",
    "__validate__",
)
"""The settings that classes have."""


def check_body(name: str, namespace: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Raise `MappingError` for settings that are misspelt, and for slots of fields."""
    for attribute, value in namespace.items():
        if not attribute.startswith("__") or attribute in _SETTINGS or value is None or is_method(value):
            continue
        if close := get_close_matches(attribute, _SETTINGS, 1, cutoff=0.75):
            raise MappingError(f"{name}.{attribute}: no such setting; did you mean {close[0]}?")
    slots: Any = namespace.get("__slots__", ())
    for attribute in fields:
        if attribute in ((slots,) if isinstance(slots, str) else tuple(slots)):
            raise MappingError(f"{name}.{attribute}: a field has no slot; leave it out of __slots__")
    if type(namespace.get("__abstract__", False)) is not bool:
        raise MappingError(f"{name}.__abstract__ must be True or False, not {namespace['__abstract__']!r}")


def is_method(value: object) -> bool:
    """Whether a value of a class body is a function, a property or the like."""
    return callable(value) or hasattr(type(value), "__get__")


def check_undecorated(name: str, attributes: Iterable[str]) -> None:
    """Raise `MappingError` for what the decorators of attrs and dataclasses put into a class."""
    if not {"__attrs_attrs__", "__dataclass_params__"}.isdisjoint(attributes):
        raise MappingError(
            f"{name} is an attrs class by itself, as it derives from Document or Embedded; leave out the decorator"
        )


def is_unpickling(frame: FrameType) -> bool:
    """Whether the frame is of cloudpickle, which makes an empty class and then sets its attributes."""
    return str(frame.f_globals.get("__name__")).startswith("cloudpickle.")


def around(frame: FrameType) -> FrameType:
    """The frame around a class statement, or around the call of ``types.new_class`` that stands for one."""
    while frame.f_back is not None and frame.f_globals.get("__name__") == "types":
        frame = frame.f_back
    return frame
