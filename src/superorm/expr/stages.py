"""What a select is made of: blocks, and what closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, frozen

from superorm.exc import StatementError
from superorm.expr.base import Expr, Order, Predicate
from superorm.expr.narrow import is_dict
from superorm.expr.values import own_copy

if TYPE_CHECKING:
    from superorm.expr.nodes import Field
    from superorm.expr.sources import Alias
    from superorm.expr.statements import Select

__all__ = [
    "Block",
    "Entity",
    "Facet",
    "Join",
    "Like",
    "Raw",
    "Sample",
    "Step",
    "Then",
    "UnionAll",
    "Unwind",
    "raw_stage",
]

Entity: TypeAlias = "type | Alias | Expr[Any, Any]"


@frozen(eq=False)
class Join:
    """Another class joined to the rows, each row once for each match (``$lookup`` and ``$unwind``)."""

    target: Any
    on: tuple[Predicate[Any], ...]
    outer: bool
    """Whether rows without a match stay."""


@define(eq=False)  # made for each statement: a frozen one takes three times as long
class Block:
    """The slots of one block, which take effect in SQL's order whatever the order of the calls. Never changed."""

    joins: tuple[Join, ...] = ()
    where: tuple[Predicate[Any], ...] = ()
    group_by: tuple[Expr[Any, Any], ...] = ()
    having: tuple[Predicate[Any], ...] = ()
    distinct: bool = False
    order_by: tuple[Order[Any], ...] = ()
    offset: int = 0
    limit: int | None = None


@frozen(eq=False)
class Like:
    """A vector search between two blocks: the first chooses what is searched, the second works on what was found."""

    query: Any
    on: Field[Any, Any] | str | None
    k: int
    exact: bool
    num_candidates: int | None
    min_score: float | None


@frozen(eq=False)
class Unwind:
    """One row for each element of a list."""

    list: Expr[Any, Any]
    keep_empty: bool
    index: str | None
    """The name of a column for the element's position."""


@frozen(eq=False)
class Sample:
    """Some rows, by chance."""

    size: int


@frozen(eq=False)
class Facet:
    """Several statements over the same rows; their results are lists in one row."""

    facets: tuple[tuple[str, Select[Any, Any]], ...]


@frozen(eq=False)
class UnionAll:
    """The rows of another statement after these."""

    select: Select[Any, Any]


@frozen(eq=False)
class Raw:
    """A stage as the server takes it."""

    stage: dict[str, Any]


def raw_stage(stage: object) -> Raw:
    """What a user gives for a stage, copied. Raises `StatementError` for what is none."""
    if not is_dict(stage) or len(stage) != 1 or not str(next(iter(stage))).startswith("$"):
        raise StatementError(f"stage() takes one stage such as {{'$unset': 'plot'}}, not {stage!r:.80}")
    ((name, body),) = stage.items()
    if name in ("$match", "$sort") and not is_dict(body):  # others are left as they are
        raise StatementError(f"stage(): {name} takes a document, not {body!r:.80}")
    return Raw(own_copy(stage))


@frozen(eq=False)
class Then:
    """The rows so far become the documents of what follows."""

    entities: tuple[Entity, ...]
    """What was selected so far."""
    selects: bool = False
    """Whether something else is selected from the rows."""


Step: TypeAlias = Block | Like | Unwind | Sample | Facet | UnionAll | Raw | Then
