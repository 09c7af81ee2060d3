"""How expressions and statements are declared."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

from attrs import define, field

__all__ = ["node"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def node(cls: type[T]) -> type[T]:
    """A slotted class whose instances never change: type checkers refuse assignments to their attributes.

    Nothing refuses them at run time, as an instance of a class that does takes three times as long to make.
    """
    return define(eq=False)(cls)
