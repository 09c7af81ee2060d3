"""Literals as plain data that MongoDB and JSON hold, and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import numpy as np
from bson import Binary, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp

from superorm.exc import StatementError
from superorm.expr.literals import literal
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.reprs import typed_repr

__all__ = ["LITERAL_TYPES", "MAX_DEPTH", "Refusal", "decode_literal", "encode_literal"]

MAX_DEPTH = 200
"""How deep values, and expressions, may be nested in stored statements."""

_SCALARS = frozenset({type(None), bool, int, float, str, bytes, ObjectId, Decimal128, MinKey, MaxKey, Timestamp})
_DTYPES = frozenset({"<f2", "<f4", "<f8", "|i1", "|u1", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8"})


class Refusal(Exception):
    """Stored data that no statement gave; `path` leads to it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []

    def within(self, step: str | int) -> Refusal:
        """The same, seen from one level up."""
        self.path.insert(0, f"[{step}]" if isinstance(step, int) else f".{step:.40}")
        return self


def _text(data: object) -> str:
    if type(data) is not str:
        raise Refusal(f"expected a text, not {typed_repr(data)}")
    return data


def _whole(data: object) -> int:
    if type(data) not in (int, Int64) or not -(2**63) <= cast("int", data) < 2**63:
        raise Refusal(f"expected a whole number of 64 bits, not {typed_repr(data)}")
    return int(cast("int", data))


def _fields(data: object, *kinds: type) -> list[Any]:
    if not is_list(data) or [type(item) for item in data] != list(kinds):
        raise Refusal(f"expected a list of {', '.join(kind.__name__ for kind in kinds)}, not {typed_repr(data)}")
    return data


def _binary(data: object) -> Binary:
    subtype, content = _fields(data, int, bytes)
    return Binary(content, subtype)


def _array_data(array: np.ndarray[Any, Any]) -> list[Any]:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if array.ndim != 1 or array.dtype.str not in _DTYPES:
        raise StatementError(f"an array of {array.dtype} and shape {array.shape} is no vector and cannot be stored")
    return [array.dtype.str, array.tobytes()]


def _array(data: object) -> np.ndarray[Any, Any]:
    kind, content = _fields(data, str, bytes)
    if kind not in _DTYPES:
        raise Refusal(f"expected one of the types {', '.join(sorted(_DTYPES))}, not {kind!r}")
    return np.frombuffer(content, kind).copy()


_TAGGED: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat, lambda data: datetime.fromisoformat(_text(data))),
    DatetimeMS: ("datetime_ms", int, lambda data: DatetimeMS(_whole(data))),
    UUID: ("uuid", str, lambda data: UUID(_text(data))),
    Int64: ("int64", int, lambda data: Int64(_whole(data))),
    Binary: ("binary", lambda value: [value.subtype, bytes(value)], _binary),
    np.ndarray: ("array", _array_data, _array),
}
"""Of types that do not come back from MongoDB and JSON as they went: a tag, and the ways there and back.

A time keeps its microseconds as a text.
"""

_DECODERS = {tag: decode for tag, _, decode in _TAGGED.values()}

LITERAL_TYPES = frozenset({*_SCALARS, *_TAGGED, list, dict} - {np.ndarray})
"""The types of decoded values that may stand as literals."""


def encode_literal(value: object, depth: int = 0) -> Any:
    """A BSON value as data. Lists and dicts are tagged too, dicts as pairs, so that no key of theirs is one here.

    Raises `StatementError` for anything else.
    """
    kind = datetime if isinstance(value, datetime) else type(value)
    if kind in _SCALARS:
        return value
    if depth > MAX_DEPTH:
        raise StatementError(f"a value nested more than {MAX_DEPTH} levels deep cannot be stored")
    if is_list(value):
        return {"list": [encode_literal(item, depth + 1) for item in value]}
    if is_dict(value):
        return {"dict": [[key, encode_literal(item, depth + 1)] for key, item in value.items()]}
    if kind not in _TAGGED:
        raise StatementError(f"a value of type {kind.__name__} cannot be stored with a statement: {value!r:.80}")
    tag, encode, _ = _TAGGED[kind]
    return {tag: encode(value)}


def decode_literal(data: object, depth: int = 0) -> Any:
    """The BSON value, or the array, of such data. Raises `Refusal` for anything else."""
    kind = type(data)
    if kind is Int64:  # a long int that came from MongoDB
        return int(cast("int", data))
    if kind in _SCALARS:
        return _checked(data)
    if depth > MAX_DEPTH:
        raise Refusal(f"nested more than {MAX_DEPTH} levels deep")
    if not is_dict(data) or len(data) != 1:
        raise Refusal(f"expected a value, or a dict that is one by a single tag, not {typed_repr(data)}")
    ((tag, content),) = data.items()
    try:
        return _decode_tagged(tag, content, depth)
    except Refusal as refusal:
        raise refusal.within(tag) from None
    except (StatementError, ValueError, OverflowError) as error:  # of dates, UUIDs, texts and numbers that are none
        raise Refusal(str(error)).within(tag) from error


def _decode_tagged(tag: str, content: Any, depth: int) -> Any:
    if tag in _DECODERS:
        value = _DECODERS[tag](content)
        return value if tag == "array" else literal(value)
    if tag not in ("list", "dict"):
        raise Refusal(f"unknown tag {tag!r:.60}")
    if not is_list(content):
        raise Refusal(f"expected a list, not {typed_repr(content)}")
    values: list[Any] = []
    for position, item in enumerate(content):
        if tag == "dict" and not (is_list(item) and len(item) == 2):
            raise Refusal(f"expected a key and a value, not {typed_repr(item)}").within(position)
        try:
            value = decode_literal(item if tag == "list" else item[1], depth + 1)
        except Refusal as refusal:
            raise refusal.within(position) from None
        if isinstance(value, np.ndarray):
            raise Refusal("an array cannot stand in a list or dict").within(position)
        values.append(value)
    return values if tag == "list" else literal(dict(zip((_text(item[0]) for item in content), values, strict=True)))


def _checked(value: Any) -> Any:
    try:
        return literal(value)
    except StatementError as error:  # an int or a text that BSON cannot hold
        raise Refusal(str(error)) from None
