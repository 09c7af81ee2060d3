"""Components: stored whole or not at all, versions, children, blobs that are shared, and code that is not run."""

from __future__ import annotations

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from superorm import (
    DB,
    ArtifactSavingError,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    CorruptArtifactError,
    Dataset,
    Listener,
    Metric,
    Model,
    StatementError,
    SuperormError,
    UnsupportedError,
    UntrustedArtifactError,
    select,
)
from superorm.expr.statements import Select
from tests.ancestor.classes import Letter, Letters, Note, Plus, Tale
from tests.ancestor.elsewhere import predicted
from tests.ancestor.world import World
from tests.databases import drop_database


def add_lengths(db: DB, name: str = "lengths") -> None:
    db.add(Listener(name, model=Model("length", len), select=select(Tale), key=Tale.text))


def records(world: World) -> list[tuple[str, str, int, str]]:
    """What is stored of components."""
    found = world.documents("_superorm_components")
    return sorted((one["kind"], one["name"], one["version"], one["state"]) for one in found)


def hashes(world: World) -> set[str]:
    """Of the bytes in the artifact store."""
    return {hashlib.sha256(data).hexdigest() for data in world.blobs().values()}


def stored_hash(world: World, name: str, version: int = 0) -> str:
    """What the metadata say of a model's blob."""
    (found,) = (
        one for one in world.documents("_superorm_components") if (one["name"], one["version"]) == (name, version)
    )
    return str(found["artifact"]["sha256"])


def test_versions_count_from_0_and_the_same_again_is_none(world: World, db: DB) -> None:
    """The same instance, and the same content by another DB, are the version that there is."""
    first = Model("m", Plus(0))
    assert [0, 0] == [db.add(first).version for _ in range(2)]
    assert [1, 2] == [db.add(Model("m", Plus(number))).version for number in (1, 2)]
    with world.opened() as other:
        assert 2 == other.add(Model("m", Plus(2))).version
    assert [("model", "m", version, "live") for version in range(3)] == records(world)
    assert 3 == len(world.blobs())


def test_adds_at_once_have_versions_of_their_own(world: World) -> None:
    """Four DBs, each in a thread, that add other content under one name."""
    barrier = threading.Barrier(4)

    def add(number: int) -> tuple[int | None, int]:
        with world.opened() as db:
            db.prepare()
            barrier.wait(30)
            return db.add(Model("m", Plus(number))).version, number

    with ThreadPoolExecutor(4) as threads:
        added = sorted(threads.map(add, range(4)))
    assert [0, 1, 2, 3] == [version for version, _ in added]
    assert [[number] for _, number in added] == [world.db.load("model", "m", n).predict([0]) for n in range(4)]


def test_the_metadata_hold_the_hash_of_the_blob(world: World, db: DB) -> None:
    """Of bytes that a plain client finds in the store."""
    db.add(Model("m", Plus(7)))
    assert {stored_hash(world, "m")} == hashes(world)
    assert stored_hash(world, "m") == db.show("model", "m", 0)["artifact"]["sha256"]


def test_the_mock_has_gridfs_too(world: World, db: DB) -> None:
    """A store that is named is the one that is used: in mongomock, the chunks of GridFS are in its collections."""
    if not world.mocked:
        db.add(Model("m", Plus(7)))
        assert {stored_hash(world, "m")} == hashes(world)
        return
    with world.opened(artifact_store=f"gridfs://files_{world.name}") as other:
        other.add(Model("m", Plus(7)))
        chunks = world.plain[f"files_{world.name}"]["_superorm_artifacts.chunks"].find({})
        data = b"".join(one["data"] for one in sorted(chunks, key=lambda one: int(one["n"])))
    assert {} == world.blobs()
    assert stored_hash(world, "m") == hashlib.sha256(data).hexdigest()


def test_what_cannot_be_pickled_leaves_nothing(world: World, db: DB) -> None:
    """No component, no child that could be, and no blob."""
    broken = (number for number in range(3))
    bad = Model("bad", lambda _: next(broken))
    with pytest.raises(ArtifactSavingError) as caught:
        db.add(Listener("l", model=bad, select=select(Tale), key=Tale.text))
    assert "bad" == caught.value.component
    assert [] == records(world)
    assert {} == world.blobs()
    assert db.check().ok


