"""That the database gets the object as it is: the order of keys, nothing that cannot be read, nothing lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pymongo
import pytest
from bson import Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from superorm import Document, Embedded, Mapped, Registry, ValidationError, VectorError, field, vector
from superorm.codec.documents import dump, dump_all, written
from superorm.schema.mapping import class_map
from superorm.schema.state import GONE, RAW
from tests.databases import drop_database
from tests.schema.helpers import change_of, load_one, store


class Part(Embedded):
    x: Mapped[int]
    b: Mapped[int] = field(default=0)
    a: Mapped[int] = field(default=0)


class Whole(Document, registry=Registry()):
    title: Mapped[str]
    names: Mapped[list[str]]
    n: Mapped[int] = field(default=0)
    d: Mapped[dict[str, Any]] = field(factory=dict)
    part: Mapped[Part | None] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)
    points: Mapped[set[tuple[Any, ...]]] = field(factory=set)
    amounts: Mapped[set[Decimal]] = field(factory=set)
    floats: Mapped[set[float]] = field(factory=set)
    array: Mapped[np.ndarray | None] = field(default=None)
    embedding: Mapped[np.ndarray | None] = vector(3)


class Keeping(Document, registry=Registry()):
    __on_mismatch__ = "keep"

    title: Mapped[str]
    names: Mapped[list[str]]


WHOLE = class_map(Whole)


def whole(**values: Any) -> Any:
    return Whole(**{"title": "a", "names": ["b"], **values})


def update_of(instance: Any) -> dict[str, Any] | None:
    change = change_of(WHOLE, instance)
    return None if change is None else change.update


@pytest.fixture(scope="module")
def collection(mongodb_uri: str) -> Any:
    """A collection of a real server."""
    name = f"test_{ObjectId()}"
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        yield client[name]["order"]
        drop_database(client, name)


KEYS = st.sampled_from(["a", "b", "B", "_c", "é", "9", "10", "x1"])
DICTS = st.lists(KEYS, unique=True).flatmap(lambda names: st.tuples(*(st.integers(0, 1) for _ in names)).map(
    lambda values: dict(zip(names, values, strict=True))
))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(old=DICTS, new=DICTS)
def test_the_server_keeps_the_order(collection: Collection[Any], old: dict[str, Any], new: dict[str, Any]) -> None:
    """What the server makes of an update has the keys in the order of the new value."""
    raw = store(whole(d=old))
    one = load_one(Whole, raw)
    collection.delete_many({})
    collection.insert_one(raw)
    one.d.clear()
    one.d.update(new)
    change = change_of(WHOLE, one)
    if change is not None:
        collection.update_one({}, change.update)
        assert list(new) == list(change.snapshot["d"])
    (found,) = collection.find()
    assert list(new.items()) == list(found["d"].items())


def test_small_updates_where_the_order_allows() -> None:
    """Keys that are added are set alone, by a stage where operators would add them in another order.

    Keys that change places are set with the whole document.
    """
    one = load_one(Whole, store(whole(d={"a": 1, "b": 2})))
    one.d = {"b": 2, "a": 1, "c": 3}
    assert {"$set": {"d": {"b": 2, "a": 1, "c": 3}}} == update_of(one)
    one.d = {"b": 2, "c": 3, "z": 4}
    assert {"$set": {"d.c": 3, "d.z": 4}, "$unset": {"d.a": ""}} == update_of(one)
    one.d = {"b": 2, "z": 4, "c": 3}
    stages: Any = update_of(one)
    assert [{"$project": {"d.a": 0}}, {"$set": {"d.z": {"$literal": 4}, "d.c": {"$literal": 3}}}] == stages
    assert ["d.z", "d.c"] == list(stages[1]["$set"])


def test_64_bit_integers_at_any_depth() -> None:
    """They stay 64-bit ones through one change after another, and where something beside them changes."""
    one = load_one(Whole, {**store(whole()), "d": {"a": {"n": Int64(5)}, "m": Int64(1), "x": 0}})
    for number in (6, 7):
        one.d["a"]["n"] = number
        one.d["m"], one.d["x"] = 1, number
        change = change_of(WHOLE, one)
        assert change is not None
        assert {"$set": {"d.a.n": number, "d.x": number}} == change.update
        assert [Int64, int] == [type(value) for value in change.update["$set"].values()]
        assert Int64 is type(change.snapshot["d"]["m"])
        written(WHOLE, [one], [change.snapshot])


def test_parts_that_lack_keys() -> None:
    """Fields that a stored part lacks are set alone where they change in place, and stand as the server adds them."""
    one = load_one(Whole, {"title": "a", "names": [], "part": {"x": 1}})
    one.part.a, one.part.b = 5, 6
    change = change_of(WHOLE, one)
    assert change is not None
    assert {"$set": {"part.a": 5, "part.b": 6}} == change.update
    assert ["x", "a", "b"] == list(change.snapshot["part"])
    one.part = Part(x=1, a=5)
    stages: Any = update_of(one)
    assert [("part.b", {"$literal": 0}), ("part.a", {"$literal": 5})] == list(stages[0]["$set"].items())


@pytest.mark.parametrize("raw", [[float("nan"), 1, 2], [float("inf"), 1.0, 2.0], [1e300, 0, 0]])
def test_reading_a_vector_that_could_not_be_stored(raw: list[float]) -> None:
    """A stored array with NaN or infinity is no change once it is read; changing a number in it is refused."""
    one = load_one(Whole, {"title": "a", "names": [], "embedding": raw})
    assert not np.isfinite(one.embedding).all()
    assert update_of(one) is None
    one.embedding[2] = 7
    with pytest.raises(VectorError, match="all finite"):
        update_of(one)


@pytest.mark.parametrize(
    "value",
    [["1", "2", "3"], [True, False, True], np.array([1j, 2, 3]), np.array(["1", "2", "3"], object),
     np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0])],
)  # fmt: skip
def test_vectors_of_no_numbers(value: Any) -> None:
    """Texts, truth values, complex numbers and masked arrays are no vectors."""
    with pytest.raises(VectorError, match="embedding cannot be stored: expected vector of 3 numbers"):
        dump(WHOLE, whole(embedding=value))


@pytest.mark.parametrize("value", [[1, 2.5, 3], (1, 2, 3), np.arange(3), np.array([Decimal(1), 2, 3.5], object)])
def test_vectors_of_numbers(value: Any) -> None:
    """Numbers of any kind are stored as float32."""
    expected = np.array([float(item) for item in value], np.float32)
    assert expected.tobytes() == dump(WHOLE, whole(embedding=value))["embedding"][2:]


def test_masked_arrays() -> None:
    """The mask of an array would be lost, so it is refused, also as a change."""
    masked = np.ma.masked_array([1, 2], mask=[0, 1])
    with pytest.raises(ValidationError, match=r"Whole .*: array cannot be stored: expected numpy array without a mask"):
        dump(WHOLE, whole(array=masked))
    one = load_one(Whole, store(whole(array=np.array([1, 2]))))
    one.array = masked
    with pytest.raises(ValidationError, match="without a mask"):
        update_of(one)


@pytest.mark.parametrize("name", ["title", "names"])
def test_required_fields_of_new_objects(name: str) -> None:
    """An object that lacks a field without a default is refused; one with a default may be absent."""
    one = whole()
    delattr(one, name)
    with pytest.raises(ValidationError, match=rf"Whole .*: {name} cannot be stored: .* no default") as raised:
        dump_all(WHOLE, [whole(), one])
    assert (Whole, one.id, name) == (raised.value.document_class, raised.value.key, raised.value.field)
    one = whole()
    del one.n, one.d
    assert {"n", "d"}.isdisjoint(dump(WHOLE, one))


@pytest.mark.parametrize("name", ["title", "names"])
def test_required_fields_of_stored_objects(name: str) -> None:
    """Deleting a field without a default is refused; one with a default is unset."""
    one = load_one(Whole, store(whole()))
    assert getattr(one, name)
    delattr(one, name)
    with pytest.raises(ValidationError, match=rf"Whole .*: {name} cannot be stored: .* no default"):
        update_of(one)
    one = load_one(Whole, store(whole()))
    assert one.d is not None
    del one.n, one.d
    assert {"$unset": {"n": "", "d": ""}} == update_of(one)
    with pytest.raises(AttributeError):
        del one.d


def test_required_fields_of_parts() -> None:
    """The same in embedded objects, whose path is named."""
    for one in (whole(), load_one(Whole, store(whole()))):
        part = Part(x=1, a=2)
        del part.b
        one.parts = [Part(x=0), part]
        document = dump(WHOLE, one) if RAW not in vars(one) else change_of(WHOLE, one).snapshot  # type: ignore[union-attr]
        assert {"x": 1, "a": 2} == document["parts"][1]
        del part.x
        with pytest.raises(ValidationError, match=r"parts.1.x cannot be stored: .* no default") as raised:
            dump(WHOLE, one) if RAW not in vars(one) else change_of(WHOLE, one)
        assert "parts.1.x" == raised.value.field
    one = load_one(Whole, store(whole(part=Part(x=1))))
    del one.part.x
    with pytest.raises(ValidationError, match=r"part.x cannot be stored: .* no default"):
        update_of(one)


def test_what_is_kept_may_lack_anything() -> None:
    """A missing key is read as None, and stays missing when a deleted document is added again."""
    keeping = class_map(Keeping)
    one = load_one(Keeping, {"names": ["a"]})
    setattr(one, GONE, vars(one).pop(RAW))
    again = dump(keeping, one)
    assert {"_id": one.id, "names": ["a"]} == again
    written(keeping, [one], [again])
    del one.names
    change = change_of(keeping, one)
    assert change is not None
    assert {"$unset": {"names": ""}} == change.update


def test_elements_of_sets_that_python_holds_equal() -> None:
    """True is not 1, 1.0 not 1.00 and 0.0 not -0.0 to the database, also in tuples; ints of a float field are."""
    one = load_one(Whole, store(whole(points={(1, 2)}, amounts={Decimal("1.0")}, floats={0.0, 1.0, float("nan")})))
    one.floats = {0, 1, float("nan")}
    assert update_of(one) is None
    one.points, one.amounts, one.floats = {(True, 2)}, {Decimal("1.00")}, {-0.0, 1.0, float("nan")}
    assert {"points", "amounts", "floats"} == update_of(one)["$set"].keys()  # type: ignore[index]


def test_a_class_with_slots_is_not_loaded_in_part() -> None:
    """The message says what is in the way."""
    from superorm import UnsupportedError
    from superorm.codec.documents import load_partial

    class Slotted(Document, registry=Registry()):
        __slots__ = ("cache",)

        n: Mapped[int] = field(default=0)

    assert 1 == load_one(Slotted, {"n": 1}).n
    with pytest.raises(UnsupportedError, match="Slotted cannot be loaded in part, as it has __slots__"):
        load_partial(class_map(Slotted), [{"_id": 1, "n": 2}], frozenset({"n"}))
