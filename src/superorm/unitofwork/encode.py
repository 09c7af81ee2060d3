"""Documents as BSON: encoded once, measured, and cut into messages that the server takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import Any, TypeGuard, cast

import bson
from attrs import frozen
from bson import ObjectId
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from superorm.exc import StatementError, ValidationError
from superorm.expr.order import BSON_OPTIONS
from superorm.schema.types.containers import MAX_DEPTH
from superorm.unitofwork.errors import key_in, too_large
from superorm.unitofwork.writes import Insert, Update, Write

__all__ = [
    "CODEC_OPTIONS",
    "MAX_DOCUMENT_BYTES",
    "NAIVE_OPTIONS",
    "REFUSALS",
    "Encoded",
    "check_write",
    "encode_documents",
    "encode_operations",
    "key_batches",
    "probable_batches",
]

CODEC_OPTIONS = BSON_OPTIONS
"""Aware UTC datetimes, standard UUIDs, dates beyond Python's as ``DatetimeMS``."""
NAIVE_OPTIONS = CODEC_OPTIONS.with_options(tz_aware=False)
"""The same with naive datetimes, in UTC."""

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_MESSAGE_BYTES = MAX_DOCUMENT_BYTES
"""What goes into one command: a server takes 48 MB, but PyMongo sends none of more than 16 MiB and 16,382 bytes."""
MAX_MESSAGE_OPERATIONS = 100_000

_KEY_BYTES = MAX_MESSAGE_BYTES // 2
"""How many bytes of keys one read names."""
_OPERATION_OVERHEAD = 8 * 1024
"""What an operation may hold beside a document of the greatest size."""
_CHUNK = 64
"""Documents encoded in one call, which is faster than one by one; together they stay below 2 GiB."""
_HEAD = 4 + len(b"\x04\x00") + 4
"""Where the elements of the array begin in the encoding of ``{"": array}``."""
_ELEMENT_HEADS = [1 + len(str(index)) + 1 for index in range(_CHUNK)]
"""The bytes before each of the array's documents: its type and its index as a C string."""
_OPERATION_DEPTH = 2
"""The levels of an operation above the document's own: ``u`` and an operator."""
_DEEP_BYTES = 7 * MAX_DEPTH
"""What nests deeper takes more bytes."""
_length = Struct("<i").unpack_from
REFUSALS = (BSONError, ArithmeticError, ValueError, TypeError, RecursionError)
"""What `bson` raises of a value that it cannot encode."""


@frozen
class Encoded:
    """Encoded documents or operations, in order, and the size of each in bytes."""

    documents: list[RawBSONDocument]
    sizes: list[int]

    def batches(self) -> Iterator[list[RawBSONDocument]]:
        """The same in runs, each of which fits into one command."""
        start = total = 0
        for end, size in enumerate(self.sizes):
            full = total + size > MAX_MESSAGE_BYTES or end - start == MAX_MESSAGE_OPERATIONS
            if full and end > start:
                yield self.documents[start:end]
                start, total = end, 0
            total += size
        if start < len(self.documents):
            yield self.documents[start:]


def encode_documents(documents: Sequence[Mapping[str, Any]]) -> Encoded:
    """Encode whole documents.

    Raises ``ValidationError`` with the document's ``_id`` and the stored path of the value
    where one cannot be encoded, or the document is over 16 MiB, or nests more than 100 levels.
    """
    encoded, culprit = _encode(documents, MAX_DOCUMENT_BYTES, MAX_DEPTH)
    if culprit is not None:
        document = documents[culprit]
        raise _refusal(document, document.get("_id"), strip=0)
    return encoded


def encode_operations(operations: Sequence[Mapping[str, Any]]) -> Encoded:
    """Encode the elements of an ``update`` or ``delete`` command: filters under ``q``, updates under ``u``.

    Raises as `encode_documents` does; the ``_id`` is the one that the filter names.
    A filter that is too large is a ``StatementError``.
    """
    encoded, culprit = _encode(operations, MAX_DOCUMENT_BYTES + _OPERATION_OVERHEAD, MAX_DEPTH + _OPERATION_DEPTH)
    if culprit is not None:
        operation = operations[culprit]
        raise _refusal(operation, key_in(operation["q"]), strip=1)
    return encoded


