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


def is_encoded(stored: Any, vector: Vector) -> bool:
    """Whether `stored` is the Binary of the array, of shape (dim,), bit for bit."""
    if not isinstance(stored, Binary) or len(stored) != len(FLOAT32) + 4 * len(vector) or stored.subtype != SUBTYPE:
        return False
    data = vector if vector.dtype is STORED else vector.astype(STORED)
    return stored.startswith(FLOAT32) and stored.endswith(data.tobytes())


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
