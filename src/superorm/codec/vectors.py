"""Many stored vectors at once; one at a time: `schema.vector_binary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from bson import Binary
from numpy.typing import NDArray

from superorm.schema.vector_binary import FLOAT32, NATIVE, STORED, SUBTYPE, Vector, decode_vector, encode_vector

__all__ = [
    "Matrix",
    "Vector",
    "as_float32",
    "decode_rows",
    "decode_vector",
    "encode_vector",
    "real_float32",
    "value_at",
    "values_at",
]

_NO_NUMBERS = frozenset("cmMSU")
"""Kinds of arrays that numpy would turn into float32, though they hold complex numbers, times or texts."""

Matrix: TypeAlias = NDArray[np.float32]
"""Rows of float32, shape (n, dim)."""


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where it is missing."""
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(name)
    return value


def values_at(documents: Sequence[Mapping[str, Any]], path: str) -> list[Any]:
    """The value of each document at a dotted path; None where it is missing."""
    if "." in path:
        return [value_at(document, path) for document in documents]
    return [document.get(path) for document in documents]


def as_float32(numbers: Any) -> NDArray[np.float32] | None:
    """An array of any shape, as it is where it is one of float32; None for what is no array of numbers."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(numbers, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last by torch, of a tensor with a gradient
        return None


def real_float32(given: Any) -> NDArray[np.float32] | None:
    """The same in float32, infinite where that is too small for it; None for what is no array of real numbers."""
    try:
        wide = np.asarray(given)
        if wide.dtype.kind not in _NO_NUMBERS:
            with np.errstate(over="ignore"):
                return wide.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last by torch, of a tensor with a gradient
        pass
    return None


def decode_rows(values: Sequence[Any], dim: int) -> tuple[Matrix, list[int]]:
    """The vectors of `dim` numbers among stored values: rows of shape (m, dim), and the position of each in `values`.

    What is no vector, or has another dimension, is left out.
    """
    size = len(FLOAT32) + 4 * dim
    if values and all(
        type(v) is Binary and len(v) == size and v[:2] == FLOAT32 and v.subtype == SUBTYPE for v in values
    ):
        raw = np.frombuffer(b"".join(values), np.uint8).reshape(-1, size)
        numbers = raw[:, len(FLOAT32) :].copy()  # one copy of all is quicker than a slice of each
        return numbers.view(STORED).astype(NATIVE, copy=False), list(range(len(values)))
    rows: list[Vector] = []
    positions: list[int] = []
    for position, value in enumerate(values):
        vector = decode_vector(value)
        if vector is not None and vector.size == dim:
            rows.append(vector)
            positions.append(position)
    return np.array(rows, np.float32).reshape(len(rows), dim), positions