def test_children_are_recorded(world: World, db: DB) -> None:
    """Those that were given, with their versions; a name that is nobody's is an error that leaves nothing."""
    with pytest.raises(ComponentNotFoundError, match="needs the model 'none'"):
        db.add(Listener("l", model="none", select=select(Tale), key=Tale.text))
    assert [] == records(world)
    add_lengths(db)
    children = db.show("listener", "lengths", 0)["children"]
    assert [("model", "length", 0)] == [tuple(child.values()) for child in children]
    assert [("listener", "lengths", 0, "live"), ("model", "length", 0, "live")] == records(world)


def test_a_component_in_use_stays(world: World, db: DB) -> None:
    """A listener's model, and one that made vectors."""
    add_lengths(db)
    db.add(Model("letters", Letters()))
    with db.begin() as session:
        session.add(Letter(id=1, text="a"))
    before = records(world), world.blobs()
    with pytest.raises(ComponentInUseError, match="listener 'lengths'"):
        db.remove("model", "length")
    with pytest.raises(ComponentInUseError, match="ancestor_letters"):
        db.remove("model", "letters")
    assert before == (records(world), world.blobs())


def test_force_hides_a_component_in_use(world: World, db: DB) -> None:
    """With a warning; what needs it goes on."""
    add_lengths(db)
    with pytest.warns(UserWarning, match="listener 'lengths'"):
        db.remove("model", "length", force=True)
    assert [] == db.show("model")
    with pytest.raises(ComponentNotFoundError):
        db.load("model", "length")
    with db.begin() as session:
        session.add(Tale(id=1, text="four"))
    assert {1: 4} == world.outputs("lengths")


def test_removing_deletes_only_the_blobs_of_its_own(world: World, db: DB) -> None:
    """One that another component shares is there still; with the last of them it goes."""
    db.add(Model("one", Plus(1)))
    db.add(Model("shares", Plus(1)))
    db.add(Model("other", Plus(2)))
    assert 2 == len(world.blobs())
    other = stored_hash(world, "other")
    kept: list[tuple[str, set[str]]] = [
        ("one", {stored_hash(world, "shares"), other}),
        ("shares", {other}),
        ("other", set()),
    ]
    for name, left in kept:
        db.remove("model", name)
        world.collect()
        assert left == hashes(world)
        if name == "one":
            assert [2] == world.elsewhere(predicted, "shares", [1])
    assert db.check().ok


def test_removing_drops_what_was_cached(world: World, db: DB) -> None:
    """Here and in another DB that has used it."""
    db.add(Model("m", Plus(1)))
    with world.opened() as other:
        assert [1] == db.predict("m", [0]) == other.predict("m", [0])
        other.remove("model", "m")
        for each in db, other:
            with pytest.raises(ComponentNotFoundError):
                each.predict("m", [0])
        db.add(Model("m", Plus(5)))
        assert [5] == db.predict("m", [0]) == other.predict("m", [0])


def test_recursive_removal_takes_what_nothing_else_uses(world: World, db: DB) -> None:
    """A model with its listener; not one that another listener has too."""
    add_lengths(db)
    add_lengths(db, "others")
    db.add(Listener("texts", model=Model("text", repr), listener="lengths"))
    db.remove("listener", "texts", recursive=True)
    assert ["others"] == db.show("listener")
    assert ["length"] == db.show("model")
    db.remove("listener", "others", recursive=True)
    assert [] == db.show("model") + db.show("listener")
    world.collect()
    assert {} == world.blobs()


def test_show(db: DB) -> None:
    """Names, versions and the details of one; a version of nothing is an error."""
    for name, number in (("b", 1), ("a", 2), ("b", 3)):
        db.add(Model(name, Plus(number)))
    assert ["a", "b"] == db.show("model")
    assert ([0], [0, 1]) == (db.show("model", "a"), db.show("model", "b"))
    details = db.show("model", "b", 1)
    assert ("model", "b", 1) == (details["kind"], details["name"], details["version"])
    nameless: Any = db.show
    with pytest.raises(ValueError, match="Give its name too"):
        nameless("model", version=1)


