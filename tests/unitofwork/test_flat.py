"""The documents of new objects that nobody tracks: those of tracked ones, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import CodecOptions, json_util

from superorm import Document, Embedded, Mapped, Registry, ValidationError, field
from superorm.codec.documents import dump_all
from superorm.codec.flat import FlatDocuments, dump_new
from superorm.schema.mapping import class_map
from superorm.unitofwork.encode import encode_documents, probable_batches
from superorm.unitofwork.flush import Work

registry = Registry()
START = datetime(2024, 2, 3, tzinfo=UTC)


class Spot(Embedded):
    x: Mapped[int]


class Stop(Document, registry=registry):
    __collection__ = "flat_stops"

    name: Mapped[str]
    at: Mapped[datetime]
    id: Mapped[int] = field(primary_key=True)
    spot: Mapped[Spot | None] = field(default=None)
    version: Mapped[int] = field(version=True)


class Key(Document, registry=registry):
    __collection__ = "flat_keys"

    id: Mapped[str] = field(primary_key=True)


STOP = class_map(Stop)


def stop(number: int, **values: Any) -> Stop:
    return Stop(**{"id": number, "name": f"n{number}", "at": START, "spot": Spot(x=number), **values})


def stored(number: int, **values: Any) -> dict[str, Any]:
    """What is to be stored of it, in the order of the fields."""
    document = {"name": f"n{number}", "at": START, "_id": number, "spot": {"x": number}, "version": 1}
    return {**document, **values}


def flat(count: int) -> FlatDocuments:
    found = dump_new(STOP, [stop(number) for number in range(count)])
    assert isinstance(found, FlatDocuments)
    return found


def decoded(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [bson.decode(one.raw, CodecOptions(tz_aware=True)) for one in encode_documents(documents).documents]


def test_documents() -> None:
    found = flat(5)
    expected = [stored(number) for number in range(5)]
    assert (len(found), list(found), list(found)) == (5, expected, expected)  # any number of times
    assert [list(one) for one in found] == [["name", "at", "_id", "spot", "version"]] * 5
    assert found.keys == [0, 1, 2, 3, 4]
    assert Work(STOP, [stop(number) for number in range(5)], found).keys == found.keys


def test_places() -> None:
    found = flat(5)
    expected = [stored(number) for number in range(5)]
    assert [found[place] for place in range(-5, 5)] == expected * 2
    for place in (5, -6):
        with pytest.raises(IndexError):
            found[place]
    bounds = (None, -7, -3, 0, 2, 4, 5, 9)
    for part in (slice(start, stop, step) for start in bounds for stop in bounds for step in (None, 1, 2, -1, -3)):
        assert list(found[part]) == expected[part]
        assert len(found[part]) == len(expected[part])
    assert stored(3) in found
    assert stored(7) not in found


def test_one_field_and_none() -> None:
    found = dump_new(class_map(Key), [Key(id="a"), Key(id="b")])
    assert isinstance(found, FlatDocuments)
    assert list(found) == [{"_id": "a"}, {"_id": "b"}]
    assert list(dump_new(STOP, [])) == []


def test_later_changes_are_not_seen() -> None:
    objects = [stop(1), stop(2)]
    found = dump_new(STOP, objects)
    objects[0].name = "changed"
    assert objects[1].spot is not None
    objects[1].spot.x = 9
    assert list(found) == [stored(1), stored(2)]


def test_what_has_to_be_normalised() -> None:
    late = START + timedelta(microseconds=1)
    objects = [stop(1), stop(2, at=late), stop(3)]
    found = dump_new(STOP, objects)
    assert list(found) == [stored(1), stored(2), stored(3)]
    assert objects[1].at == START


def test_what_cannot_be_stored() -> None:
    wrong: Any = 5
    with pytest.raises(ValidationError, match=r"Stop 2: name cannot be stored: expected str, got int 5") as caught:
        dump_new(STOP, [stop(1), stop(2, name=wrong)])
    assert (caught.value.key, caught.value.field) == (2, "name")


def test_encoded() -> None:
    found = flat(200)
    expected = [stored(number) for number in range(200)]
    assert decoded(found) == expected
    assert decoded(found[50:]) == expected[50:]
    ((start, whole),) = probable_batches(found)
    assert start == 0
    assert whole is found  # no copy of all their values
    assert list(whole) == expected
    assert list(probable_batches(found[:0])) == []
    assert json_util.dumps({"documents": found}) == json_util.dumps({"documents": expected})


def test_same_as_tracked() -> None:
    objects = [stop(number) for number in range(3)]
    assert list(dump_new(STOP, objects)) == dump_all(STOP, objects)
