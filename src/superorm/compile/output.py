# pyright: reportPrivateUsage=false
"""What the rows of a statement hold, and where it stands in what the server returns."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from attrs import evolve, frozen

from superorm.exc import StatementError
from superorm.expr.kinds import is_field
from superorm.schema.expression_types import type_of
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap
from superorm.schema.members import declared, told_by_class
from superorm.schema.types.base import BsonType
from superorm.schema.types.computed import untold, unwound

__all__ = ["Output"]


@frozen
class Output:
    """One column of the rows."""

    name: str
    entity: Any
    """What was selected: tells the type."""
    kind: Literal["document", "value", "score", "rows", "output"]
    """``rows``: a list of the rows of another statement; ``output``: what is stored of a listener's output."""
    path: tuple[str, ...] = ()
    """The keys that lead to it; empty for the whole document."""
    mapping: ClassMap | None = None
    """Of a document: its class."""
    only: frozenset[str] | None = None
    """Of a document: the attributes to load; None for all."""
    unwound: int = 0
    """Whether the value is an element of the list that was selected; 2 for an element of an element, and so on."""
    stored: bool = False
    """Whether it is a field as it stands in the documents, so that a missing key is the field's default."""
    outputs: tuple[Output, ...] = ()
    """Of rows: their columns."""
    extra: frozenset[str] = frozenset()
    """Of the whole document: the keys that other columns stand under, which are not its own."""
    nothing: Any = MISSING
    """Of accumulators over everything: their value over no rows, of which the server makes no row."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The paths that its values are read from: its own, and those of the classes which tell what a field is."""
        path = ".".join(self.path)
        told = told_by_class(self.entity) if self.stored and is_field(self.entity) else ()
        if not told:
            return (path,)
        holder = path.removesuffix(self.entity._path)  # of a joined document
        return path, *[holder + one for one in told]

    def kind_of(self, selected: BsonType | None) -> BsonType | None:
        """The type of its values, where that of what was `selected` is known: after unwinding that of an item."""
        entity = self.entity
        is_item = is_field(entity) and bool(entity._parts) and entity._parts[-1].stored is None
        for _ in range(self.unwound - is_item):
            selected = None if selected is None else unwound(selected)
        return selected

    @cached_property
    def types(self) -> list[BsonType | None]:
        """The types of its values: of a field as it stands in the documents that of each of their classes."""
        stored = self.stored and is_field(self.entity)
        kinds = [one.type for one in declared(self.entity)] if stored else [type_of(self.entity)]
        return [*map(self.kind_of, kinds)]

    def check(self) -> None:
        """Raise `StatementError` where the rows do not tell which of some types, stored alike, a value is of."""
        for output in self.outputs:
            output.check()
        if self.kind != "value":
            return
        for kind in self.types:
            unclear = untold(kind)
            if unclear is not None:
                raise StatementError(
                    f"{self.name!r}: {' and '.join(unclear.names)} are stored alike, and the rows do not tell which a "
                    "value is; select whole documents, or the field as it stands in them, convert the values to one "
                    "type, as func.to_string() does, or declare them of one"
                )

    def moved(self, place: str, path: str) -> Output:
        """The column of the values at `place`, where they stand at another path."""
        rows = self.kind == "rows" and place != ".".join(self.path)  # of each unwound row the value
        kind: Any = "value" if self.kind == "output" else self.kind  # how it was stored does not come with it
        moved = self.outputs[0] if rows else evolve(self, kind=kind)
        return evolve(moved, path=tuple(path.split(".")), stored=False)
