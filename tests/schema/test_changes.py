"""What a flush finds to be changed, and the update that it sends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from copy import copy, deepcopy
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import pymongo
import pytest
from bson import Binary, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from superorm import Document, Mapped, Registry, ValidationError, field, utcnow, vector
from superorm.codec.documents import dump, load, possibly_changed, refresh, restore, written
from superorm.schema.compare import diff_value
from superorm.schema.mapping import class_map
from superorm.schema.vector_binary import encode_vector
from superorm.unitofwork.encode import CODEC_OPTIONS
from tests.databases import drop_database
from tests.schema.helpers import apply, change_of, exact, load_one, store, through_bson
from tests.schema.values import Line, Point, json_like, keys, lines, moments, points, texts


class Film(Document, registry=Registry()):
    title: Mapped[str]
    year: Mapped[int] = field(default=0, name="y")
    length: Mapped[float | None] = field(default=None)
    at: Mapped[dt.datetime] = field(factory=utcnow)
    size: Mapped[Literal["short", "long"]] = field(default="short")
    genres: Mapped[list[str]] = field(factory=list)
    meta: Mapped[dict[str, Any]] = field(factory=dict)
    line: Mapped[Line | None] = field(default=None)
    points: Mapped[list[Point]] = field(factory=list)
    embedding: Mapped[np.ndarray | None] = vector(3)


FILM = class_map(Film)


def loaded(**changes: Any) -> Any:
    """A film as read from the database."""
    film = Film(title="Heat", year=1995, genres=["Heist"], meta={"a": {"b": 1, "c": 2}}, **changes)
    return load_one(Film, store(film))


def update_of(instance: Any) -> dict[str, Any] | None:
    """The update that a flush sends, checked against an interpreter of its own."""
    change = change_of(class_map(type(instance)), instance)
    if change is None:
        return None
    raw = instance._superorm_raw
    assert exact(through_bson(change.snapshot), apply(raw, change.update))
    return change.update


def test_scalars() -> None:
    """A changed field is set under its stored key, a deleted one is unset."""
    film = loaded()
    film.year = 1996
    del film.size
    assert {"$set": {"y": 1996}, "$unset": {"size": ""}} == update_of(film)


def test_the_same_again_is_no_change() -> None:
    """Assigning an equal value sends nothing."""
    film = loaded()
    film.title, film.year, film.genres = "He" + "at", 1995, ["Heist"]
    film.at = film.at.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert update_of(film) is None


def test_nested_changes() -> None:
    """A change at any depth sends the smallest path that is a document's."""
    film = loaded(line=Line(start=Point(x=1, y=2), between=[Point(x=3)]), points=[Point(x=0)])
    film.meta["a"]["b"] = 7
    film.meta["a"].pop("c")
    film.meta["new"] = {"k": [1]}
    film.line.start.y = 5
    film.line.between[0].x = 4.0
    film.points.append(Point(x=9, y=9, tags=["t"]))
    update = update_of(film)
    between = [{"x": 4.0, "why": 0, "tags": []}]
    expected = {
        "meta.a.b": 7,
        "meta.new": {"k": [1]},
        "line.start.why": 5,
        "line.between": between,
        "points": [{"x": 0.0, "why": 0, "tags": []}, {"x": 9.0, "why": 9, "tags": ["t"]}],
    }
    assert {"$set": expected, "$unset": {"meta.a.c": ""}} == update


def test_documents_that_come_and_go() -> None:
    """A part that was null or becomes null is set whole; of one that becomes empty what was in it is taken out."""
    film = loaded()
    film.line = Line(start=Point(x=1))
    start = {"x": 1.0, "why": 0, "tags": []}
    whole = {"start": start, "end": None, "between": [], "named": {}, "color": "red", "dates": []}
    assert {"$set": {"line": whole}} == update_of(film)
    film = loaded(line=Line(start=Point(x=1)))
    film.line = None
    film.meta = {}
    assert {"$set": {"line": None}, "$unset": {"meta.a": ""}} == update_of(film)
    film = loaded(line=Line(start=Point(x=1)))
    del film.line.start.y
    assert {"$unset": {"line.start.why": ""}} == update_of(film)


def test_keys_that_cannot_stand_in_a_path() -> None:
    """A document with such a key, which only others write, is compared and sent whole."""
    film = load_one(Film, {"title": "Heat", "meta": {"a.b": {"$x": 1}, "c": 1}})
    assert {"a.b": {"$x": 1}, "c": 1} == film.meta
    assert update_of(film) is None
    film.meta["c"] = 2
    with pytest.raises(
        ValidationError, match=r"Film ObjectId.*: meta cannot be stored: expected a key .* got str 'a.b'"
    ):
        update_of(film)


