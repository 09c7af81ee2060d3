"""Rows and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

from superorm.exc import MultipleResultsFound, NoResultFound

__all__ = ["Result", "Row", "ScalarResult", "row_class"]

T = TypeVar("T")


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


class ScalarResult(Generic[T]):
    """The values of one column, in order."""

    def __init__(self, values: Sequence[T]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[T]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def all(self) -> list[T]:
        """Every value."""
        return list(self._values)

    def first(self) -> T | None:
        """The first value, or None."""
        return self._values[0] if self._values else None

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

    def scalars(self) -> ScalarResult[Any]:
        """The first column."""
        return ScalarResult([cast("Any", row)[0] for row in self._values])

    def mappings(self) -> list[dict[str, Any]]:
        """Each row as a dict."""
        return [dict(zip(cast("Row", row)._names, cast("Row", row), strict=True)) for row in self._values]  # pyright: ignore[reportPrivateUsage]
