"""Frozen objects that take no longer to make than others."""

from __future__ import annotations

from typing import Any

__all__ = ["thawed"]


def thawed(cls: type) -> type[Any]:
    """A twin of a frozen class with slots: instances can be written, until ``instance.__class__ = cls`` freezes them.

    To make one without its ``__init__``, write its attributes and freeze it takes half as long as to make a frozen one.
    """
    body = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(f"Thawed{cls.__name__}", (cls,), body)  # CPython finds both in one slot of the type: none stays slow