def test_vectors_by_bytes() -> None:
    """A vector that was read is unchanged until a number in it changes, in place or as a whole."""
    film = loaded(embedding=np.array([1, 2, 3], np.float32))
    film.embedding[1] = 2
    assert update_of(film) is None
    film.embedding[1] = 2.5
    assert {"$set": {"embedding": encode_vector(np.array([1, 2.5, 3], np.float32))}} == update_of(film)
    film.embedding = [1.0, 2.0, 3.0]
    assert update_of(film) is None
    film.embedding = None
    assert {"$set": {"embedding": None}} == update_of(film)


def test_vectors_as_others_write_them() -> None:
    """Doubles are read as a vector, which is no change; neither is reading one that may not be written."""
    film = load_one(Film, {"title": "x", "embedding": [0.1, 2, 3.0]})
    assert exact(np.array([0.1, 2, 3], np.float32), film.embedding)
    assert update_of(film) is None
    stored = encode_vector(np.array([np.nan, np.inf, 1], np.float32))
    film = load_one(Film, {"title": "x", "embedding": stored})
    assert np.isnan(film.embedding[0])
    assert update_of(film) is None


@pytest.mark.parametrize("key", ["a.b", "$a", ""])
@pytest.mark.parametrize("alone", [False, True])
def test_documents_with_such_keys_are_set_whole(key: str, alone: bool) -> None:
    """A document in which another program stored one is set whole: a path would lead elsewhere."""
    for old, new in (({key: 1, "c": 2}, {key: 1, "c": 3}), ({key: 1, "c": 2}, {"c": 2}), ({key: {"b": 1}}, {})):
        sets, unsets = dict[str, Any](), dict[str, Any]()
        diff_value("d", old, new, sets, unsets, exact=alone)
        assert ({"d": new}, {}) == (sets, unsets)


def test_deleted_lazy_fields() -> None:
    """A field that is converted at first access can be deleted as well, before and after a flush."""
    film = loaded(points=[Point(x=1)])
    assert film.genres
    del film.genres
    with pytest.raises(AttributeError, match="'Film' object has no attribute 'genres'"):
        film.genres  # noqa: B018
    assert {"$unset": {"genres": ""}} == update_of(film)
    new = Film(title="x", genres=["a"])
    written(FILM, [new], [dump(FILM, new)])
    del new.genres
    assert {"$unset": {"genres": ""}} == update_of(new)


def test_deleted_lazy_fields_after_a_refresh() -> None:
    """A changed field that a refresh kept can be deleted as well, and one that was deleted stays so."""
    film = loaded(points=[Point(x=1)])
    film.genres = ["b"]
    assert film.points
    del film.points
    refresh(film, {**film._superorm_raw, "y": 2000})
    del film.genres
    assert 2000 == film.year
    assert {"$unset": {"genres": "", "points": ""}} == update_of(film)


def test_deleted_lazy_fields_that_were_not_read() -> None:
    """Deleting one that was assigned without being read takes back the assignment only, until it is flushed."""
    film = loaded()
    film.genres = ["b"]
    del film.genres
    assert ["Heist"] == film.genres
    assert update_of(film) is None
    film = loaded()
    film.genres = ["b"]
    change = change_of(FILM, film)
    assert change is not None
    written(FILM, [film], [change.snapshot])
    del film.genres
    assert {"$unset": {"genres": ""}} == update_of(film)


def test_defaults_that_were_read() -> None:
    """Reading a missing key gives the default and changes nothing; changing it does, also inside documents."""
    film = load_one(Film, {"title": "Heat", "line": {"start": {"x": 1.0}}})
    assert (0, None, [], {}, [], "short") == (
        film.year, film.length, film.genres, film.meta, film.points, film.size,
    )  # fmt: skip
    assert (0, [], {}) == (film.line.start.y, film.line.start.tags, film.line.named)
    assert update_of(film) is None
    film.genres.append("Heist")
    film.line.start.tags.append("x")
    assert {"$set": {"genres": ["Heist"], "line.start.tags": ["x"]}} == update_of(film)
    film = load_one(Film, {"title": "Heat", "line": {"start": {"x": 1.0}}})
    film.line = Line(start=Point(x=1))
    start = {"x": 1.0, "why": 0, "tags": []}
    new = {"end": None, "between": [], "named": {}, "color": "red", "dates": []}
    added = {"line.start.why": 0, "line.start.tags": [], **{f"line.{name}": value for name, value in new.items()}}
    (update,) = update_of(film)  # a stage adds the keys in its order, the operators in that of the alphabet
    assert {path: {"$literal": value} for path, value in added.items()} == update["$set"]
    assert list(added) == list(update["$set"])
    change = change_of(FILM, film)
    assert change is not None
    assert {"start": start, **new} == change.snapshot["line"]
    assert ["start", *new] == list(change.snapshot["line"])


