"""The updates of changed documents: each made when it is asked for, and none of them kept."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import bson
import pytest

from superorm import Document, Embedded, Mapped, Registry, field
from superorm.codec import documents
from superorm.codec.documents import changes_of
from superorm.schema.mapping import class_map
from superorm.unitofwork.encode import encode_operations, probable_batches
from superorm.unitofwork.flush import plan_flush
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.update_ops import UpdateOps
from superorm.unitofwork.writes import Update

registry = Registry()


class Lens(Embedded):
    f: Mapped[float]


class Camera(Document, registry=registry):
    __collection__ = "update_ops_cameras"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    price: Mapped[float]
    lens: Mapped[Lens | None] = field(default=None)
    note: Mapped[str | None] = field(default=None)


class Film(Document, registry=registry):
    __collection__ = "update_ops_films"

    id: Mapped[int] = field(primary_key=True)
    speed: Mapped[int]
    version: Mapped[int] = field(version=True)


class Roll(Document, registry=registry):
    __collection__ = "update_ops_rolls"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]


CAMERA, FILM = class_map(Camera), class_map(Film)


def cameras(count: int) -> list[Camera]:
    stored = [
        {"_id": number, "name": f"n{number}", "price": 1.5, "lens": {"f": 2.8}, "note": None, "x": [number]}
        for number in range(count)
    ]
    return documents.load(CAMERA, stored)


def rename(one: Camera) -> None:
    one.name = "new"


def rename_and_price(one: Camera) -> None:
    one.price, one.name = 2.5, "new"


def focus(one: Camera) -> None:
    assert one.lens is not None
    one.lens.f = 1.4


def forget(one: Camera) -> None:
    del one.note


@pytest.mark.parametrize(
    ("change", "update", "parents"),
    [
        (rename, {"$set": {"name": "new"}}, {}),
        (rename_and_price, {"$set": {"name": "new", "price": 2.5}}, {}),
        (focus, {"$set": {"lens.f": 1.4}}, {"lens": {"$type": "object"}}),
        (forget, {"$unset": {"note": ""}}, {}),
    ],
)
def test_each_is_what_changed(
    change: Callable[[Camera], None], update: dict[str, Any], parents: dict[str, Any]
) -> None:
    loaded = cameras(5)
    for one in loaded[1:]:
        change(one)
    ops = UpdateOps.of(CAMERA, changes_of(CAMERA, loaded))
    expected = [{"q": {"_id": number, **parents}, "u": update} for number in range(1, 5)]
    assert expected == list(ops)
    assert ops == expected
    assert ops == UpdateOps.of(CAMERA, changes_of(CAMERA, loaded))
    assert ops != expected[1:]
    assert (4, expected[0], expected[-1]) == (len(ops), ops[0], ops[-1])
    assert expected[1:3] == list(ops[1:3])
    assert expected[::3] == list(ops[::3])
    with pytest.raises(IndexError):
        ops[4]
    assert [bson.encode(one) for one in expected] == [bytes(one.raw) for one in encode_operations(ops).documents]


def test_versions_are_asked_for() -> None:
    loaded: list[Film] = documents.load(FILM, [{"_id": 1, "speed": 100, "version": 3}, {"_id": 2, "speed": 400}])
    for one in loaded:
        one.speed = 50
    ops = UpdateOps.of(FILM, changes_of(FILM, loaded))
    assert ops == [
        {"q": {"_id": 1, "version": 3}, "u": {"$set": {"speed": 50, "version": 4}}},
        {"q": {"_id": 2, "version": {"$exists": False}}, "u": {"$set": {"speed": 50, "version": 1}}},
    ]


def most_containers(count: int) -> int:
    """How many more objects the garbage collector looks at while so many changes are sent."""
    tracker, most = Tracker(), 0
    for one in tracker.load(class_map(Roll), [{"_id": number, "name": "old"} for number in range(count)]):
        one.name = "new"
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        (write,) = plan_flush(tracker.work({}, tracker.possibly_changed()), transaction=True).writes
        assert isinstance(write, Update)
        for _, batch in probable_batches(write.ops):
            for _ in batch:
                most = max(most, gc.get_count()[0] - before)
    finally:
        gc.enable()
    return most


def test_they_are_not_kept() -> None:
    """While they are sent, there is but one new container a document: its new snapshot."""
    most_containers(10)  # generates functions
    assert 500 <= most_containers(500) < 600
