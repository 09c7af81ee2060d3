"""Mirrored fields in memory: a column of values a field, beside the rows that a filter is to choose from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superorm.schema.vector_spec import FilterField, FilterKind
from superorm.vectors.condition import AllOf, AnyOf, Comparison, Condition, IsNull, OneOf, fields_of
from superorm.vectors.mirror import odd, value

__all__ = ["COLUMN_BYTES", "Columns", "Mask"]

Mask = NDArray[np.bool_]

COLUMN_BYTES = 10
"""Bytes that a field takes for one row, without its texts."""
_TYPES: Mapping[FilterKind, Any] = {"bool": np.bool_, "int": np.int64, "datetime": np.int64, "float": np.float64}
"""Numpy's types of what `superorm.vectors.mirror.fit` gives; texts are numbered."""
_SPARE = 64
"""More texts than twice the rows and so many are not kept: values that change leave some that no row has."""
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Columns:
    """The values of some fields of each row, by the row's number. Not safe for threads by itself."""

    def __init__(self, fields: Sequence[FilterField] = ()) -> None:
        self.fields = tuple(fields)
        self._columns = [_Texts() if field.kind not in _TYPES else _Column(_TYPES[field.kind]) for field in fields]

    def reserve(self, size: int) -> None:
        """Make room for so many rows."""
        for column in self._columns:
            column.reserve(size)

    def put(self, slots: NDArray[np.intp], columns: Mapping[str, Sequence[Any]]) -> None:
        """Set the values of rows by their numbers (n,): as `superorm.vectors.mirror.mirrored` gives them."""
        for number, column in enumerate(self._columns):
            column.put(slots, columns[value(number)], columns[odd(number)])

    def get(self, slot: int) -> tuple[Any, ...]:
        """The values of a row, each with whether it is odd."""
        return tuple(part for column in self._columns for part in column.get(slot))

    def mask(self, condition: Condition, used: int) -> Mask:
        """Which of the first `used` rows pass a condition: (used,). Those that are odd in one of its fields do."""
        passing = self._mask(condition, used)
        for number in fields_of(condition):
            if (column := self._columns[number]).any_odd:
                passing |= column.odd[:used]
        return passing

    def _mask(self, condition: Condition, used: int) -> Mask:
        passing: Mask
        match condition:
            case Comparison(number, sign, given):
                passing = self._columns[number].compare(_SIGNS[sign], given, used)
            case OneOf(number, given, null, excluded):
                column = self._columns[number]
                passing = np.where(column.null[:used], null, column.among(given, used) != excluded)
            case IsNull(number, excluded):
                passing = self._columns[number].null[:used] != excluded
            case AllOf(parts):
                passing = np.logical_and.reduce([self._mask(part, used) for part in parts])
            case AnyOf(parts):
                passing = np.logical_or.reduce([self._mask(part, used) for part in parts])
        return passing


class _Column:
    """Numbers or truth values."""

    def __init__(self, kind: Any) -> None:
        self._values: NDArray[Any] = np.zeros(0, kind)
        self.null: Mask = np.zeros(0, np.bool_)
        self.odd: Mask = np.zeros(0, np.bool_)
        self.any_null = self.any_odd = False
        """Whether a row ever was."""

    def reserve(self, size: int) -> None:
        more = size - len(self.null)
        if more > 0:
            self._values = np.concatenate([self._values, np.zeros(more, self._values.dtype)])
            self.null = np.concatenate([self.null, np.zeros(more, np.bool_)])
            self.odd = np.concatenate([self.odd, np.zeros(more, np.bool_)])

    def put(self, slots: NDArray[np.intp], values: Sequence[Any], odd: Sequence[bool]) -> None:
        self.null[slots] = null = [held is None for held in values]
        self.odd[slots] = odd
        self.any_null, self.any_odd = self.any_null or any(null), self.any_odd or any(odd)
        self._values[slots] = self._held(values)

    def get(self, slot: int) -> tuple[Any, bool]:
        return None if self.null[slot] else self._values[slot].item(), bool(self.odd[slot])

    def compare(self, sign: Callable[[Any, Any], Any], given: Any, used: int) -> Mask:
        """The rows whose value compares so with the given one."""
        return self._there(sign(self._values[:used], given))

    def _there(self, passing: Mask) -> Mask:
        """Those of the first rows that pass and are not null."""
        return passing & ~self.null[: len(passing)] if self.any_null else passing

    def among(self, given: Sequence[Any], used: int) -> Mask:
        """The rows whose value is one of the given ones; anything for null."""
        return np.isin(self._values[:used], self._held(given))

    def _held(self, values: Sequence[Any]) -> NDArray[Any]:
        return np.array([0 if held is None else held for held in values], self._values.dtype)


class _Texts(_Column):
    """Texts, each different one under a number: a condition is asked of each of these once."""

    def __init__(self) -> None:
        super().__init__(np.int32)
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def put(self, slots: NDArray[np.intp], values: Sequence[Any], odd: Sequence[bool]) -> None:
        for text in values:
            if text is not None and text not in self._numbers:
                self._numbers[text] = len(self._texts)
                self._texts.append(text)
        super().put(slots, values, odd)
        if len(self._texts) > 2 * len(self.null) + _SPARE:
            self._forget_unused()

    def get(self, slot: int) -> tuple[Any, bool]:
        return None if self.null[slot] else self._texts[int(self._values[slot])], bool(self.odd[slot])

    def compare(self, sign: Callable[[Any, Any], Any], given: Any, used: int) -> Mask:
        if sign is operator.eq:
            return self._there(self.among([given], used))
        of_each = np.array([sign(text, given) for text in self._texts] or [False], np.bool_)
        return self._there(of_each[self._values[:used]])

    def _forget_unused(self) -> None:
        """Number anew the texts that rows have, or had that are free."""
        used, numbers = np.unique(self._values, return_inverse=True)
        self._texts = [self._texts[number] for number in used.tolist()]
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        self._values = numbers.astype(np.int32)

    def _held(self, values: Sequence[Any]) -> NDArray[Any]:
        """The numbers of texts; -1 for those that no row has."""
        number_of = self._numbers.get
        return np.array([0 if text is None else number_of(text, -1) for text in values], np.int32)