def test_loading_what_there_is_not(db: DB) -> None:
    """A version, a name, a kind that has no such name, and a kind that there is not."""
    db.add(Model("m", Plus(1)))
    assert [1] == db.load("model", "m", 0).predict([0])
    for kind, name, version in (("model", "m", 1), ("model", "n", None), ("metric", "m", None)):
        with pytest.raises(ComponentNotFoundError):
            db.load(kind, name, version)
    with pytest.raises(UnsupportedError, match="model"):
        db.load("modle", "m")


def test_replacing(world: World, db: DB) -> None:
    """The artifact of a version is another one; without a version it is refused, or by `upsert` added."""
    with pytest.raises(ComponentNotFoundError):
        db.replace(Model("m", Plus(1)))
    assert ([], {}) == (records(world), world.blobs())
    assert 0 == db.replace(Model("m", Plus(1)), upsert=True).version
    with world.opened() as other:
        assert [1] == other.predict("m", [0])
        assert 0 == db.replace(Model("m", Plus(9))).version
        assert [9] == other.predict("m", [0])
    assert [("model", "m", 0, "live")] == records(world)
    assert [9] == db.predict("m", [0]) == world.elsewhere(predicted, "m", [0])
    world.collect()
    assert {stored_hash(world, "m")} == hashes(world)


def test_a_dataset_equals_its_select(world: World, db: DB) -> None:
    """As it was when the dataset was added, in its order."""
    with db.begin() as session:
        session.add_all([Note(id=key, number=-key % 3) for key in range(10)])
    chosen = select(Note).where(Note.number > 0).order_by(Note.number, Note.id.desc())
    stored = [one for one in world.documents("ancestor_notes") if one["number"] > 0]
    stored.sort(key=lambda one: (one["number"], -one["_id"]))
    db.add(Dataset("some", select=chosen))
    with db.begin() as session:
        session.get_one(Note, 1).number = 100
    with world.opened() as other:
        assert stored == list(other.load("dataset", "some").documents)