def probable_batches(documents: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Sequence[Mapping[str, Any]]]]:
    """Runs of the documents and their starts: as far as the size of some of them tells, each fits into a command."""
    some = documents[:: len(documents) // _CHUNK + 1]
    try:
        size = sum(len(bson.encode(one, codec_options=CODEC_OPTIONS)) for one in some)
    except REFUSALS:
        size = 0
    room = MAX_MESSAGE_BYTES // 2 * len(some) // size if size else MAX_MESSAGE_OPERATIONS
    count = min(max(room, 1), MAX_MESSAGE_OPERATIONS)
    if 0 < len(documents) <= count:
        yield 0, documents  # a copy of `FlatDocuments` is one of all their values
        return
    for start in range(0, len(documents), count):
        yield start, documents[start : start + count]


def key_batches(keys: Sequence[Any], most: int = MAX_MESSAGE_OPERATIONS) -> Iterator[Sequence[Any]]:
    """The keys, or filters, in runs of at most so many that one command can hold."""
    start = size = 0
    for position, key in enumerate(keys):
        more = 32 if type(key) in (ObjectId, int) else len(bson.encode({"": key}, codec_options=CODEC_OPTIONS)) + 16
        if position > start and (size + more > _KEY_BYTES or position - start == most):
            yield keys[start:position]
            start, size = position, 0
        size += more
    if start < len(keys):
        yield keys[start:]


def check_write(write: Write) -> None:
    """Raise as `encode_documents` does where the write cannot be encoded."""
    if isinstance(write, Insert):
        encode_documents(write.documents)
    elif isinstance(write, Update):
        encode_operations(write.ops)


def _encode(documents: Sequence[Mapping[str, Any]], limit: int, depth: int) -> tuple[Encoded, int | None]:
    """The encoded documents, or the index of the first that is refused."""
    encoded: list[RawBSONDocument] = []
    sizes: list[int] = []
    for start in range(0, len(documents), _CHUNK):
        chunk = list(documents[start : start + _CHUNK])
        try:
            data = bson.encode({"": chunk}, codec_options=CODEC_OPTIONS)
        except REFUSALS:
            for index, document in enumerate(chunk, start):
                alone = _encode_one(document)
                if alone is None or len(alone.raw) > limit or _is_deep(bytes(alone.raw), document, depth):
                    return Encoded([], []), index
                encoded.append(alone)
                sizes.append(len(alone.raw))
            continue
        position = _HEAD
        for head in _ELEMENT_HEADS[: len(chunk)]:
            position += head
            size: int = _length(data, position)[0]
            if size > limit:
                return Encoded([], []), len(encoded)
            raw = data[position : position + size]
            if size > _DEEP_BYTES and _is_deep(raw, documents[len(encoded)], depth):
                return Encoded([], []), len(encoded)
            encoded.append(RawBSONDocument(raw))
            sizes.append(size)
            position += size
    return Encoded(encoded, sizes), None


def _encode_one(document: Mapping[str, Any]) -> RawBSONDocument | None:
    try:
        return RawBSONDocument(bson.encode(document, codec_options=CODEC_OPTIONS))
    except REFUSALS:
        return None


def _is_deep(raw: bytes, document: Mapping[str, Any], depth: int) -> bool:
    """Whether documents and arrays nest too deep in it; only where so many may be there is it looked through."""
    if raw.count(b"\3") + raw.count(b"\4") <= depth:
        return False
    level: list[Any] = [document]
    for _ in range(depth + 1):
        parts = itertools.chain.from_iterable(value.values() if _is_mapping(value) else value for value in level)
        level = [part for part in parts if isinstance(part, (dict, list, tuple))]
    return bool(level)


def _refusal(document: Mapping[str, Any], key: Any, strip: int) -> ValidationError | StatementError:
    """The error that says what is wrong with a document, found by encoding its parts one by one.

    `strip` is 1 for operations, whose paths begin with ``q`` or ``u`` and an operator.
    """
    depth = MAX_DEPTH + _OPERATION_DEPTH * strip
    path, reason = _culprit(document, (), depth) or (_largest(document), "takes the document over 16 MiB")
    if strip:
        if path == ("q",):
            return too_large("")
        below = path[2:] if _is_array(document.get("u")) and path[0] == "u" else path[1:]  # of a pipeline a stage
        path = tuple(part for part in below if not part.startswith("$"))
    field = ".".join(path)
    where = "" if strip and key is None else f"document {key!r}, "
    return ValidationError(f"{where}field {field!r}: {reason}", key=key, field=field)


def _culprit(value: Any, path: tuple[str, ...], depth: int) -> tuple[tuple[str, ...], str] | None:
    """The path and the fault of the first value that cannot be encoded."""
    if isinstance(value, RawBSONDocument):
        return None
    if len(path) > depth and (_is_mapping(value) or _is_array(value)):
        return path[:3], f"nested more than {MAX_DEPTH} levels deep"
    if _is_mapping(value):
        for key, part in value.items():
            if fault := _key_fault(key):
                return (*path, ascii(key).strip("'")), fault
            if found := _culprit(part, (*path, key), depth):
                return found
        return None
    if _is_array(value):
        faults = (_culprit(element, (*path, str(index)), depth) for index, element in enumerate(value))
        return next(filter(None, faults), None)
    try:
        bson.encode({"": value}, codec_options=CODEC_OPTIONS)
    except REFUSALS as error:
        return path, _value_fault(value, error)
    return None


def _largest(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The path of the value that takes the most room, one level down in an operation's ``u`` as well."""
    path: tuple[str, ...] = ()
    value: Any = document
    while _is_mapping(value) and value and (not path or path[-1] == "u" or path[-1].startswith("$")):
        key = max(value, key=lambda name: _bytes(value[name]))
        path, value = (*path, key), value[key]
        if key == "u" and _is_array(value) and value:  # a pipeline
            pipeline = cast("Sequence[dict[str, Any]]", value)
            number = max(range(len(pipeline)), key=lambda index: _bytes(pipeline[index]))
            ((operator, value),) = pipeline[number].items()
            path = (*path, str(number), operator)
    return path


def _bytes(value: Any) -> int:
    return len(bson.encode({"": value}, codec_options=CODEC_OPTIONS))


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return "a key that is not a string"
    if "\0" in key:
        return "a key with a NUL character"
    return None if _is_unicode(key) else "a key with a lone surrogate, which is no valid text"


def _value_fault(value: Any, error: Exception) -> str:
    if isinstance(value, int):
        return "an integer of more than 64 bits"
    if isinstance(value, str) and not _is_unicode(value):
        return "text with a lone surrogate, which is not valid Unicode"
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return f"a value of type {name} cannot be stored ({type(error).__name__})"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_array(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)
