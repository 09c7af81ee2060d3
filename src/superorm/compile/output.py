# pyright: reportPrivateUsage=false
"""What the rows of a statement hold, and where it stands in what the server returns."""

from __future__ import annotations

from typing import Any, Literal

from attrs import evolve, frozen

from superorm.expr.kinds import is_field
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap
from superorm.schema.members import told_by_class

__all__ = ["Output"]


@frozen
class Output:
    """One column of the rows."""

    name: str
    entity: Any
    """What was selected: tells the type."""
    kind: Literal["document", "value", "score", "rows"]
    """``rows``: a list of the rows of another statement."""
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

    def moved(self, place: str, path: str) -> Output:
        """The column of the values at `place`, where they stand at another path."""
        rows = self.kind == "rows" and place != ".".join(self.path)  # of each unwound row the value
        return evolve(self.outputs[0] if rows else self, path=tuple(path.split(".")), stored=False)
