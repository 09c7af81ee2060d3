"""Rows and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from sys import maxsize
from typing import Any, Generic, TypeVar, cast

import numpy as np
from attrs import frozen

from superorm.exc import MultipleResultsFound, NoResultFound
from superorm.expr.values import checked_count

__all__ = ["Result", "Row", "ScalarResult", "Written", "row_class"]

T = TypeVar("T")
T1 = TypeVar("T1")


class Row(tuple[Any, ...]):
    """A row: a tuple whose values are attributes too, by the names of what was selected."""

    __slots__ = ()
    _names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the row has no {name!r}; it has {', '.join(self._names)}")

    def __repr__(self) -> str:
        return f"({', '.join(f'{name}={value!r}' for name, value in zip(self._names, self, strict=True))})"

    def __reduce__(self) -> Any:
        return _make_row, (self._names, tuple(self))


def row_class(names: Sequence[str]) -> type[Row]:
    """The class of rows with these names."""
    columns = {name: property(itemgetter(position)) for position, name in reversed(list(enumerate(names)))}
    return type("Row", (Row,), {**columns, "__slots__": (), "_names": tuple(names)})


def _make_row(names: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return row_class(names)(values)


@frozen
class Written:
    """What a write statement did."""

    matched: int = 0
    """How many documents were there that an update changed, or left as they were, or that a delete removed."""
    modified: int = 0
    """How many of them an update changed."""
    inserted_keys: Sequence[Any] = ()
    """The keys of the documents that an insert made, in order."""
    upserted_keys: Sequence[Any] = ()
    """The keys of the documents that a statement with ``upsert()`` inserted."""

    @property
    def rowcount(self) -> int:
        """How many documents were inserted, matched or removed."""
        return self.matched + len(self.inserted_keys) + len(self.upserted_keys)


class ScalarResult(Generic[T]):
    """The values of one column, in order."""

    def __init__(self, values: Sequence[T]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[T]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, position: int) -> T:
        return self._values[position]

    def all(self) -> list[T]:
        """Every value."""
        return list(self._values)

    def first(self) -> T | None:
        """The first value, or None."""
        return self._values[0] if self._values else None

    def partitions(self, size: int) -> Iterator[list[T]]:
        """Lists of at most `size` of them, in order. Raises `StatementError` for a size below 1."""
        given: object = size
        whole = int(cast("Any", given)) if isinstance(given, np.integer) else size
        count = checked_count("partitions(size)", whole, least=1, most=maxsize)
        return (list(self._values[start : start + count]) for start in range(0, len(self._values), count))

    def one(self) -> T:
        """The only value. Raises `NoResultFound`, `MultipleResultsFound`."""
        if not self._values:
            raise NoResultFound("one result was required and there is none")
        return cast("T", self.one_or_none())

    def one_or_none(self) -> T | None:
        """The only value, or None where there is none. Raises `MultipleResultsFound`."""
        if len(self._values) > 1:
            raise MultipleResultsFound(f"one result was required and there are {len(self._values)}")
        return self.first()


class Result(ScalarResult[T]):
    """The rows of a query, in order."""

    def __init__(self, rows: Sequence[T], names: tuple[str, ...] = ()) -> None:
        super().__init__(rows)
        self._names = names

    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._names

    def scalars(self: Result[tuple[T1, *tuple[Any, ...]]]) -> ScalarResult[T1]:
        """The first column."""
        return ScalarResult([cast("Any", row)[0] for row in self._values])

    def mappings(self) -> ScalarResult[dict[str, Any]]:
        """Each row as a dict."""
        rows = [cast("Row", row) for row in self._values]
        return ScalarResult([dict(zip(row._names, row, strict=True)) for row in rows])  # pyright: ignore[reportPrivateUsage]
