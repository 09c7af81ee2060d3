# pyright: reportPrivateUsage=false
"""Statements that write: `insert`, `update`, `delete`, and a select merged into a collection."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pprint import pformat
from typing import TYPE_CHECKING, Any, Generic, Never, Self, TypeGuard, cast, overload

import attrs
from attrs import evolve, frozen
from bson import ObjectId
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import Expr, Predicate
from superorm.expr.checks import checked_conditions
from superorm.expr.entities import checked_entities, is_part_of, name_of
from superorm.expr.kinds import is_field
from superorm.expr.literals import literal
from superorm.expr.nodes import Field
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Rows
from superorm.expr.storable import Storable
from superorm.expr.values import shortened

if TYPE_CHECKING:
    from superorm.expr.statements import Select
    from superorm.schema.document import Document

__all__ = [
    "Conditional",
    "Delete",
    "Insert",
    "MergeInto",
    "Returning",
    "Update",
    "WriteStatement",
    "delete",
    "insert",
    "is_delete",
    "is_insert",
    "is_update",
    "on_plan",
    "update",
]

D = TypeVar("D", bound="Document")
M = TypeVar("M")
R_co = TypeVar("R_co", covariant=True)
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")

_MATCHED = ("merge", "replace", "keepExisting", "fail")
_NOT_MATCHED = ("insert", "discard", "fail")

_ATOMS = frozenset({str, int, float, bool, bytes, ObjectId, datetime, type(None)})

_plan: list[Callable[[Any], dict[str, Any]]] = []


def on_plan(function: Callable[[Any], dict[str, Any]]) -> None:
    """Give write statements their compiler, which stands above them."""
    _plan[:] = [function]


class WriteStatement(Storable, Generic[M]):
    """A statement that writes documents of a class."""

    __slots__ = ()

    @overload
    def returning(self, a: type[D], /) -> Returning[tuple[D]]: ...
    @overload
    def returning(self, a: Expr[M, T1], /) -> Returning[tuple[T1]]: ...
    @overload
    def returning(self, a: type[D], b: Expr[M, T2], /) -> Returning[tuple[D, T2]]: ...
    @overload
    def returning(self, a: Expr[M, T1], b: Expr[M, T2], /) -> Returning[tuple[T1, T2]]: ...
    @overload
    def returning(self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], /) -> Returning[tuple[T1, T2, T3]]: ...
    @overload
    def returning(
        self, a: Expr[M, T1], b: Expr[M, T2], c: Expr[M, T3], d: Expr[M, T4], /
    ) -> Returning[tuple[T1, T2, T3, T4]]: ...
    @overload
    def returning(
        self,
        a: Expr[M, Any],
        b: Expr[M, Any],
        c: Expr[M, Any],
        d: Expr[M, Any],
        e: Expr[M, Any],
        /,
        *more: Expr[M, Any],
    ) -> Returning[tuple[Any, ...]]: ...
    def returning(self, *entities: Any) -> Returning[Any]:
        """Give the rows of the documents: after an insert or update as they are then, of a delete as they were.

        What stands here is what stands in a `select`; this comes last.
        Raises `StatementError` for anything else.
        """
        if not entities:
            raise StatementError("returning() needs the document class, or a field of it")
        return Returning(self, checked_entities("returning()", entities))


@frozen(eq=False, slots=True, repr=False)
class Returning(Rows[R_co], Storable):
    """A statement that writes documents and gives their rows."""

    statement: WriteStatement[Any]
    entities: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.statement}\nreturning {', '.join(map(name_of, self.entities))}"

    def __repr__(self) -> str:
        return f"{self.statement!r}.returning({', '.join(map(name_of, self.entities))})"


@frozen(eq=False, slots=True, repr=False)
class Insert(WriteStatement[D], Generic[D]):
    """New documents. Make one with `insert`."""

    _root: type[D]
    _rows: tuple[Any, ...] = ()
    _upserts: bool = False
    _by: tuple[Field[Any, Any], ...] = ()
    """The fields that identify a document; none stand for the key."""

    def values(self, rows: D | Mapping[str, Any] | Iterable[D | Mapping[str, Any]] = (), /, **values: Any) -> Insert[D]:
        """Documents to insert: objects of the class, dicts of attributes, or the attributes of one by keyword.

        An object is made of each dict when the statement is executed, so defaults, converters and validators apply.
        Raises `StatementError` naming an attribute that the class does not have.
        """
        given: Any = rows
        cls = self._root
        if isinstance(given, (str, bytes)) or not isinstance(given, (cls, Mapping, Iterable)):
            raise StatementError(
                f"{self!r}.values() takes {cls.__name__} objects and dicts, or lists of them, not {short_repr(given)}"
            )
        whole: list[Any] = [given] if isinstance(given, (cls, Mapping)) else list(cast("Iterable[Any]", given))
        if values:
            whole.append(values)
        if set(map(type, whole)) != {cls}:
            whole = [row if isinstance(row, cls) else self._row(row) for row in whole]
        return evolve(self, rows=(*self._rows, *whole))

    def _row(self, row: object) -> Any:
        if not isinstance(row, Mapping):
            raise StatementError(
                f"{self!r}.values() takes {self._root.__name__} objects and dicts, not {short_repr(row)}"
            )
        given = dict(cast("Mapping[str, Any]", row))
        _check_names(self._root, given, "values()", arguments=True)
        for name, value in given.items():
            if isinstance(value, Expr):
                raise StatementError(f"{self!r}: {name} is an expression; an insert takes values only")
        return {name: value if type(value) in _ATOMS else copy.deepcopy(value) for name, value in given.items()}

    def upsert(self, *by: Field[D, Any]) -> Insert[D]:
        """Update the documents that are there already, insert the others, in order: of two rows for one the later wins.

        `by` are the fields that identify a document, the key by default; a unique index on them keeps others
        from inserting the same at the same time.
        What is there gets the values that are given (of an object: all), what is new the defaults too.
        Raises `StatementError` for anything but fields of the class.
        """
        for field in by:
            if not is_field(field) or len(field._parts) != 1:
                raise StatementError(f"upsert() takes fields such as {self._root.__name__}.id, not {field!r}")
            if not is_part_of(self._root, field._owner):
                raise StatementError(f"{self!r}.upsert() takes fields of {self._root.__name__}, not {field!r}")
        return evolve(self, upserts=True, by=by)

    def __str__(self) -> str:
        lines = pformat(shortened(list(self._rows[:10])), sort_dicts=False, width=100)
        more = f"\nand {len(self._rows) - 10} more" if len(self._rows) > 10 else ""
        return f"{self!r} of {len(self._rows)} documents\n{lines}{more}"

    def __repr__(self) -> str:
        upsert = f".upsert({', '.join(map(repr, self._by))})" if self._upserts else ""
        return f"insert({self._root.__name__}){upsert}"


@frozen(eq=False, slots=True, repr=False)
class Conditional(WriteStatement[D], Generic[D]):
    """A statement that writes all documents that meet its conditions."""

    _root: type[D]
    _where: tuple[Predicate[Any], ...] = ()
    _all: bool = False

    def where(self, *conditions: Predicate[D]) -> Self:
        """Only the documents that meet all the conditions."""
        return evolve(self, where=self._where + checked_conditions(conditions, "where()"))

    def all(self) -> Self:
        """Every document of the class; a statement without conditions needs it."""
        return evolve(self, all=True)

    def plan(self) -> dict[str, Any]:
        """What will be sent, as the server's command. Raises `StatementError`, `UnsupportedError`."""
        return _plan[0](self)

    def __str__(self) -> str:
        return pformat(shortened(self.plan()), sort_dicts=False, width=100)


