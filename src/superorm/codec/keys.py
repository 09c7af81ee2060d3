"""Keys of documents as strings, equal where the server holds the keys equal, and the server's order of keys."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import bson
from bson import Binary, CodecOptions, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import UuidRepresentation
from bson.codec_options import DatetimeConversion
from bson.decimal128 import create_decimal128_context

__all__ = ["decode_key", "encode_key", "sort_key"]

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


def encode_key(value: Any) -> str:
    """An ``_id`` as hexadecimal digits: its BSON type and bytes, numbers of one value written in one way.

    So 1, 1.0 and Int64(1) give one string, True another, as the server compares them; also inside embedded documents.
    """
    if type(value) is ObjectId:
        return "07" + value.binary.hex()
    data = bson.encode({"": _canonical(value)}, codec_options=_OPTIONS)
    return (data[4:5] + data[6:-1]).hex()


def decode_key(key: str) -> Any:
    """A value that the server holds equal to the one that was encoded."""
    raw = bytes.fromhex(key)
    data = raw[:1] + b"\0" + raw[1:] + b"\0"
    return _decode(struct.pack("<i", len(data) + 4) + data, codec_options=_OPTIONS)[""]


_decode = cast("Any", bson).decode


def _canonical(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return Int64(value)
    if isinstance(value, float):
        return _number(Decimal(value))
    if isinstance(value, Decimal128):
        return _number(value.to_decimal())
    if isinstance(value, DBRef):
        return _canonical(value.as_doc())
    if isinstance(value, Mapping):
        return {name: _canonical(item) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[object]", value)]
    return value


def _number(value: Decimal) -> Int64 | float | Decimal128:
    if value.is_nan():
        return float("nan")
    if value.is_infinite():
        return float(value)
    if value.copy_abs() < 1 << 64 and value == value.to_integral_value() and -(1 << 63) <= value < 1 << 63:
        return Int64(int(value))
    double = float(value)
    if Decimal(double) == value:
        return double
    return Decimal128(value.normalize(create_decimal128_context()))


def sort_key(value: Any) -> tuple[Any, ...]:
    """A key by which Python sorts ``_id`` values as the server does."""
    rank, comparable = _rank(value)
    return rank, comparable


def _rank(value: Any) -> tuple[int, Any]:
    if value is None:
        return 1, 0
    if isinstance(value, ObjectId):
        return 7, value.binary
    if isinstance(value, str):
        return 3, value
    if isinstance(value, bool):
        return 8, value
    if isinstance(value, (int, float, Decimal128)):
        number: Any = value.to_decimal() if isinstance(value, Decimal128) else value
        return 2, (0, 0) if number != number else (1, number)
    if isinstance(value, DBRef):
        return _rank(value.as_doc())
    if isinstance(value, Mapping):
        parts = ((name, _rank(part)) for name, part in cast("Mapping[str, Any]", value).items())
        return 4, tuple((rank, name, part) for name, (rank, part) in parts)
    if isinstance(value, list):
        return 5, tuple(_rank(item) for item in cast("list[object]", value))
    if isinstance(value, (bytes, UUID)):
        subtype = 4 if isinstance(value, UUID) else value.subtype if isinstance(value, Binary) else 0
        data = value.bytes if isinstance(value, UUID) else bytes(value)
        return 6, (len(data), subtype, data)
    if isinstance(value, (datetime, DatetimeMS)):
        return 9, int(value if isinstance(value, DatetimeMS) else DatetimeMS(value))
    if isinstance(value, Timestamp):
        return 10, (value.time, value.inc)
    if isinstance(value, MinKey):
        return 0, 0
    return (127, 0) if isinstance(value, MaxKey) else (50, encode_key(value))
