"""Statements: immutable, each call returns a new one."""

from __future__ import annotations

from collections.abc import Callable
from pprint import pformat
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast, overload

import numpy as np
from attrs import field, frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError, UnsupportedError
from superorm.expr.conditions import Order, Predicate, check_owners
from superorm.expr.literals import finite
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.nodes import Expr, Field, Score

if TYPE_CHECKING:
    from superorm.schema.document import Document

__all__ = ["Block", "Entity", "Like", "Rows", "Select", "on_pipeline", "select"]

D = TypeVar("D", bound="Document")
D2 = TypeVar("D2", bound="Document")
M = TypeVar("M")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")

MAX_K = 10_000

_pipeline: list[Callable[[Select[Any, Any]], list[dict[str, Any]]]] = []


def on_pipeline(function: Callable[[Select[Any, Any]], list[dict[str, Any]]]) -> None:
    """Give statements their compiler, which stands above them."""
    _pipeline[:] = [function]


@frozen(eq=False)
class Block:
    """The slots of one block, which take effect in SQL's order whatever the order of the calls."""

    where: tuple[Predicate[Any], ...] = ()
    order_by: tuple[Order[Any], ...] = ()
    offset: int = 0
    limit: int | None = None


@frozen(eq=False)
class Like:
    """A vector search between two blocks: the first chooses what is searched, the second works on what was found."""

    query: Any
    on: Field[Any, Any] | None
    k: int
    exact: bool
    num_candidates: int | None
    min_score: float | None


Entity: TypeAlias = "type[Document] | Field[Any, Any] | Score[Any, Any]"


class Rows(Generic[R_co]):
    """Anything that yields rows of the type `R_co`."""

    __slots__ = ()


