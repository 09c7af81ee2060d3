"""Types of numpy arrays: vectors, and arrays of any shape."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from bson import Binary

from superorm.expr.narrow import is_list
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.vector_binary import (
    FLOAT32,
    NATIVE,
    STORED,
    SUBTYPE,
    Vector,
    decode_vector,
    encode_vector,
    is_encoded,
)

__all__ = ["ArrayType", "VectorType"]

_TYPE, _PADDING = FLOAT32
_STORABLE = "biufcmMSU"
"""The kinds of dtypes that their name and bytes tell all about."""


def _is_numeric(array: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether real numbers are in it, as far as its dtype tells; Python's own are looked at."""
    kind = array.dtype.kind
    return not any(isinstance(item, (str, bytes, bool)) for item in array.flat) if kind == "O" else kind in "iufV"


class ArrayType(BsonType):
    """A numpy array of any shape that is no vector field, stored as ``{dtype, shape, data}``."""

    name = "numpy array"
    reads = frozenset({dict})
    hashable = False

    def from_bson(self, value: Any) -> Any:
        try:
            dtype = np.dtype(cast("str", value["dtype"]))
            if dtype.kind in _STORABLE:
                return np.frombuffer(value["data"], dtype).reshape(value["shape"]).copy()
        except (TypeError, KeyError, ValueError):
            pass
        raise Misfit(value, self.name)

    def beside(self, value: object) -> Any:
        return self.to_bson(value) if isinstance(value, np.ndarray) else super().beside(value)

    def to_bson(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            raise Misfit(value, self.name)
        if isinstance(value, np.ma.MaskedArray):
            raise Misfit(value, f"{self.name} without a mask, which would be lost")
        array = cast("np.ndarray[Any, np.dtype[Any]]", value)
        if array.dtype.kind not in _STORABLE:
            raise Misfit(value, f"{self.name} of numbers, texts or times, not of {array.dtype}")
        return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


class VectorType(BsonType):
    """A float32 array of shape (dim,), stored as BSON Binary of subtype 9."""

    reads = frozenset({Binary, list})
    hashable = False

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.name = f"vector of {dim} numbers"
        self._shape = (dim,)
        self._size = 2 + 4 * dim

    def from_bson(self, value: Any) -> Any:
        if type(value) is Binary and len(value) == self._size and value.subtype == SUBTYPE and value[:2] == FLOAT32:
            return np.ndarray(self._shape, STORED, value, 2).astype(NATIVE)  # as decode_vector does, but quicker
        vector = decode_vector(value)
        if vector is None or vector.shape != (self.dim,):
            raise Misfit(value, self.name)
        return vector

    def beside(self, value: object) -> Any:
        """Vectors may be stored as arrays of doubles too, so that any list can be asked for."""
        if hasattr(value, "__array__"):
            return self.to_bson(value)
        try:
            return self.to_bson(value) if is_list(value) else super().beside(value)
        except Misfit:
            return super().beside(value)

    def to_bson(self, value: Any) -> Binary:
        if type(value) is np.ndarray and value.dtype is NATIVE and value.shape == self._shape:
            vector = cast("Vector", value)
            if np.logical_and.reduce(np.isfinite(vector)):  # as below, but quicker
                return encode_vector(vector)
        try:
            given = np.asarray(value)
            if not _is_numeric(given) or isinstance(value, np.ma.MaskedArray):
                raise Misfit(value, self.name)
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
                vector = given.astype(np.float32, copy=False)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last by torch, of a tensor with a gradient
            raise Misfit(value, self.name) from None
        if vector.shape != (self.dim,):
            raise Misfit(value, f"{self.name}, not of shape {vector.shape}")
        if not np.isfinite(vector).all():
            raise Misfit(value, f"{self.name}, all finite")
        return encode_vector(vector)

    def unchanged(self, value: Any, raw: Any) -> bool:
        if type(raw) is Binary and len(raw) == self._size and type(value) is np.ndarray and value.dtype is STORED:
            try:  # as below, but quicker
                data: Any = value
                as_read = value.ndim == 1 and len(value) == self.dim and raw.endswith(data)
                if as_read and raw[0] == _TYPE and raw[1] == _PADDING and raw.subtype == SUBTYPE:
                    return True
            except ValueError:  # it is not contiguous
                pass
        if is_encoded(raw, value):
            return True  # also what could not be stored: only read, it is no change
        before = decode_vector(raw)
        if before is None:
            return False
        stored = encode_vector(before)
        return is_encoded(stored, value) or super().unchanged(value, stored)
