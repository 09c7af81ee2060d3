"""float32 vectors as BSON Binary of subtype 9, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from bson import Binary
from numpy.typing import NDArray

from superorm.expr.narrow import is_list

__all__ = ["FLOAT32", "NATIVE", "STORED", "SUBTYPE", "Vector", "decode_vector", "encode_vector", "is_encoded"]

Vector: TypeAlias = NDArray[np.float32]

SUBTYPE = 9
FLOAT32 = b"\x27\x00"  # element type FLOAT32, no padding (BSON specification, binary vector)
STORED = np.dtype("<f4")
NATIVE = np.dtype(np.float32)


def encode_vector(vector: Vector) -> Binary:
    """The Binary of a float32 array of shape (dim,)."""
    return Binary(FLOAT32 + vector.astype(STORED, copy=False).tobytes(), SUBTYPE)


def is_encoded(stored: object, vector: object) -> bool:
    """Whether `stored` is the Binary of an array as it is read, float32 of shape (dim,), bit for bit."""
    if type(stored) is not Binary or type(vector) is not np.ndarray or vector.dtype != NATIVE or vector.ndim != 1:
        return False
    if len(stored) != len(FLOAT32) + vector.nbytes:
        return False
    data: Any = vector if NATIVE is STORED else vector.astype(STORED)
    try:
        same = stored.endswith(data)  # without a copy
    except ValueError:  # as it is not contiguous
        same = stored.endswith(data.tobytes())
    return same and stored[:2] == FLOAT32 and stored.subtype == SUBTYPE


def decode_vector(value: Any) -> Vector | None:
    """A float32 array of shape (dim,) of its own; None where the stored value is no vector.

    Arrays of numbers, as other programs write them, are read too.
    """
    if isinstance(value, Binary):
        if value.subtype == SUBTYPE and value[:2] == FLOAT32 and len(value) % 4 == 2:
            return np.frombuffer(value, STORED, offset=2).astype(NATIVE)
        return None
    if is_list(value) and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        with np.errstate(over="ignore"):
            return np.array(value, np.float32)
    return None
