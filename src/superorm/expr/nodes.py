"""Expressions: frozen nodes that know nothing of documents' classes but a small protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, cast, overload

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError, UnsupportedError
from superorm.expr.conditions import NO_BOOL, Compare, CompareOp, ElemMatch, Logical, Order, Predicate, check_owners
from superorm.expr.literals import literal

if TYPE_CHECKING:
    from superorm.schema.document import Embedded

__all__ = ["Expr", "Field", "FieldType", "Predicate", "Score", "score"]

M = TypeVar("M")
V = TypeVar("V")
E = TypeVar("E")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

_END = r"(?![\s\S])"  # as ``\z``, which Python's expressions, and so mongomock's, do not have


class FieldType(Protocol):
    """What an expression asks of a declared field."""

    @property
    def attribute(self) -> str:
        """The attribute's name."""
        ...

    @property
    def stored(self) -> str:
        """The key that it is stored under."""
        ...

    @property
    def is_list(self) -> bool:
        """Whether the field holds a list, set or tuple."""
        ...

    @property
    def embedded(self) -> type | None:
        """The class of the embedded documents that the field holds, as its value or in a list."""
        ...

    def member(self, name: str) -> FieldType:
        """A field of that class, by its attribute's name. Raises `AttributeError` listing the known names."""
        ...


class Expr(Generic[M_contra, T_co]):
    """A value computed from a document: `M_contra` is the document's class, `T_co` the value's type."""

    __slots__ = ()

    def asc(self) -> Order[M_contra]:
        """Ascending, the default."""
        raise NotImplementedError

    def desc(self) -> Order[M_contra]:
        """Descending."""
        raise NotImplementedError

    def __bool__(self) -> NoReturn:
        raise TypeError(NO_BOOL)


@frozen(eq=False, slots=True, repr=False)
class Score(Expr[M_contra, T_co]):
    """The similarity that a ``like`` stage gave."""

    def asc(self) -> Order[M_contra]:
        return Order(None, None, 1)

    def desc(self) -> Order[M_contra]:
        return Order(None, None, -1)

    def __repr__(self) -> str:
        return "score()"


def score() -> Expr[object, float]:
    """The similarity of a row to the query of the ``like`` before it, from 0 to 1 (see `Select.like`)."""
    return Score()