def test_a_default_that_is_set_and_set_back() -> None:
    """Once a missing key is stored, setting the default value stores the default value."""
    film = load_one(Film, {"title": "Heat", "line": {"start": {"x": 1.0}}})
    film.line.start.y = 5
    change = change_of(FILM, film)
    assert change is not None
    written(FILM, [film], [change.snapshot])
    film.line.start.y = 0
    assert {"$set": {"line.start.why": 0}} == update_of(film)


def test_extra_keys_survive() -> None:
    """Keys that no field maps stay, at any depth, in any order, also where a new part comes beside them."""
    raw = {"z": 1, "title": "Heat", "line": {"odd": [1], "start": {"tags": ["t"], "o": 1, "x": 1.0}, "even": 2}, "y": 7}
    film = load_one(Film, raw)
    assert film.line.start.tags == ["t"]
    assert update_of(film) is None
    film.line.start.y = 5
    assert {"$set": {"line.start.why": 5}} == update_of(film)
    change = change_of(FILM, film)
    assert change is not None
    start = {"tags": ["t"], "o": 1, "x": 1.0, "why": 5}
    assert {"odd": [1], "start": start, "even": 2} == change.snapshot["line"]
    assert 1 == change.snapshot["z"]
    moved = Film(title="Copy", line=film.line)
    assert {"odd": [1], "start": start, "even": 2}.items() <= dump(FILM, moved)["line"].items()


def test_widened_numbers() -> None:
    """7.0 in an int field is 7, and 7 in a float field 7.0; reading them changes nothing."""
    big = 2**53 + 1
    film = load_one(Film, {"title": "x", "y": 7.0, "length": 7, "line": {"start": {"x": big, "why": 3.0}}})
    assert exact([7, 7.0, 3, float(big)], [film.year, film.length, film.line.start.y, film.line.start.x])
    assert update_of(film) is None
    film.line.start.y = 4
    assert {"$set": {"line.start.why": 4}} == update_of(film)
    film = load_one(Film, {"title": "x", "length": Int64(big)})
    film.length = film.length + 2
    assert {"$set": {"length": float(big) + 2}} == update_of(film)


def test_64_bit_integers_stay_so() -> None:
    """A field that holds an Int64 keeps its BSON type when it changes."""
    film = load_one(Film, {"title": "x", "y": Int64(5)})
    film.year += 1
    update = update_of(film)
    assert update is not None
    assert Int64 is type(update["$set"]["y"])
    assert exact(Int64(6), film.year)


def test_zero_has_a_sign() -> None:
    """-0.0 instead of 0.0 is a change; NaN instead of NaN is none."""
    film = loaded(length=0.0)
    film.length = -0.0
    assert "-0.0" == str(update_of(film)["$set"]["length"])  # type: ignore[index]
    film = loaded(length=float("nan"))
    film.length = float("nan")
    assert update_of(film) is None