@frozen(eq=False, slots=True, repr=False)
class Update(Conditional[D], Generic[D]):
    """A change of all documents that meet the conditions. Make one with `update`."""

    _assignments: tuple[Assignment[Any], ...] = ()
    _upserts: bool = False

    def values(self, /, *given: Never, **values: Any) -> Update[D]:
        """New values of fields, or expressions: ``values(year=3)`` is ``set(Movie.year.to(3))``.

        Raises `StatementError` naming an attribute that the class does not have, and what `Field.to` raises.
        """
        if given:
            raise StatementError(
                f"{self!r}.values() takes values by the names of fields, values(year=3), not {given[0]!r:.80}; "
                "set(Movie.year.to(3)) takes changes"
            )
        _check_names(self._root, values, "values()")
        return self.set(*[getattr(self._root, name).to(value) for name, value in values.items()])

    def set(self, *assignments: Assignment[D]) -> Update[D]:
        """Changes that fields make: ``set(Movie.year.to(Movie.year + 1), Movie.genres.push("x"))``.

        All of them see the document as it was before.
        """
        for assignment in cast("tuple[object, ...]", assignments):
            if not isinstance(assignment, Assignment):
                raise StatementError(
                    f"set() takes changes such as {self._root.__name__}.id.to(...), not {assignment!r}"
                )
        return evolve(self, assignments=self._assignments + assignments)

    def upsert(self) -> Update[D]:
        """Insert a document where none meets the conditions: what they say is equal, the class's defaults, the changes.

        Changes that are computed see the defaults: with ``default=0`` an ``inc(1)`` gives 1.
        """
        return evolve(self, upserts=True)

    def __repr__(self) -> str:
        return f"<update({self._root.__name__})>"


