"""Scalar fields of documents as columns of a table, beside the vectors. Nothing here does I/O.

Per field there are two columns: ``f0`` holds its value, null where it is null or missing,
and ``odd0`` tells that the document holds something that the column has no room for:
another type, an array, NaN, or a number that the column's type cannot hold exactly.
Of such a row nothing is known, so it passes every condition, and its document decides.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from attrs import frozen
from bson import DatetimeMS, ObjectId

from superorm.codec.keys import encode_key
from superorm.codec.vectors import Matrix, decode_rows, values_at
from superorm.expr.narrow import is_list
from superorm.schema.vector_spec import FilterField, FilterKind, VectorSpec
from superorm.vectors.scores import longest, prepare

__all__ = ["Columns", "TableRows", "fit", "mirrored", "odd", "projection", "table_rows", "value", "without_parts"]

Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""The values of each column, by its name."""

_INT64 = 2**63
_EXACT = 2**53
"""Up to this size every whole number is a float64."""


@frozen
class TableRows:
    """What a table holds of some documents."""

    keys: list[str]
    """Canonical."""
    rows: Matrix
    """Their vectors (n, dim), prepared."""
    columns: Columns
    norm: float
    """The length of the longest row."""


def value(number: int) -> str:
    """The name of the column with the values of a table's field of this number."""
    return f"f{number}"


def odd(number: int) -> str:
    """The name of the column that tells where the other says nothing."""
    return f"odd{number}"


def table_rows(
    spec: VectorSpec, documents: Sequence[Mapping[str, Any]], fields: Sequence[FilterField] = ()
) -> TableRows:
    """The rows of those documents whose vectors can be ranked."""
    rows, positions = decode_rows(values_at(documents, spec.path), spec.dim)
    rows, usable = prepare(rows, spec.metric)
    kept = [documents[position] for position, use in zip(positions, usable, strict=True) if use]
    rows = rows[usable]
    keys = [encode_key(document["_id"]) for document in kept]
    return TableRows(keys, rows, mirrored(kept, fields), longest(rows))


def mirrored(documents: Sequence[Mapping[str, Any]], fields: Sequence[FilterField]) -> dict[str, list[Any]]:
    """The columns of documents, of which at least the fields were read."""
    columns: dict[str, list[Any]] = {}
    for number, field in enumerate(fields):
        names = field.path.split(".")
        found = [_at(document, names) for document in documents]
        fitted = [held if held is None else fit(field.kind, held) for held in found]
        columns[value(number)] = fitted
        columns[odd(number)] = [fits is None and held is not None for fits, held in zip(fitted, found, strict=True)]
    return columns


def fit(kind: FilterKind, held: object) -> bool | int | float | str | None:
    """A value as a column of this kind holds it, so that MongoDB and the column order alike; None where it cannot.

    Dates are milliseconds since 1970, as BSON has them; an ``ObjectId`` is its hexadecimal digits.
    """
    match kind:
        case "bool":
            return held if isinstance(held, bool) else None
        case "int":
            return _whole(held)
        case "float":
            return _real(held)
        case "str":
            return held if type(held) is str else None
        case "datetime":
            if isinstance(held, dt.datetime):
                held = DatetimeMS(held)
            return _whole(int(held)) if isinstance(held, DatetimeMS) else None
        case "ObjectId":
            return str(held) if isinstance(held, ObjectId) else None


def projection(spec: VectorSpec, fields: Iterable[FilterField], *, vector: bool = True) -> dict[str, int]:
    """What is to be read of documents; a part of what is read anyway is not named, which the server refuses."""
    paths = without_parts([*([spec.path] if vector else []), *(field.path for field in fields)])
    return dict.fromkeys(paths, 1)


def without_parts(paths: Iterable[str]) -> list[str]:
    """The paths, in order, without those of parts of what others name."""
    named = {*paths}
    return [path for path in sorted(named) if not any(path.startswith(f"{other}.") for other in named)]


def _at(document: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value at a path; an array in the way of it, into whose elements MongoDB looks. Below all else is nothing."""
    held: Any = document
    for name in names:
        if not isinstance(held, Mapping):
            return [held] if is_list(held) else None
        held = cast("Mapping[str, Any]", held).get(name)
    return held


def _whole(held: object) -> int | None:
    if isinstance(held, bool) or not isinstance(held, int | float) or not math.isfinite(held):
        return None
    whole = int(held)
    return whole if whole == held and -_INT64 < whole < _INT64 else None


def _real(held: object) -> float | None:
    if isinstance(held, bool) or not isinstance(held, int | float) or math.isnan(held):
        return None
    if isinstance(held, int) and abs(held) > _EXACT:
        return None
    return float(held) + 0.0  # the column tells -0.0 from 0.0
