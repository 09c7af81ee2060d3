"""Reading the outputs of listeners as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superorm.codec.vectors import decode_vector
from superorm.exc import ValidationError
from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.base import Misfit
from superorm.schema.types.containers import AnyType

__all__ = ["output_of"]

_ANY, _ARRAY = AnyType(), ArrayType()


def output_of(stored: Mapping[str, Any]) -> Any:
    """The output that was stored; None where it is not there. Raises `ValidationError` for what nobody stores so."""
    output = stored.get("output")
    if output is None:
        return None
    try:
        match stored.get("form"):
            case "vector":
                vector = decode_vector(output)
                if vector is None:
                    raise Misfit(output, "a vector")
                return vector
            case "array":
                return _ARRAY.from_bson(output)
            case _:
                return _ANY.from_bson(output)
    except Misfit as misfit:
        of: Mapping[str, Any] = stored.get("_id") or {}
        name, key = of.get("listener"), of.get("key")
        whose = "" if name is None else f" of the listener {name!r} version {of.get('version')} for {key!r}"
        raise ValidationError(
            f"the stored output{whose} was changed by another program, and cannot be read: {misfit.describe()}; "
            "db.rebuild(...) of the listener computes it anew",
            component=name,
            key=key,
        ) from misfit