def test_datetimes_are_cut() -> None:
    """The object shows the time as it is stored: UTC, cut to milliseconds."""
    film = loaded()
    film.at = dt.datetime(2020, 1, 1, 1, 2, 3, 4567, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert {"$set": {"at": dt.datetime(2020, 1, 1, 0, 2, 3, 4000, tzinfo=dt.UTC)}} == update_of(film)
    assert (dt.UTC, 4000) == (film.at.tzinfo, film.at.microsecond)
    film.meta["at"] = dt.datetime(2020, 1, 1, 0, 0, 0, 1999, tzinfo=dt.UTC)
    change = change_of(FILM, film)
    assert change is not None
    written(FILM, [film], [through_bson(change.snapshot)])
    assert update_of(film) is None


def test_the_key_cannot_change() -> None:
    """A stored document keeps its key."""
    film = loaded()
    film.id = ObjectId()
    with pytest.raises(ValidationError, match="the key of a stored document cannot change") as raised:
        change_of(FILM, film)
    assert (Film, film._superorm_raw["_id"], "id") == (
        raised.value.document_class, raised.value.key, raised.value.field,
    )  # fmt: skip


def test_a_shared_part_changes_in_both() -> None:
    """A part that stands in two documents is a change of each."""
    one, other = loaded(line=Line(start=Point(x=1))), loaded()
    other.line = one.line
    one.line.start.x = 2.0
    assert {"$set": {"line.start.x": 2.0}} == update_of(one)
    assert 2.0 == update_of(other)["$set"]["line"]["start"]["x"]  # type: ignore[index]


def test_parts_that_swap_places() -> None:
    """Elements are compared by place; the list is sent whole."""
    film = loaded(points=[Point(x=1), Point(x=2)])
    film.points.reverse()
    assert [2.0, 1.0] == [point["x"] for point in update_of(film)["$set"]["points"]]  # type: ignore[index]
    film.points.reverse()
    assert update_of(film) is None


def test_copies() -> None:
    """A copy is an object of its own; a deep one shares nothing that can change."""
    film = loaded(line=Line(start=Point(x=1)))
    deep, shallow = deepcopy(film), copy(film)
    deep.genres.append("x")
    deep.line.start.x = 5.0
    assert update_of(film) is None
    assert update_of(shallow) is None
    assert {"genres", "line.start.x"} == update_of(deep)["$set"].keys()  # type: ignore[index]


def test_restore() -> None:
    """An object shows its snapshot again, whatever was done to it."""
    film = loaded(line=Line(start=Point(x=1)))
    before = repr(film)
    film.title, film.genres = "x", ["y"]
    film.line.start.x = 7.0
    film.meta.clear()
    del film.year
    assert film.points == []
    del film.points
    restore(film)
    assert before == repr(film)
    assert update_of(film) is None


class Loose(Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Loose | None:
        return cls.RED if str(value).lower() == "red" else None


class Odd(Document, registry=Registry()):
    loose: Mapped[Loose] = field(default=Loose.RED)
    amount: Mapped[Decimal] = field(default=Decimal(0))
    numbers: Mapped[list[float]] = field(factory=list)
    tags: Mapped[set[str]] = field(factory=set)
    groups: Mapped[dict[str, set[str]]] = field(factory=dict)
    array: Mapped[np.ndarray | None] = field(default=None)
    anything: Mapped[Any] = field(default=None)


@pytest.mark.parametrize(
    "raw",
    [
        {"loose": "RED"},
        {"numbers": [1, 2**53 + 1, 1.5]},
        {"tags": ["b", "a", "c"]},
        {"groups": {"g": ["b", "a", "c"]}},
        {"array": {"data": b"\1\2", "shape": [2], "dtype": "|u1", "more": 1}},
        {"anything": {"a.b": {"$c": [1, 2.0, {"": None}]}}},
        {"anything": [Binary(b"x", 7), Int64(1), {"e": 1, "d": 2}]},
    ],
)
def test_reading_what_others_wrote_is_no_change(raw: dict[str, Any]) -> None:
    """What superorm would store otherwise, but reads as the same, is left alone."""
    odd = load_one(Odd, raw)
    for name in class_map(Odd).by_attribute:
        getattr(odd, name)
    assert update_of(odd) is None


def test_arrays_in_place() -> None:
    """A numpy array that changes in place is seen."""
    odd = load_one(Odd, store(Odd(array=np.zeros((2, 2)))))
    odd.array[0, 1] = 1
    assert {"$set"} == update_of(odd).keys()  # type: ignore[union-attr]


films = st.builds(
    Film,
    title=texts,
    year=st.integers(-(2**40), 2**40),
    length=st.none() | st.floats(),
    at=moments,
    size=st.sampled_from(["short", "long"]),
    genres=st.lists(texts, max_size=3),
    meta=st.dictionaries(st.sampled_from("abc"), json_like, max_size=3),
    line=st.none() | lines,
    points=st.lists(points, max_size=3),
    embedding=st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
)
raws = st.fixed_dictionaries(
    {"title": texts},
    optional={
        "y": st.integers() .filter(lambda n: abs(n) < 2**62) | st.integers(-5, 5).map(float),
        "length": st.none() | st.floats() | st.integers(-(2**60), 2**60),
        "genres": st.lists(texts, max_size=2),
        "meta": st.dictionaries(keys, json_like, max_size=2),
        "points": st.lists(
            st.fixed_dictionaries(
                {"x": st.integers(0, 9) | st.floats()}, optional={"odd": json_like, "why": st.just(2.0)}
            ),
            max_size=2,
        ),
        "embedding": st.none() | st.lists(st.floats(-9, 9), min_size=3, max_size=3),
        "more": json_like,
    },
).flatmap(lambda raw: st.permutations(list(raw.items())).map(dict))  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(raw=raws)
def test_no_change_after_load(raw: dict[str, Any]) -> None:
    """Whatever was stored, by whomever: reading all of it changes nothing."""
    film = load_one(Film, raw)
    repr(film)
    assert film.embedding is None or film.embedding.shape == (3,)
    assert change_of(FILM, film) is None


@settings(max_examples=200, deadline=None)
@given(raw=raws, other=films, names=st.sets(st.sampled_from(sorted(FILM.by_attribute.keys() - {"id"}))), data=st.data())
def test_updates_give_the_new_document(raw: dict[str, Any], other: Any, names: set[str], data: st.DataObject) -> None:
    """The update, applied to what was stored, gives the new values, keeps the rest, and is the snapshot."""
    film = load_one(Film, raw)
    before = deepcopy(film._superorm_raw)
    if film.points and data.draw(st.booleans()):
        film.points[0].x = data.draw(st.floats())
    for name in names:
        setattr(film, name, getattr(other, name))
    change = change_of(FILM, film)
    updated = before if change is None else apply(before, change.update)
    assert change is None or exact(through_bson(change.snapshot), updated)
    again = load_one(Film, updated)
    for name in names:
        expected, found = getattr(other, name), getattr(again, name)
        if name == "embedding" and expected is not None:
            expected = np.array(expected, np.float32)
        assert exact(expected, found) or expected == found, name
    for key in before.keys() - {FILM.by_attribute[name].stored for name in names} - {"points"}:
        assert exact(before[key], updated[key])


@pytest.fixture(scope="module")
def collection(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """An empty collection of a real server."""
    name = f"changes_{uuid4().hex[:12]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name].get_collection("films", codec_options=CODEC_OPTIONS)
        drop_database(client, name)


@settings(max_examples=60, deadline=None)
@given(raw=raws, other=films, names=st.sets(st.sampled_from(sorted(FILM.by_attribute.keys() - {"id"}))))
def test_the_server_agrees(
    collection: Collection[dict[str, Any]], raw: dict[str, Any], other: Any, names: set[str]
) -> None:
    """What the server makes of the update is the snapshot."""
    film = load_one(Film, raw)
    for name in names:
        setattr(film, name, getattr(other, name))
    change = change_of(FILM, film)
    if change is not None:
        key = {"_id": film.id}
        collection.insert_one(film._superorm_raw)
        assert 1 == collection.update_one(key, change.update).matched_count
        assert exact(through_bson(change.snapshot), collection.find_one(key))


def test_scan_finds_only_what_may_have_changed() -> None:
    """The quick scan passes over objects of which nothing was assigned and what was read is as it was."""
    instances = load(FILM, [through_bson(store(Film(title=f"{n}"))) for n in range(4)])
    for instance in instances:
        for name in ("year", "length", "at", "size"):
            assert getattr(instance, name) is instance._superorm_raw[FILM.by_attribute[name].stored]
    assert [] == possibly_changed(FILM, instances)
    instances[1].year += 1
    assert instances[2].genres == []
    del instances[3].size
    assert [instances[1], instances[3]] == possibly_changed(FILM, instances)
    instances[2].genres.append("Heist")
    assert instances[1:] == possibly_changed(FILM, instances)
    change = change_of(FILM, instances[1])
    assert change is not None
    written(FILM, [instances[1]], [change.snapshot])
    assert [] == possibly_changed(FILM, [instances[1]])


def test_flat_objects_are_unchanged_after_a_flush() -> None:
    """After a flush the snapshot holds the object's own values, so that the next scan is quick."""

    class Flat(Document, registry=Registry()):
        n: Mapped[int]
        f: Mapped[float]
        at: Mapped[dt.datetime]

    mapping = class_map(Flat)
    flat = Flat(n=1, f=2, at=dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    written(mapping, [flat], [dump(mapping, flat)])
    assert [] == possibly_changed(mapping, [flat])
    flat.f = 3
    change = change_of(mapping, flat)
    assert change is not None
    written(mapping, [flat], [change.snapshot])
    assert [] == possibly_changed(mapping, [flat])
    assert exact(3.0, flat.f)
