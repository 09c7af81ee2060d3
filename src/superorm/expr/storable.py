"""Statements as plain data: the methods that all of them have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from superorm.expr.sources import FieldType
    from superorm.schema.registry import Registry

__all__ = ["Finder", "Storable", "class_finder", "on_classes", "python_value"]

Finder: TypeAlias = Callable[[str], "type | None"]
"""Gives the class of a qualified name, ``module.Class``."""

_schema: list[tuple[Callable[[Registry | None], Finder], Callable[[FieldType, object, str], Any]]] = []


def on_classes(
    finder: Callable[[Registry | None], Finder], python_value: Callable[[FieldType, object, str], Any]
) -> None:
    """Give stored statements the way to their classes, which stand above them."""
    _schema[:] = [(finder, python_value)]


def class_finder(registry: Registry | None) -> Finder:
    """The finder in a registry, by default in that of `Document`."""
    return _schema[0][0](registry)


def python_value(kind: FieldType, stored: object, where: str) -> Any:
    """The value that a field has where the database holds `stored`. Raises `ValidationError` where it does not fit."""
    return _schema[0][1](kind, stored, where)


class Storable:
    """A statement that can be stored."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The statement as dicts, lists and BSON values, to be stored in MongoDB, or as text by ``bson.json_util``.

        Equal statements that were built alike give equal dicts.
        Raises `StatementError` for values that cannot be stored, such as a document or an image as the query of `like`.
        """
        from superorm.expr.serialize import dump

        return dump(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, registry: Registry | None = None, allow_raw: bool = False) -> Any:
        """The statement that `to_dict` gave such data for.

        Classes are looked up by name in `registry`, by default that of `Document`; nothing is imported or evaluated.
        Raw stages are refused without `allow_raw`, as nothing in them is checked.
        Raises `StatementError`, which names the place, for anything that no statement gives.
        """
        from superorm.expr.serialize import load

        return load(cls, data, registry, allow_raw=allow_raw)
