"""What a flush writes, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import ValidationError
from superorm.schema.mapping import class_map
from superorm.schema.vector_binary import encode_vector
from superorm.schema.vector_spec import MirroredPath, VectorSpec
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Delete, Insert, Update, UpdateOp
from tests.unitofwork.classes import Actor, Film, Poster, Tag, stored

SPEC = VectorSpec("film", "embedding", 2)


def plan_of(tracker: Tracker) -> FlushPlan:
    """What a flush of the session would do."""
    return plan_flush(tracker.work(tracker.new_by_class(), tracker.possibly_changed()))


def test_nothing_to_do() -> None:
    """A session in which nothing changed writes nothing, though all was read."""
    tracker = Tracker()
    for film in tracker.load(class_map(Film), [stored(1), stored(2, genres=["a"])]):
        assert film.genres is not None
        assert film.embedding is None
    plan = plan_of(tracker)
    assert not plan
    assert ([], {}, [], []) == (plan.writes, plan.touched, plan.inserted, plan.updated)


def test_inserts_then_updates_then_deletes() -> None:
    """The order of writes, of all classes, whatever the order of the calls."""
    tracker = Tracker()
    changed, gone = tracker.load(class_map(Film), [stored(1), stored(2)])
    tracker.delete(gone)
    changed.year = 1995
    changed.genres.append("Heist")
    new, tag = Film(id=3, title="new", lead=Actor(name="Al")), Tag(word="t")
    tracker.add(tag)
    tracker.add(new)
    document = {
        "_id": 3,
        "title": "new",
        "y": None,
        "genres": [],
        "lead": {"name": "Al", "born": 1900},
        "cast": [],
        "embedding": None,
    }
    expected = [
        Insert("tag", [{"_id": tag.id, "word": "t"}]),
        Insert("film", [document]),
        Update("film", [UpdateOp(q={"_id": 1}, u={"$set": {"y": 1995, "genres": ["Heist"]}})]),
        Delete("film", [{"_id": 2}]),
    ]
    assert expected == plan_of(tracker).writes


def test_a_key_that_goes_and_comes_again() -> None:
    """A deletion whose key is inserted again goes first, also where another class of the collection inserts it."""
    tracker = Tracker()
    one, two, _ = tracker.load(class_map(Film), [stored(1), stored(2), stored(3)])
    tracker.delete(one)
    tracker.delete(two)
    tracker.add(Film(id=1, title="again"))
    poster = Poster(id=2)
    tracker.add(poster)
    first, second = plan_of(tracker).writes
    assert Delete("film", [{"_id": 1}, {"_id": 2}]) == first
    assert isinstance(second, Insert)
    assert [1, 2] == [document["_id"] for document in second.documents]


def test_deleted_and_added_again_as_the_same_object() -> None:
    """An object that is added again before the flush stays; after it, it is new, with all that it held."""
    tracker = Tracker()
    (film,) = tracker.load(class_map(Film), [stored(1, lead={"name": "Al", "more": 1}, extra=[1])])
    tracker.delete(film)
    tracker.add(film)
    assert not plan_of(tracker)
    tracker.delete(film)
    tracker.flushed(plan_of(tracker))
    tracker.committed()
    assert film not in tracker
    assert [] == film.genres  # still readable
    tracker.add(film)
    (insert,) = plan_of(tracker).writes
    expected = stored(1, cast=[], lead={"name": "Al", "more": 1}, extra=[1])
    assert isinstance(insert, Insert)
    assert expected == insert.documents[0]


def test_changed_and_deleted() -> None:
    """What was changed before it was deleted is only deleted; a new one is only forgotten."""
    tracker = Tracker()
    (film,) = tracker.load(class_map(Film), [stored(1)])
    film.year = 3
    tracker.delete(film)
    new = Film(id=2)
    tracker.add(new)
    tracker.delete(new)
    assert [Delete("film", [{"_id": 1}])] == plan_of(tracker).writes


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([Film(id=1), Film(id=1)], "Film 1: two new objects have this key; keep one of them"),
        ([Film(id=1), Poster(id=1)], "Poster 1: two new objects have this key"),
        ([Tag(id=1), Tag(id=1.0)], None),
        ([Film(id=None)], "Film None: id cannot be stored: expected int, got NoneType None"),  # type: ignore[arg-type]
    ],
)
def test_keys_of_new_objects(instances: list[Any], message: str | None) -> None:
    """Two new objects with one key are refused before anything is written; so is a key that does not fit."""
    tracker = Tracker()
    for instance in instances:
        tracker.add(instance)
    with pytest.raises(ValidationError) as raised:
        plan_of(tracker)
    assert message is None or message in str(raised.value)


def test_touched_vectors() -> None:
    """Keys of vectors that come, change or go; not those of documents without one, or whose other fields change."""
    tracker = Tracker()
    vector = encode_vector(np.ones(2, np.float32))
    raws = [stored(n, embedding=vector) for n in range(4)] + [stored(4)]
    read, changed, dropped, gone, other = tracker.load(class_map(Film), raws)
    assert 1.0 == read.embedding[0]
    changed.embedding[0] = 5
    dropped.embedding = None
    other.year = 3
    tracker.delete(gone)
    tracker.add(Film(id=10, embedding=np.zeros(2)))
    tracker.add(Film(id=11))
    assert {SPEC: [3, 10, 1, 2]} == plan_of(tracker).touched


def test_a_path_that_several_indexes_mirror() -> None:
    """A change of it touches each of them."""
    tracker = Tracker()
    (film,) = tracker.load(class_map(Film), [stored(1)])
    film.year = 3
    others = [MirroredPath("film", "y", "film.a"), MirroredPath("film", "y", "film.b")]
    plan = plan_flush(tracker.work({}, tracker.possibly_changed()), others={"film": others})
    assert {others[0]: [1], others[1]: [1]} == plan.touched


def test_a_wrong_value_stops_the_whole_flush() -> None:
    """Nothing is planned where one object does not fit; the session is as it was."""
    tracker = Tracker()
    (film,) = tracker.load(class_map(Film), [stored(1)])
    film.title = 5
    tracker.add(Film(id=2))
    with pytest.raises(ValidationError, match="Film 1: title cannot be stored"):
        plan_of(tracker)
    assert 1 == len(tracker.new)
    film.title = "x"
    assert 2 == len(plan_of(tracker).writes)
