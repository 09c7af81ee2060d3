"""The order of BSON values: the server's, which has no use for the types of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import bson
from bson import Binary, Code, CodecOptions, DatetimeMS, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import OLD_BINARY_SUBTYPE, UuidRepresentation
from bson.codec_options import DatetimeConversion

__all__ = ["BSON_OPTIONS", "in_order", "sort_key"]

BSON_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""How superorm reads and writes BSON, and encodes values to compare them."""

_SORTED_BY_PYTHON = ({str}, {int}, {ObjectId})
"""The types whose values Python sorts as the server does, a list of one of them."""


def in_order(values: list[Any]) -> list[Any]:
    """The BSON values of a set in the order in which sets are stored, whatever order they come in.

    Values that the server holds equal are equal here, so that ``{1, 2.0}`` and ``{1.0, 2}`` are in one order.
    """
    if len(values) < 2:
        return values
    return sorted(values) if set(map(type, values)) in _SORTED_BY_PYTHON else sorted(values, key=sort_key)


def sort_key(value: Any) -> tuple[Any, ...]:
    """A key by which Python sorts BSON values as the server does, lists as wholes."""
    if value is None:
        return 1, 0
    if isinstance(value, ObjectId):
        return 7, value.binary
    if isinstance(value, str):
        return _code_key(value) if isinstance(value, Code) else (3, value)
    if isinstance(value, bool):
        return 8, value
    if isinstance(value, (int, float, Decimal128)):
        number: Any = value.to_decimal() if isinstance(value, Decimal128) else value
        return 2, (0, 0) if number != number else (1, number)
    if isinstance(value, DBRef):
        return sort_key(value.as_doc())
    if isinstance(value, Mapping):
        parts = ((name, sort_key(part)) for name, part in cast("Mapping[str, Any]", value).items())
        return 4, tuple((rank, name, part) for name, (rank, part) in parts)
    if isinstance(value, list):
        return 5, tuple(sort_key(item) for item in cast("list[object]", value))
    if isinstance(value, (bytes, UUID)):
        subtype = 4 if isinstance(value, UUID) else value.subtype if isinstance(value, Binary) else 0
        data = value.bytes if isinstance(value, UUID) else bytes(value)
        length = len(data) + 4 * (subtype == OLD_BINARY_SUBTYPE)  # the data of which begin with their length
        return 6, (length, subtype, data)
    if isinstance(value, (datetime, DatetimeMS)):
        return 9, int(value if isinstance(value, DatetimeMS) else DatetimeMS(value))
    if isinstance(value, Timestamp):
        return 10, (value.time, value.inc)
    if isinstance(value, MinKey):
        return 0, 0
    return (127, 0) if isinstance(value, MaxKey) else (50, bson.encode({"": value}, codec_options=BSON_OPTIONS))


def _code_key(value: Code) -> tuple[Any, ...]:
    """After all but MaxKey, first what has no scope; `Code` itself does not hash."""
    return (52, str(value)) if value.scope is None else (53, bson.encode({"": value}, codec_options=BSON_OPTIONS))