@frozen(eq=False, slots=True, repr=False)
class Field(Expr[M_contra, T_co]):
    """A field of a class: ``Movie.year``, ``Movie.imdb.rating``.

    Its own attributes begin with an underscore, as all other names are those of embedded documents' fields.
    """

    _owner: type
    _path: str
    """Where it is stored, dotted."""
    _parts: tuple[FieldType, ...]
    """The declared fields on the way, the last of them its own."""

    @property
    def _type(self) -> FieldType:
        return self._parts[-1]

    def __repr__(self) -> str:
        return ".".join([self._owner.__name__, *(part.attribute for part in self._parts)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _field_at, (self._owner, tuple(part.attribute for part in self._parts))

    def __getattr__(self: Field[M, Embedded | None], name: str) -> Field[M, Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        part = self._type.member(name)
        return Field(self._owner, f"{self._path}.{part.stored}", (*self._parts, part))

    def __getitem__(self: Field[M, E | None], part: Field[E, V]) -> Field[M, V]:
        """A part of an embedded document by its own field, for names that a method here shadows."""
        if not isinstance(part, Field):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UnsupportedError(f"{self!r}[{part!r}]: positions and keys cannot stand in statements yet")
        if part._owner is not self._type.embedded:
            raise StatementError(f"{self!r} has no {part!r}: it does not hold a {part._owner.__name__}")
        return Field(self._owner, f"{self._path}.{part._path}", (*self._parts, *part._parts))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} is a field of a class and cannot be iterated")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(f"write .contains(...), not `in {self!r}`")

    def asc(self) -> Order[M_contra]:
        return Order(self._owner, self._path, 1)

    def desc(self) -> Order[M_contra]:
        return Order(self._owner, self._path, -1)

    def _compare(self, op: CompareOp, value: Any) -> Predicate[M_contra]:
        if isinstance(value, Expr):
            raise StatementError(f"{self!r} can be compared with values only, not with {value!r}", field=self._path)
        return Compare(self._owner, self._path, op, literal(value))

    def __eq__(self, other: T_co | None) -> Predicate[M_contra]:  # type: ignore[override]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleMethodOverride]
        return self._compare("$eq", other)

    def __ne__(self, other: T_co | None) -> Predicate[M_contra]:  # type: ignore[override]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleMethodOverride]
        return self._compare("$ne", other)

    def __gt__(self, other: T_co) -> Predicate[M_contra]:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        return self._compare("$gt", other)

    def __ge__(self, other: T_co) -> Predicate[M_contra]:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        return self._compare("$gte", other)

    def __lt__(self, other: T_co) -> Predicate[M_contra]:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        return self._compare("$lt", other)

    def __le__(self, other: T_co) -> Predicate[M_contra]:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        return self._compare("$lte", other)

    def between(self, low: T_co, high: T_co) -> Predicate[M_contra]:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """`low` and `high` included."""
        return Logical("$and", (self._compare("$gte", low), self._compare("$lte", high)))

    def in_(self, values: Iterable[T_co]) -> Predicate[M_contra]:
        """Equal to one of the values."""
        return self._compare("$in", self._values("in_", values))

    def not_in(self, values: Iterable[T_co]) -> Predicate[M_contra]:
        """Equal to none of the values."""
        return self._compare("$nin", self._values("not_in", values))

    def is_(self, value: None) -> Predicate[M_contra]:
        """Null or missing, as MongoDB compares with null."""
        if value is not None:
            raise StatementError(f"{self!r}.is_() takes None only; write == for other values", field=self._path)
        return self._compare("$eq", value)

    def exists(self) -> Predicate[M_contra]:
        """Whether the key is there, null or not."""
        return Compare(self._owner, self._path, "$exists", True)

    def startswith(self: Field[M, str | None], prefix: str) -> Predicate[M]:
        """The text begins with `prefix`, taken literally."""
        return self._matches("^" + re.escape(_string("startswith", prefix)))

    def endswith(self: Field[M, str | None], suffix: str) -> Predicate[M]:
        """The text ends with `suffix`, taken literally."""
        return self._matches(re.escape(_string("endswith", suffix)) + _END)

    def regex(self: Field[M, str | list[str] | None], pattern: str) -> Predicate[M]:
        """The text, or one of a list, matches a Perl-compatible regular expression, of which nothing is escaped."""
        return self._matches(_string("regex", pattern))

    @overload
    def contains(self: Field[M, str | None], value: str) -> Predicate[M]: ...
    @overload
    def contains(self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], value: E) -> Predicate[M]: ...
    def contains(self: Field[M, Any], value: Any) -> Predicate[M]:
        """A list holds the value, or a text holds the text, taken literally."""
        if not self._type.is_list:
            return self._matches(re.escape(_string("contains", value)))
        if value is None or isinstance(
            value, (list, tuple, set, frozenset)
        ):  # compared alone it would match the list itself
            return Compare(self._owner, self._path, "$elemMatch", {"$eq": literal(cast("object", value))})
        return self._compare("$eq", value)

    def all_(
        self: Field[M, list[E] | set[E] | frozenset[E] | tuple[E, ...] | None], values: Iterable[E]
    ) -> Predicate[M]:
        """The list holds all the values."""
        return self._compare("$all", self._values("all_", values))

    def any_(self: Field[M, list[E] | tuple[E, ...] | None], *conditions: Predicate[E]) -> Predicate[M]:
        """One embedded document of the list meets all the conditions (``$elemMatch``)."""
        if not conditions:
            raise StatementError(f"{self!r}.any_() needs a condition", field=self._path)
        embedded = self._type.embedded
        if embedded is None:
            raise StatementError(f"{self!r}.any_() needs a list of embedded documents", field=self._path)
        for condition in conditions:
            check_owners(condition, embedded, f"{self!r}.any_()")
        return ElemMatch(self._owner, self._path, conditions)

    def _matches(self, pattern: str) -> Predicate[M_contra]:
        return Compare(self._owner, self._path, "$regex", pattern)

    def _values(self, name: str, values: Iterable[Any]) -> list[Any]:
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StatementError(
                f"{self!r}.{name}() takes a list of values, not {type(values).__name__} {values!r:.80}",
                field=self._path,
            )
        return list(values)


def _field_at(owner: type, names: tuple[str, ...]) -> Field[Any, Any]:
    """The field that `names` lead to, for unpickling."""
    found: Field[Any, Any] = getattr(owner, names[0])
    for name in names[1:]:
        found = cast("Any", Field).__getattr__(found, name)
    return found


def _string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise StatementError(f".{name}() on a text takes a text, not {type(value).__name__} {value!r}")
    text = cast("str", literal(value))
    if "\0" in text:
        raise StatementError(f".{name}() cannot search for a NUL character")
    return text