@frozen(eq=False, slots=True, repr=False)
class Delete(Conditional[D], Generic[D]):
    """The removal of all documents that meet the conditions. Make one with `delete`."""

    def __repr__(self) -> str:
        return f"<delete({self._root.__name__})>"


def insert(cls: type[D]) -> Insert[D]:
    """A statement that inserts documents: ``insert(Movie).values([{"title": "Heat"}, ...])``.

    Raises `StatementError` for anything but a document class.
    """
    return Insert(_checked_class("insert()", cls))


def update(cls: type[D]) -> Update[D]:
    """A statement that changes documents: ``update(Movie).where(Movie.year < 1950).values(old=True)``.

    Raises `StatementError` for anything but a document class.
    """
    return Update(_checked_class("update()", cls))


def delete(cls: type[D]) -> Delete[D]:
    """A statement that removes documents: ``delete(Movie).where(Movie.year < 1950)``.

    Raises `StatementError` for anything but a document class.
    """
    return Delete(_checked_class("delete()", cls))


def _checked_class(where: str, cls: Any) -> Any:
    if not isinstance(cls, type) or not hasattr(cls, "__collection__") or "__superorm__" not in vars(cls):
        raise StatementError(f"{where} takes a document class, not {cls!r}")
    return cls


def _check_names(cls: Any, values: Mapping[str, Any], where: str, *, arguments: bool = False) -> None:
    """Raise `StatementError` for names that are no attributes of the class, or no arguments of its ``__init__``."""
    known = {part.name: None for part in attrs.fields(cls) if part.init or not arguments}
    for name in values:
        if name not in known:
            raise StatementError(f"{where}: {cls.__name__} has no {name!r}; there are {', '.join(known)}")


def is_update(statement: object) -> TypeGuard[Update[Any]]:
    """Whether it is an `Update`, in a type that leaves nothing unknown."""
    return isinstance(statement, Update)


def is_delete(statement: object) -> TypeGuard[Delete[Any]]:
    """Whether it is a `Delete`."""
    return isinstance(statement, Delete)


def is_insert(statement: object) -> TypeGuard[Insert[Any]]:
    """Whether it is an `Insert`."""
    return isinstance(statement, Insert)


def _is_stored_name(name: object) -> bool:
    """Whether it is the dotted name of a field, or a collection's. Raises `StatementError` for no valid text."""
    return type(name) is str and all(literal(name).split(".")) and not {"$", "\0"} & set(name)


@frozen(eq=False, repr=False)
class MergeInto(Storable):
    """A select whose rows are written into a collection (``$merge``)."""

    select: Select[Any, Any]
    target: Any
    """A collection's name, or a document class."""
    on: tuple[str, ...]
    when_matched: str
    when_not_matched: str

    @classmethod
    def of(cls, select: Select[Any, Any], target: Any, on: Any, when_matched: str, when_not_matched: str) -> MergeInto:
        """Raises `StatementError` for what the server does not know."""
        if not hasattr(target, "__collection__") and not _is_stored_name(target):
            raise StatementError(f"merge_into() takes a document class or a collection's name, not {target!r}")
        if type(when_matched) is not str or when_matched not in _MATCHED:
            raise StatementError(f"merge_into(when_matched=...) is one of {', '.join(_MATCHED)}, not {when_matched!r}")
        if type(when_not_matched) is not str or when_not_matched not in _NOT_MATCHED:
            raise StatementError(
                f"merge_into(when_not_matched=...) is one of {', '.join(_NOT_MATCHED)}, not {when_not_matched!r}"
            )
        names = tuple(cast("Sequence[str]", on)) if isinstance(on, (list, tuple)) else (on,)
        if not names or not all(map(_is_stored_name, names)):
            raise StatementError(f"merge_into(on=...) takes names of fields, not {on!r}")
        return cls(select, target, names, when_matched, when_not_matched)

    def __repr__(self) -> str:
        target = self.target if isinstance(self.target, str) else name_of(self.target)
        return f"<MergeInto {target} of {self.select!r}>"