@frozen(eq=False, repr=False)
class Select(Rows[R_co], Generic[M, R_co]):
    """A query. Build one with `select`.

    A statement is a row of blocks.
    Within a block the order of the calls does not matter; `like` closes a block, and what follows works on its rows.
    """

    _root: type[Document]
    _entities: tuple[Entity, ...]
    _blocks: tuple[Block, ...] = (Block(),)
    _like: Like | None = field(default=None)

    def where(self, *conditions: Predicate[M]) -> Select[M, R_co]:
        """Keep the documents that meet all the conditions."""
        for condition in conditions:
            check_owners(condition, self._root, "where()")
        return self._with(where=self._blocks[-1].where + conditions)

    def order_by(self, *places: Order[M] | Expr[M, Any]) -> Select[M, R_co]:
        """Sort by fields, ``.desc()`` for descending; a further call sorts what the calls before it leave equal."""
        orders = tuple(self._order(place) for place in places)
        return self._with(order_by=self._blocks[-1].order_by + orders)

    def _order(self, place: Order[M] | Expr[M, Any]) -> Order[Any]:
        if not isinstance(place, (Order, Expr)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StatementError(f"order_by() takes fields such as Movie.year.desc(), not {place!r}")
        order = place if isinstance(place, Order) else place.asc()
        if order.owner is None and self._like is None:
            raise StatementError("score() can be sorted by only after .like(...)")
        if order.owner is not None and not issubclass(self._root, order.owner):
            raise StatementError(
                f"order_by() got a field of {order.owner.__name__}, but is about {self._root.__name__}"
            )
        return order

    def limit(self, count: int) -> Select[M, R_co]:
        """At most `count` rows."""
        return self._with(limit=_count("limit", count, least=1))

    def offset(self, count: int) -> Select[M, R_co]:
        """Leave out the first `count` rows."""
        return self._with(offset=_count("offset", count, least=0))

    def like(
        self,
        query: Any,
        on: Expr[M, Any] | None = None,
        *,
        k: int = 10,
        exact: bool = False,
        num_candidates: int | None = None,
        min_score: float | None = None,
    ) -> Select[M, R_co]:
        """The `k` documents nearest to `query`, nearest first, ties by key.

        `query` is a vector (list or array of as many numbers as the field has),
        a value of the source field's type, which the field's model encodes,
        or a document, which is itself left out.
        `on` is a vector field; it may be left out where the class has just one.
        `min_score` is on the scale of `score`.
        """
        if self._like is not None:
            raise UnsupportedError("a statement can have one .like(...) for now")
        block = self._blocks[-1]
        if block.order_by or block.offset or block.limit is not None:
            raise UnsupportedError("order_by, offset and limit before .like(...) cannot be run yet; put them after it")
        if on is not None and not (isinstance(on, Field) and issubclass(self._root, on._owner)):  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
            raise StatementError(f"like(on=...) takes a vector field of {self._root.__name__}, not {on!r}")
        like = Like(
            query=_own(query),
            on=on,
            k=_count("like(k=...)", k, least=1, most=MAX_K),
            exact=exact,
            num_candidates=None if num_candidates is None else _count("num_candidates", num_candidates, least=1),
            min_score=None if min_score is None else finite(min_score, "min_score"),
        )
        return Select(self._root, self._entities, (*self._blocks, Block()), like)

    def pipeline(self) -> list[dict[str, Any]]:
        """What will be sent, as an aggregation pipeline; ``like`` stands in it as a ``$like`` stage."""
        return [_own(stage) for stage in _pipeline[0](self)]

    def __str__(self) -> str:
        lines = pformat(_short(self.pipeline()), sort_dicts=False, width=100)
        return f"{self._root.__name__}\n{lines}"

    def __repr__(self) -> str:
        names = [entity.__name__ if isinstance(entity, type) else repr(entity) for entity in self._entities]
        return f"<Select {', '.join(names)}>"

    def _with(
        self,
        *,
        where: tuple[Predicate[Any], ...] | None = None,
        order_by: tuple[Order[Any], ...] | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> Select[M, R_co]:
        """The same with other slots in the last block."""
        last = self._blocks[-1]
        block = Block(
            where=last.where if where is None else where,
            order_by=last.order_by if order_by is None else order_by,
            offset=last.offset if offset is None else offset,
            limit=last.limit if limit is None else limit,
        )
        return Select(self._root, self._entities, (*self._blocks[:-1], block), self._like)


def _count(name: str, value: int, *, least: int, most: int = 2**31 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StatementError(f"{name} takes a whole number, not {type(value).__name__} {value!r}")
    if not least <= value <= most:
        raise StatementError(f"{name} must be from {least} to {most}, not {value}")
    return value


def _own(value: Any) -> Any:
    """The same in containers and arrays of its own."""
    if isinstance(value, np.ndarray):
        return cast("Any", value).copy()
    if is_dict(value):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if is_list(value) else value


def _short(value: Any) -> Any:
    """The same with long vectors cut, for printing."""
    if isinstance(value, np.ndarray):
        return f"<{value.size} numbers>"
    if is_dict(value):
        return {key: _short(item) for key, item in value.items()}
    if not is_list(value) and not is_tuple(value):
        return value
    if len(value) > 20 and all(isinstance(item, (int, float)) for item in value):
        return f"<{len(value)} numbers>"
    return [_short(item) for item in value]


@overload
def select(a: type[D], /) -> Select[D, tuple[D]]: ...
@overload
def select(a: Expr[M, T1], /) -> Select[M, tuple[T1]]: ...
@overload
def select(a: type[D], b: Expr[D, T2], /) -> Select[D, tuple[D, T2]]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], /) -> Select[M, tuple[T1, T2]]: ...
@overload
def select(a: type[D], b: Expr[D, T2], c: Expr[D, T3], /) -> Select[D, tuple[D, T2, T3]]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], /) -> Select[M, tuple[T1, T2, T3]]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], d: Expr[M, T4], /) -> Select[M, tuple[T1, T2, T3, T4]]: ...
@overload
def select(
    a: Expr[M, Any], b: Expr[M, Any], c: Expr[M, Any], d: Expr[M, Any], e: Expr[M, Any], /, *more: Expr[M, Any]
) -> Select[M, tuple[Any, ...]]: ...
def select(*entities: Any) -> Select[Any, Any]:
    """A query for documents of a class, or for some of its fields.

    ``select(Movie)`` yields Movies, ``select(Movie.title)`` strings, ``select(Movie.title, Movie.year)`` rows,
    ``select(Movie, score())`` rows of a Movie and its score.
    Raises `StatementError` for anything else.
    """
    owners: list[type] = []
    for entity in entities:
        if isinstance(entity, Field):
            owners.append(entity._owner)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(entity, type) and hasattr(entity, "__collection__"):
            owners.append(entity)
        elif not isinstance(entity, Score):
            raise StatementError(f"select() takes document classes, their fields and score(), not {entity!r}")
    roots = [owner for owner in owners if hasattr(owner, "__collection__")]
    if not roots:
        raise StatementError("select() needs a document class, or a field of one")
    root = roots[0]
    others = sorted({owner.__name__ for owner in owners if not issubclass(root, owner)})
    if others:
        raise UnsupportedError(
            f"a select can be from one class for now, not from {', '.join([root.__name__, *others])}"
        )
    if sum(entity is root for entity in entities) > 1:
        raise StatementError(f"select() names {root.__name__} twice")
    return Select(root, entities)
