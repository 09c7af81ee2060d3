"""Encoding documents once, and cutting them into messages."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from superorm.exc import ValidationError
from superorm.unitofwork import encode
from superorm.unitofwork.encode import CODEC_OPTIONS, Encoded, encode_documents, encode_operations


@pytest.mark.parametrize("number", [0, 1, 10, 63, 64, 65, 100, 1000])
def test_encodes_each_document(number: int) -> None:
    """The bytes are those of encoding one by one, and so are the sizes."""
    documents = [{"_id": i, "text": "x" * (i % 7), "n": {"a": [i, None]}} for i in range(number)]
    expected = [bson.encode(document, codec_options=CODEC_OPTIONS) for document in documents]
    encoded = encode_documents(documents)
    assert expected == [document.raw for document in encoded.documents]
    assert [len(data) for data in expected] == encoded.sizes


def test_keeps_encoded_documents() -> None:
    """A document that is encoded already goes through, beside ordered ones."""
    raw = RawBSONDocument(bson.encode({"_id": 1}))
    assert [raw.raw, raw.raw] == [d.raw for d in encode_documents([raw, OrderedDict(_id=1)]).documents]


def test_a_chunk_too_large_for_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the chunk cannot be encoded at once, but each document can, each is."""
    calls: list[Any] = []

    def refuse_chunks(document: Any, **options: Any) -> bytes:
        calls.append(document)
        if "" in document:
            raise OverflowError("over 2 GiB")
        return real(document, **options)

    real = bson.encode
    monkeypatch.setattr(bson, "encode", refuse_chunks)
    encoded = encode_documents([{"_id": 1}, {"_id": 2}])
    assert 3 == len(calls)
    assert [{"_id": 1}, {"_id": 2}] == [dict(document) for document in encoded.documents]


def test_messages_are_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs stay within the bytes and the number that a message may have, and keep the order."""
    monkeypatch.setattr(encode, "MAX_MESSAGE_BYTES", 100)
    monkeypatch.setattr(encode, "MAX_MESSAGE_OPERATIONS", 3)
    sizes = [60, 40, 1, 99, 1, 1, 1, 1, 100, 100]
    documents: list[Any] = list(range(len(sizes)))
    assert [[0, 1], [2, 3], [4, 5, 6], [7], [8], [9]] == list(Encoded(documents, sizes).batches())
    assert [[0], [1]] == list(Encoded(documents[:2], [101, 102]).batches())
    assert [] == list(Encoded([], []).batches())


def test_the_first_bad_document_is_named() -> None:
    """The error tells the first of several, also in a later chunk."""
    documents: list[dict[str, Any]] = [{"_id": i} for i in range(200)]
    documents[150]["a"] = {"b": [0, 2**64]}
    documents[170]["a"] = object()
    with pytest.raises(ValidationError, match=r"document 150, field 'a\.b\.1'.*64 bits"):
        encode_documents(documents)


def test_endless_nesting() -> None:
    """A list that contains itself is refused by its path."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match=r"field 'a\.0\.0': nested"):
        encode_documents([{"_id": 1, "a": endless}])


def test_too_large() -> None:
    """The largest field is named; the limit itself is allowed."""
    room = encode.MAX_DOCUMENT_BYTES - len(bson.encode({"_id": 1, "s": 1, "a": b""}))
    encode_documents([{"_id": 1, "s": 1, "a": b"x" * room}])
    with pytest.raises(ValidationError, match=r"document 1, field 'a': .*16 MiB"):
        encode_documents([{"_id": 1, "s": 1, "a": b"x" * (room + 1)}])


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ({"q": {"_id": 1}, "u": {"$set": {"a": 1, "b.c": [2**64]}}}, "b.c.0"),
        ({"q": {"_id": 1, "v": 2**64}, "u": {"$inc": {"v": 1}}}, "v"),
        ({"q": {"_id": 1}, "u": [{"$set": {"b": "\ud800"}}]}, "b"),
        ({"q": {"_id": 1}, "u": {"$set": {"s": 1, "large": "x" * (17 << 20)}}}, "large"),
    ],
)
def test_operations_name_the_stored_path(operation: dict[str, Any], field: str) -> None:
    """The path of an update's value has no operator in it, and the key is the filter's."""
    with pytest.raises(ValidationError) as caught:
        encode_operations([{"q": {"_id": 0}, "u": {"$set": {"a": 1}}}, operation])
    assert (1, field) == (caught.value.key, caught.value.field)
