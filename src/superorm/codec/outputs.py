"""Reading the outputs of listeners as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superorm.codec.vectors import decode_vector
from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.containers import AnyType

__all__ = ["output_of"]

_ANY, _ARRAY = AnyType(), ArrayType()


def output_of(stored: Mapping[str, Any]) -> Any:
    """The output that was stored; None where it is not there."""
    output = stored.get("output")
    match stored.get("form"):
        case "vector":
            return decode_vector(output)
        case "array":
            return _ARRAY.from_bson(output)
        case _:
            return _ANY.from_bson(output)