def test_settings_of_two_connections_are_their_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two DBs of one process work at once, each with its database, keys and trust; nothing of it is global."""
    name = f"test_{uuid4().hex[:12]}"
    other_settings = {"database": name, "signing_key": "other-key"}
    if world.mocked:
        other_settings |= {"url": f"mongomock://{name}", "artifact_store": f"memory://{name}"}
    with world.opened() as one, world.opened(**other_settings) as other, world.opened(trust="none") as wary:
        monkeypatch.setenv("SUPERORM_TRUST", "all")
        monkeypatch.setenv("SUPERORM_SIGNING_KEY", "third-key")

        def work(db: DB, number: int) -> list[list[int]]:
            return [[db.add(Model("m", Plus(number + step))).version or 0, *db.predict("m", [0])] for step in range(4)]

        with ThreadPoolExecutor(2) as threads:
            both = list(threads.map(work, (one, other), (10, 20)))
        assert [[[step, number + step] for step in range(4)] for number in (10, 20)] == both
        with pytest.raises(UntrustedArtifactError):
            wary.predict("m", [0])
        assert [13] == one.predict("m", [0])
    assert 4 == len(records(world))
    if not world.mocked:
        drop_database(world.plain, name)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "it ran")

    def predict(self, items: list[Any]) -> list[Any]:
        return items


def test_no_code_of_a_blob_runs_that_was_put_in_its_place(world: World, db: DB, tmp_path: Path) -> None:
    """A pickle of the same length; one with the right hash that somebody else has signed, also as if we had."""
    marker = tmp_path / "marker"
    db.add(Model("m", Plus(10**3000)))
    ((key, data),) = world.blobs().items()
    hostile = pickle.dumps(Hostile(marker)).ljust(len(data), b"\0")
    assert len(data) == len(hostile)
    world.overwrite(key, hostile)
    assert [hostile] == list(world.blobs().values())
    with world.opened() as other:
        with pytest.raises(CorruptArtifactError):
            other.load("model", "m")
        assert not other.check().ok
    with world.opened(signing_key="their-key") as theirs:
        theirs.add(Model("theirs", Hostile(marker)))
    assert not marker.exists()
    components = world.plain[world.name]["_superorm_components"]
    ours = components.find_one({"name": "m"})["artifact"]["key_id"]
    for words in ("is not known here", "is not valid"):
        with world.opened() as other, pytest.raises(UntrustedArtifactError, match=words):
            other.load("model", "theirs")
        components.update_one({"name": "theirs"}, {"$set": {"artifact.key_id": ours}})
    assert not marker.exists()
    pickle.loads(hostile)
    assert "it ran" == marker.read_text()


def test_no_code_runs_that_metadata_point_to(world: World, db: DB, tmp_path: Path) -> None:
    """Records and the registry of blobs, changed by somebody who can write all of them and has stored a pickle.

    In the places of a model's, a metric's and a dataset's artifact, that of a model that others need among them.
    """
    marker = tmp_path / "marker"
    with db.begin() as session:
        session.add_all([Tale(id=1, text="one"), Note(id=1)])
    add_lengths(db)
    db.add(Metric("m", len))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    db.add(Dataset("d", select=select(Note)))
    with world.opened(signing_key="their-key") as theirs:
        theirs.add(Model("theirs", Hostile(marker)))
    database = world.plain[world.name]
    components, registry = database["_superorm_components"], database["_superorm_blobs"]
    (hostile,) = components.find({"name": "theirs"})
    theirs_at: Any = registry.find_one({"_id": hostile["artifact"]["sha256"]})

    def read(*kinds: str) -> list[str]:
        """What is told of each, by a DB that has nothing in memory."""
        told: list[str] = []
        for kind in kinds:
            with world.opened() as other, pytest.raises(SuperormError) as caught:
                other.load(kind, {"model": "length", "listener": "lengths", "metric": "m", "dataset": "d"}[kind])
            told.append(type(caught.value).__name__)
        with world.opened() as other:
            other.check()
            other.gc()
        return told

    reading = {"model": ("model", "listener"), "metric": ("metric",), "dataset": ("dataset",)}
    for kind, kinds in reading.items():
        (record,) = components.find({"kind": kind, "name": {"$ne": "theirs"}})
        ours = record["artifact"]
        bytes_of = {name: hostile["artifact"][name] for name in ("sha256", "size")}
        code = {name: hostile["artifact"][name] for name in ("codec", "codec_version")}
        plants = {
            "all of it": hostile["artifact"],
            "the hash": {**ours, **bytes_of, **code},
            "unsigned": {**bytes_of, **code},
            "the key too": {**ours, **bytes_of, **code, "key_id": ours["key_id"]},
            "the codec": {**ours, **code, "signature": "0" * 64},
        }
        for planted in plants.values():
            components.update_one({"_id": record["_id"]}, {"$set": {"artifact": planted}})
            assert ["UntrustedArtifactError"] * len(kinds) == read(*kinds)
        if kind == "model":
            with world.opened() as other, pytest.raises(UntrustedArtifactError):
                other.predict("length", ["a"])
        components.update_one({"_id": record["_id"]}, {"$set": {"artifact": ours}})
        at: Any = registry.find_one({"_id": ours["sha256"]})
        elsewhere = {"key": theirs_at["key"], "size": theirs_at["size"]}
        registry.update_one({"_id": at["_id"]}, {"$set": elsewhere})
        assert ["CorruptArtifactError"] * len(kinds) == read(*kinds)
        registry.replace_one({"_id": at["_id"]}, at)
        with world.opened() as other:
            assert other.load(kind, record["name"]).version == 0
    assert not marker.exists()
    with world.opened(trust="all") as trusting, pytest.raises(ConfigurationError):  # as what it gives is no model
        trusting.load("model", "theirs")
    assert "it ran" == marker.read_text()


def test_no_code_of_a_stored_select_runs(world: World, db: DB, tmp_path: Path) -> None:
    """Where a listener's select was, there is Python: it is not evaluated, and the error is superorm's."""
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).write_text('it ran')"
    add_lengths(db)
    components = world.plain[world.name]["_superorm_components"]
    (listener,) = components.find({"kind": "listener"})
    for planted in (code, {"select": code}, {**listener["params"]["select"], "where": [code]}):
        components.update_one({"_id": listener["_id"]}, {"$set": {"params.select": planted}})
        with world.opened() as other, pytest.raises(SuperormError):
            other.load("listener", "lengths")
    with pytest.raises(StatementError):
        Select.from_dict({"select": code})
    assert not marker.exists()
