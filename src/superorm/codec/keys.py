"""Keys of documents as strings, equal where the server holds the keys equal, and the server's order of keys."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias, cast

import bson
from bson import DBRef, Decimal128, Int64, ObjectId
from bson.decimal128 import create_decimal128_context

from superorm.expr.order import BSON_OPTIONS, sort_key

__all__ = ["HeldKey", "decode_key", "encode_key", "held_key", "held_keys", "key_of_held", "sort_key"]

HeldKey: TypeAlias = int | bytes
"""An encoded key as it is held in memory: whole numbers as they are, others as the bytes of their digits."""

_WHOLE = frozenset({int, Int64})


def encode_key(value: Any) -> str:
    """An ``_id`` as hexadecimal digits: its BSON type and bytes, numbers of one value written in one way.

    So 1, 1.0 and Int64(1) give one string, True another, as the server compares them; also inside embedded documents.
    """
    if type(value) is ObjectId:
        return "07" + value.binary.hex()
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return "12" + value.to_bytes(8, "little", signed=True).hex()
    if type(value) is str:
        text = value.encode()
        return f"02{(len(text) + 1).to_bytes(4, 'little').hex()}{text.hex()}00"
    data = bson.encode({"": _canonical(value)}, codec_options=BSON_OPTIONS)
    return (data[4:5] + data[6:-1]).hex()


def decode_key(key: str) -> Any:
    """A value that the server holds equal to the one that was encoded."""
    raw = bytes.fromhex(key)
    if raw[0] == 0x12:
        return int.from_bytes(raw[1:], "little", signed=True)
    if raw[0] == 0x07:
        return ObjectId(raw[1:])
    data = raw[:1] + b"\0" + raw[1:] + b"\0"
    return _decode(struct.pack("<i", len(data) + 4) + data, codec_options=BSON_OPTIONS)[""]


_decode = cast("Any", bson).decode


def held_key(key: str) -> HeldKey:
    """An encoded key as it is held."""
    raw = bytes.fromhex(key)
    return int.from_bytes(raw[1:], "little", signed=True) if raw[0] == 0x12 else raw


def key_of_held(held: HeldKey) -> str:
    """The key that was held."""
    return held.hex() if isinstance(held, bytes) else "12" + held.to_bytes(8, "little", signed=True).hex()


def held_keys(ids: Sequence[Any]) -> Sequence[HeldKey]:
    """The same as `held_key` of each encoded ``_id``, in less time for numbers and ObjectIds."""
    kinds = set(map(type, ids))
    if kinds <= _WHOLE:
        return ids
    if kinds == {ObjectId}:
        return [b"\7" + id.binary for id in ids]
    return [held_key(encode_key(id)) for id in ids]


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
