"""Selects: immutable, each call returns a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pprint import pformat
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, overload

from attrs import fields, frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError, UnsupportedError
from superorm.expr.base import Expr, Label, Order, Predicate
from superorm.expr.checks import checked_conditions, order_of
from superorm.expr.entities import checked_entities, checked_on, is_part_of, name_of, root_of
from superorm.expr.literals import finite
from superorm.expr.nodes import Column, Field
from superorm.expr.options import LoadOnly, Undefer
from superorm.expr.relations import Load, Related
from superorm.expr.rows import ListOf
from superorm.expr.sources import is_document
from superorm.expr.stages import Block, Entity, Facet, Join, Like, Sample, Step, Then, UnionAll, Unwind, raw_stage
from superorm.expr.storable import Storable
from superorm.expr.thawed import thawed
from superorm.expr.values import checked_count, checked_flag, checked_name, own_copy, shortened

if TYPE_CHECKING:
    from superorm.expr.writes import MergeInto
    from superorm.schema.document import Document
    from superorm.schema.registry import Registry

__all__ = [
    "Rows",
    "Select",
    "on_pipeline",
    "select",
]

D = TypeVar("D", bound="Document")
D2 = TypeVar("D2", bound="Document")
D3 = TypeVar("D3", bound="Document")
M = TypeVar("M")
M2 = TypeVar("M2")
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")

MAX_K = 10_000

Items: TypeAlias = "list[Any] | set[Any] | frozenset[Any] | tuple[Any, ...] | None"

Many: TypeAlias = "tuple[Any, Any, Any, *tuple[Any, ...]]"
"""Rows of three columns or more."""

_pipeline: list[Callable[[Any], list[dict[str, Any]]]] = []


def on_pipeline(function: Callable[[Any], list[dict[str, Any]]]) -> None:
    """Give statements their compiler, which stands above them."""
    _pipeline[:] = [function]


class Rows(Generic[R_co]):
    """Anything that yields rows of the type `R_co`."""

    __slots__ = ()


@frozen(eq=False)
class Select(Rows[R_co], Storable, Generic[M, R_co]):
    """A query. Build one with `select`.

    A statement is a row of blocks.
    Within a block the order of the calls does not matter: they are SQL's slots `join`, `where`, `group_by`, `having`,
    `distinct`, `order_by`, `offset`, `limit`.
    `like`, `unwind`, `sample`, `facet`, `union_all`, `stage` and `then` close a block, and what follows works on its
    rows.
    """

    _root: Any
    _entities: tuple[Entity, ...]
    _closed: tuple[Step, ...] = ()
    """What stands before the last block."""
    _options: tuple[LoadOnly[Any] | Load[Any, Any] | Undefer[Any], ...] = ()
    # the slots of the last block
    _joins: tuple[Join, ...] = ()
    _where: tuple[Predicate[Any], ...] = ()
    _group_by: tuple[Expr[Any, Any], ...] = ()
    _having: tuple[Predicate[Any], ...] = ()
    _distinct: bool = False
    _order_by: tuple[Order[Any], ...] = ()
    _offset: int = 0
    _limit: int | None = None

    # The slots of a block

    def where(self, *conditions: Predicate[M]) -> Select[M, R_co]:
        """Keep the rows that meet all the conditions."""
        checked = checked_conditions(conditions, "where()")
        return self._with("_where", self._where + checked)

    @overload
    def join(
        self, target: type[Document] | Expr[M, Any], *on: Predicate[Any], outer: Literal[False] = False
    ) -> Select[Any, R_co]: ...
    @overload
    def join(
        self: Select[Any, tuple[T1, D2]], target: type[D2], *on: Predicate[Any], outer: Literal[True]
    ) -> Select[Any, tuple[T1, D2 | None]]: ...
    @overload
    def join(self, target: type[Document] | Expr[M, Any], *on: Predicate[Any], outer: bool) -> Select[Any, R_co]: ...
    def join(self, target: type[Document] | Expr[M, Any], *on: Predicate[Any], outer: bool = False) -> Select[Any, Any]:
        """Join another class: each row stands once for each of its documents that meets all the conditions.

        ``join(Author, Movie.author_id == Author.id)``; a list on one side of ``==`` joins by its elements.
        A relationship, ``join(Movie.author)``, is the class and the condition.
        `outer` keeps rows without any, whose fields of the other class are None.
        For a class joined with itself see `aliased`; for one list a row see `as_list`.
        """
        if isinstance(target, Related):
            on, target = (target.part.condition, *on), target.part.target_class
        if not is_document(target):
            raise StatementError(f"join() takes a document class, not {target!r}")
        if not on:
            raise StatementError(f"join({name_of(target)}) needs a condition, such as Movie.author_id == Author.id")
        join = Join(target, checked_conditions(on, "join()"), outer)
        return self._with("_joins", (*self._joins, join))

    def group_by(self, *keys: Expr[M, Any]) -> Select[M, R_co]:
        """One row for each combination of the keys' values; what is selected are these and accumulators over the rows.

        Of several keys null and missing are two groups, of a single one the same, as to the server.
        """
        for key in keys:
            if not isinstance(key, Expr):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise StatementError(f"group_by() takes fields and expressions, not {key!r}")
        return self._with("_group_by", self._group_by + keys)

    def having(self, *conditions: Predicate[M]) -> Select[M, R_co]:
        """Keep the groups that meet all the conditions."""
        checked = checked_conditions(conditions, "having()")
        return self._with("_having", self._having + checked)

    def distinct(self) -> Select[M, R_co]:
        """Each row once."""
        return self._with("_distinct", True)

    def order_by(self, *places: Order[M] | Expr[M, Any]) -> Select[M, R_co]:
        """Sort by fields, ``.desc()`` for descending; a further call sorts what the calls before it leave equal."""
        orders: tuple[Any, ...] = places
        for place in places:
            if type(place) is not Order:
                orders = tuple(map(order_of, places))
                break
        return self._with("_order_by", self._order_by + orders)

    def limit(self, count: int) -> Select[M, R_co]:
        """At most `count` rows."""
        count = checked_count("limit", count, least=1)
        return self._with("_limit", count)

    def offset(self, count: int) -> Select[M, R_co]:
        """Leave out the first `count` rows."""
        count = checked_count("offset", count, least=0)
        return self._with("_offset", count)

    # What closes a block

    def like(
        self,
        query: Any,
        on: Expr[M, Any] | str | None = None,
        *,
        k: int = 10,
        exact: bool = False,
        num_candidates: int | None = None,
        min_score: float | None = None,
    ) -> Select[M, R_co]:
        """The `k` documents nearest to `query`, nearest first, ties by key.

        `query` is a vector (list or array of as many numbers as the field has),
        a value of the source field's type, which the field's model encodes,
        what the models of the index take, or a document, which is itself left out.
        `on` is a vector field, which may be left out where the class has just one, or the name of a `VectorIndex`.
        `min_score` is on the scale of `score`.
        """
        if any(isinstance(step, Like) for step in self._steps):
            raise UnsupportedError("a statement can have one .like(...) for now")
        return self._close(
            Like(
                query=own_copy(query),
                on=checked_on(self, on),
                k=checked_count("like(k=...)", k, least=1, most=MAX_K),
                exact=checked_flag("like(exact=...)", exact),
                num_candidates=None
                if num_candidates is None
                else checked_count("num_candidates", num_candidates, least=1),
                min_score=None if min_score is None else finite(min_score, "min_score"),
            )
        )

    def unwind(self, list: Expr[M, Items], *, keep_empty: bool = False, index: str | None = None) -> Select[M, R_co]:
        """One row for each element of a list, in the list's place: see `Field.item`.

        `keep_empty` keeps rows whose list is empty, null or missing.
        `index` names a `column` for the element's position.
        """
        if not isinstance(list, (Field, Label, Column, ListOf)):
            raise StatementError(f"unwind() takes a field that holds a list, or a label or column, not {list!r}")
        inner = list.expr if isinstance(list, Label) else list
        if isinstance(inner, Field) and inner._is_never_list():  # pyright: ignore[reportPrivateUsage]
            raise StatementError(f"unwind({list!r}): it holds no list; unwind() takes a field that holds one")
        return self._close(Unwind(list, keep_empty, None if index is None else checked_name(index)))

    def sample(self, size: int) -> Select[M, R_co]:
        """`size` rows by chance, in no order."""
        return self._close(Sample(checked_count("sample", size, least=1)))

    def facet(self, **facets: Select[Any, Any]) -> Select[Any, tuple[Any, ...]]:
        """Run several statements over the rows so far: one row, with a list of rows under each name.

        The statements are on the same class: ``facet(by_year=select(Movie.year, n).group_by(Movie.year))``.
        """
        if not facets:
            raise StatementError("facet() needs statements, each under a name")
        for name, facet in facets.items():
            if not isinstance(facet, Select):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise StatementError(f"facet({name}=...) takes a select, not {facet!r}")
            if facet._root not in (None, self._root):
                raise StatementError(f"facet({name}=...) is about {name_of(facet._root)}, not {name_of(self._root)}")
        named = tuple([(checked_name(name), facet.select_from(self._root)) for name, facet in facets.items()])
        columns: tuple[Expr[Any, Any], ...] = tuple([Column(name) for name, _ in named])
        return Select(self._root, columns, (*self._steps, Facet(named)))

    def union_all(self, other: Select[M2, R_co]) -> Select[M, R_co]:
        """The rows of another statement after these; both select as much, under the names of the first."""
        if not isinstance(other, Select):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StatementError(f"union_all() takes a select, not {other!r}")
        if len(other._entities) != len(self._entities):
            raise StatementError(
                f"union_all(): the statements select {len(self._entities)} and {len(other._entities)} columns"
            )
        return self._close(UnionAll(other)).then()  # other columns are selected from the rows of both

    def stage(self, stage: dict[str, Any]) -> Select[M, R_co]:
        """A stage as the server takes it; `column` names what it makes. Nothing in it is checked or escaped.

        Raises `StatementError` for what is no stage; the server refuses what it does not know.
        """
        return self._close(raw_stage(stage))

    @overload
    def then(self) -> Select[M, R_co]: ...
    @overload
    def then(self, a: Expr[M, T1], /) -> Select[M, tuple[T1]]: ...
    @overload
    def then(self, a: Expr[M, T1], b: Expr[M, T2], /) -> Select[M, tuple[T1, T2]]: ...
    @overload
    def then(self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], /) -> Select[M, tuple[T1, T2, T3]]: ...
    @overload
    def then(
        self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], d: Expr[M, T4], /
    ) -> Select[M, tuple[T1, T2, T3, T4]]: ...
    @overload
    def then(
        self,
        a: Expr[M, Any],
        b: Expr[M, Any],
        c: Expr[M, Any],
        d: Expr[M, Any],
        e: Expr[M, Any],
        /,
        *more: Expr[M, Any],
    ) -> Select[M, Many]: ...
    def then(self, *entities: Any) -> Select[M, Any]:
        """Close the block: its rows become the documents of what follows.

        With `entities` these are selected from the rows: ``.then(func.avg(n))``.
        """
        checked = checked_entities("then()", entities) if entities else self._entities
        return Select(self._root, checked, (*self._steps, Then(self._entities, bool(entities))), self._options)

    @overload
    def columns(self, a: type[D], /) -> Select[M, tuple[D]]: ...
    @overload
    def columns(self, a: Expr[M, T1], /) -> Select[M, tuple[T1]]: ...
    @overload
    def columns(self, a: type[D], b: type[D2], /) -> Select[M, tuple[D, D2]]: ...
    @overload
    def columns(self, a: type[D], b: Expr[M, T2], /) -> Select[M, tuple[D, T2]]: ...
    @overload
    def columns(self, a: Expr[M, T1], b: Expr[M, T2], /) -> Select[M, tuple[T1, T2]]: ...
    @overload
    def columns(self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], /) -> Select[M, tuple[T1, T2, T3]]: ...
    @overload
    def columns(
        self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], d: Expr[M, T4], /
    ) -> Select[M, tuple[T1, T2, T3, T4]]: ...
    @overload
    def columns(
        self,
        a: type[D] | Expr[M, Any],
        b: type[D2] | Expr[M, Any],
        c: type[D3] | Expr[M, Any],
        /,
        *more: type[Document] | Expr[M, Any],
    ) -> Select[M, Many]: ...
    def columns(self, *entities: Any) -> Select[M, Any]:
        """The same with another select list; after a join it may name fields of both classes.

        Raises `StatementError` without any.
        """
        if not entities:
            raise StatementError("columns() needs a document class, or a field of one")
        return self._with("_entities", checked_entities("columns()", entities))

    def select_from(self, root: type[D]) -> Select[D, R_co]:
        """The same on a class, where the select list does not tell it: ``select(func.count()).select_from(Movie)``."""
        if not is_document(root):
            raise StatementError(f"select_from() takes a document class, not {root!r}")
        return self._with("_root", root)

    def options(self, *options: LoadOnly[M] | Load[M, Any] | Undefer[M]) -> Select[M, R_co]:
        """How documents are loaded: `load_only`, `selectinload`, `joinedload`, `undefer`.

        Raises `StatementError` for fields of other classes.
        """
        for option in options:
            if isinstance(option, (Load, Undefer)):
                continue
            if not isinstance(option, LoadOnly):  # pyright: ignore[reportUnnecessaryIsInstance]
                known = "load_only(...), selectinload(...), joinedload(...) and undefer(...)"
                raise StatementError(f"options() takes {known}, not {option!r}")
            for field in option.fields if self._root is not None else ():
                if not is_part_of(self._root, field._owner):  # pyright: ignore[reportPrivateUsage]
                    raise StatementError(f"load_only({field!r}): it is no field of {name_of(self._root)}")
        return self._with("_options", (*self._options, *options))

    # What becomes of it

    @overload
    def as_list(self: Select[Any, tuple[T]]) -> Expr[object, list[T]]: ...
    @overload
    def as_list(self) -> Expr[object, list[R_co]]: ...
    def as_list(self) -> Expr[object, list[Any]]:
        """What it finds for each row of another statement, as a list: see `ListOf`.

        Its conditions may name fields of the other statement's classes:
        ``select(Review.text).where(Review.movie_id == Movie.id).as_list().label("texts")``.
        """
        return ListOf(self)

    def merge_into(
        self,
        target: str | type[Document],
        *,
        on: str | Sequence[str] = "_id",
        when_matched: Literal["merge", "replace", "keepExisting", "fail"] = "merge",
        when_not_matched: Literal["insert", "discard", "fail"] = "insert",
    ) -> MergeInto:
        """Write the rows into a collection (``$merge``), by their stored names.

        `on` are the names by which a row finds its document; other names than ``_id`` need a unique index.
        A column becomes the key by ``.label("_id")``.
        Into a class, a label may be the name of an attribute;
        rows that surely no document of the class can be made of are a `StatementError` when the statement is compiled.
        New documents get what names the class; documents of other classes, but for its subclasses,
        are errors when a row finds them.
        """
        from superorm.expr.writes import MergeInto

        return MergeInto.of(self, target, on, when_matched, when_not_matched)

    def pipeline(self) -> list[dict[str, Any]]:
        """What will be sent, as an aggregation pipeline; ``like`` stands in it as a ``$like`` stage."""
        return _pipeline[0](self)

    if TYPE_CHECKING:

        @classmethod
        def from_dict(
            cls, data: Mapping[str, Any], *, registry: Registry | None = None, allow_raw: bool = False
        ) -> Select[Any, Any]: ...

    def __str__(self) -> str:
        lines = pformat(shortened(self.pipeline()), sort_dicts=False, width=100)
        return f"{name_of(self._root)}\n{lines}"

    def __repr__(self) -> str:
        return f"<Select {', '.join(map(name_of, self._entities))}>"

    @property
    def _block(self) -> Block:
        return Block(*_SLOTS(self))

    @property
    def _steps(self) -> tuple[Step, ...]:
        return (*self._closed, self._block)

    def _close(self, step: Step) -> Select[M, R_co]:
        return Select(self._root, self._entities, (*self._steps, step), self._options)

    def _with(self, name: str, value: Any) -> Select[Any, Any]:
        """The same with another value of an attribute; `evolve` takes five times as long."""
        copy: Any = _ThawedSelect()
        copy._root = self._root
        copy._entities = self._entities
        copy._closed = self._closed
        copy._options = self._options
        copy._joins = self._joins
        copy._where = self._where
        copy._group_by = self._group_by
        copy._having = self._having
        copy._distinct = self._distinct
        copy._order_by = self._order_by
        copy._offset = self._offset
        copy._limit = self._limit
        setattr(copy, name, value)
        copy.__class__ = Select
        made: Select[Any, Any] = copy
        return made


_ThawedSelect = thawed(Select)
_SLOTS = attrgetter(*[f"_{slot.name}" for slot in fields(Block)])


@overload
def select(a: type[D], /) -> Select[D, tuple[D]]: ...
@overload
def select(a: Expr[M, T1], /) -> Select[M, tuple[T1]]: ...
@overload
def select(a: type[D], b: Expr[D, T2], /) -> Select[D, tuple[D, T2]]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], /) -> Select[M, tuple[T1, T2]]: ...
@overload
def select(a: type[D], b: type[D2], /) -> Select[Any, tuple[D, D2]]: ...
@overload
def select(
    a: type[D], b: type[D2], c: type[Document] | Expr[Any, Any], /, *more: type[Document] | Expr[Any, Any]
) -> Select[Any, Many]: ...
@overload
def select(a: type[D], b: Expr[D, T2], c: Expr[D, T3], /) -> Select[D, tuple[D, T2, T3]]: ...
@overload
def select(a: type[D], b: Expr[D, T2], c: Expr[D, T3], d: Expr[D, T4], /) -> Select[D, tuple[D, T2, T3, T4]]: ...
@overload
def select(
    a: type[D], b: Expr[D, Any], c: Expr[D, Any], d: Expr[D, Any], e: Expr[D, Any], /, *more: Expr[D, Any]
) -> Select[D, Many]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], /) -> Select[M, tuple[T1, T2, T3]]: ...
@overload
def select(a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], d: Expr[M, T4], /) -> Select[M, tuple[T1, T2, T3, T4]]: ...
@overload
def select(
    a: Expr[M, Any], b: Expr[M, Any], c: Expr[M, Any], d: Expr[M, Any], e: Expr[M, Any], /, *more: Expr[M, Any]
) -> Select[M, Many]: ...
def select(*entities: Any) -> Select[Any, Any]:
    """A query for documents of a class, for some of its fields, or for values computed from them.

    ``select(Movie)`` yields Movies, ``select(Movie.title)`` strings, ``select(Movie.title, Movie.year)`` rows,
    ``select(Movie, score())`` rows of a Movie and its score.
    Raises `StatementError` for anything else.
    """
    if not entities:
        raise StatementError("select() needs a document class, or a field of one")
    if len(entities) == 1:
        mapping = getattr(entities[0], "__superorm__", None)
        if mapping is not None and mapping.cls is entities[0] and "select" in mapping.functions:
            known: Select[Any, Any] = mapping.functions["select"]
            return known
        if is_document(entities[0]):
            return _whole(entities[0])
    entities = checked_entities("select()", entities)
    return Select(root_of(entities), entities)


def _whole(source: Any) -> Select[Any, Any]:
    """A select of whole documents: of a class each time the same, as to make a frozen one takes long."""
    made = Select[Any, Any](source, (source,))
    mapping = getattr(source, "__superorm__", None)
    if mapping is not None and mapping.cls is source:  # neither an alias nor abstract
        mapping.functions["select"] = made
    return made
