"""Components with children: added whole or not at all, removed when nothing needs them, replaced, and shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from superorm import (
    ArtifactNotFoundError,
    ArtifactSavingError,
    AsyncDB,
    ComponentError,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    Document,
    Mapped,
    Metric,
    Model,
    UnsupportedError,
    WriteError,
    select,
    vector,
)
from superorm import field as document_field
from superorm.artifacts.collecting import condemn
from superorm.artifacts.registry import REGISTRY
from superorm.compile.plan import Find
from superorm.components.base import Child, Named
from superorm.components.kinds import KINDS
from tests.teams import Team


@pytest.fixture(autouse=True)
def team_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teams are known as a kind of component."""
    monkeypatch.setitem(KINDS, Team.kind, Team)


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


class Unpicklable:
    """A model that holds a generator."""

    def __init__(self) -> None:
        self.generator = (number for number in range(3))

    def predict(self, items: list[Any]) -> list[Any]:
        return items


def another(db: AsyncDB) -> AsyncDB:
    """The same DB as another process has it."""
    parts = db.parts
    return AsyncDB(
        parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"test-key"]
    )


async def shown(db: AsyncDB) -> dict[str, dict[str, list[int]]]:
    """All that can be seen."""
    return {kind: {name: await db.show(kind, name) for name in await db.show(kind)} for kind in KINDS}


NOTHING: dict[str, Any] = {kind: {} for kind in (*KINDS, Team.kind)}


async def test_children(db: AsyncDB) -> None:
    """Those given as objects are added with the parent, those given by name are found; both come back with it."""
    await db.add(Model("named", Plus(1)))
    await db.add(Model("named", Plus(2)))
    given = Model("given", Plus(10))
    assert 0 == (await db.add(Team("t", [given, Named("model", "named")]))).version
    assert 0 == given.version
    children = (await db.show("team", "t", 0))["children"]
    assert [("model", "given", 0), ("model", "named", 1)] == [tuple(child.values()) for child in children]
    team = await another(db).load("team", "t")
    assert isinstance(team, Team)
    assert [[10], [2]] == [member.predict([0]) for member in team.members if isinstance(member, Model)]
    assert (await db.check()).ok


async def test_the_same_tree_again(db: AsyncDB) -> None:
    """The same instance, and the same content, is a no-op; another child makes another version of the parent."""
    team = Team("t", [Model("m", Plus(1))])
    for again in team, team, Team("t", [Model("m", Plus(1))]):
        assert 0 == (await db.add(again)).version
    changed = Team("t", [Model("m", Plus(2))])
    assert 1 == (await db.add(changed)).version
    assert {"team": {"t": [0, 1]}, "model": {"m": [0, 1]}} == {k: v for k, v in (await shown(db)).items() if v}


async def test_parameters_are_content(db: AsyncDB) -> None:
    """The same object with another batch size is another version."""
    assert [0, 0, 1] == [(await db.add(Model("m", Plus(1), batch_size=size))).version for size in (8, 8, 9)]
    assert 9 == (await db.load("model", "m")).batch_size


async def test_a_codec_of_choice(db: AsyncDB) -> None:
    """It stores the object, is content, and comes back with the component; others are refused at once."""
    scaler = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    assert 0 == (await db.add(Model("m", scaler))).version
    for _ in range(2):
        assert 1 == (await db.add(Model("m", scaler, codec="cloudpickle"))).version
    codecs = [(await db.show("model", "m", version))["artifact"]["codec"] for version in (0, 1)]
    assert ["sklearn", "cloudpickle"] == codecs
    loaded = await another(db).load("model", "m")
    assert "cloudpickle" == loaded.codec
    np.testing.assert_array_equal(scaler.mean_, loaded.object.mean_)
    assert 0 == (await db.add(Metric("n", len, codec="cloudpickle"))).version  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"Model\('m'\).*no codec 'pickle', but bytes, .*cloudpickle"):
        Model("m", scaler, codec="pickle")
    with pytest.raises(ConfigurationError, match=r"Model\('m'\).*by its name, not 5"):
        Model("m", scaler, codec=5)  # type: ignore[arg-type]
    with pytest.raises(ArtifactSavingError, match="modules, not StandardScaler"):
        await db.add(Model("m", scaler, codec="torch-module"))
    assert [0, 1] == await db.show("model", "m")


async def test_a_child_that_fails(db: AsyncDB) -> None:
    """A child that cannot be stored, or that there is not, leaves nothing of the tree."""
    good = Model("good", Plus(1))
    with pytest.raises(ArtifactSavingError, match="generator") as caught:
        await db.add(Team("t", [good, Model("bad", Unpicklable())]))
    assert "bad" == caught.value.component
    with pytest.raises(ComponentNotFoundError, match=r"Team\('t'\) needs the model 'none'"):
        await db.add(Team("t", [good, Named("model", "none")]))
    with pytest.raises(ComponentError, match="two models called 'm'"):
        await db.add(Team("t", [Model("m", Plus(1)), Model("m", Plus(2))]))
    members: list[Child] = []
    members.append(Team("t", members))
    with pytest.raises(ComponentError, match="its own children"):
        await db.add(members[0])  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    assert NOTHING == await shown(db)
    assert good.version is None
    assert (await db.check()).ok


@pytest.mark.parametrize("after", [False, True], ids=["refused", "done, but not said"])
async def test_a_store_that_fails(db: AsyncDB, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """Whichever call fails: nothing of the tree can be seen, and adding it again stores all of it."""
    team = Team("t", [Model("a", Plus(1)), Model("b", Plus(2))])
    calls = 0

    def failing(method: Callable[..., Awaitable[Any]], at: int) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at and not after:
                raise WriteError("broken")
            result = await method(*args, **kwargs)
            if calls == at:
                raise WriteError("broken")
            return result

        return call

    await db.prepare()
    at = 0
    while True:
        at += 1
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(db.parts.artifact_store, "put", failing(db.parts.artifact_store.put, at))
            patch.setattr(db.parts.metadata, "write", failing(db.parts.metadata.write, at))
            try:
                await db.add(team)
            except WriteError:
                assert NOTHING == await shown(db)
                assert (await db.check()).ok
            else:
                break
    assert at > 3  # where there are no transactions, blobs that were registered are not stored again
    assert {"a": [0], "b": [0]} == (await shown(db))["model"]
    assert {"t": [0]} == (await shown(db))["team"]


async def test_two_adds_at_once(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that both saw the same newest version get two versions."""
    other = another(db)
    upload = db.blobs.upload
    theirs: list[Model] = []

    async def first_theirs(data: bytes) -> Any:
        if not theirs:
            theirs.append(Model("m", Plus(2)))
            await other.add(theirs[0])
        return await upload(data)

    monkeypatch.setattr(db.blobs, "upload", first_theirs)
    ours = await db.add(Model("m", Plus(1)))
    assert (0, 1) == (theirs[0].version, ours.version)
    assert [[1], [2]] == [(await db.load("model", "m", version)).predict([0]) for version in (1, 0)]


async def test_a_child_in_use_stays(db: AsyncDB) -> None:
    """It is not removed while something needs it, and the error says what; afterwards it is."""
    await db.add(Team("t", [Model("m", Plus(1))]))
    with pytest.raises(
        ComponentInUseError, match="the model 'm' version 0 is needed by the team 't' version 0"
    ) as caught:
        await db.remove("model", "m")
    assert "m" == caught.value.component
    assert [0] == await db.show("model", "m")
    await db.remove("team", "t")
    await db.remove("model", "m")
    assert NOTHING == await shown(db)


async def test_force_hides(db: AsyncDB) -> None:
    """By force a child in use disappears, with a warning, but for those that need it; with the last of them it goes."""
    await db.add(Team("t", [Model("m", Plus(1))]))
    with pytest.warns(UserWarning, match=r"needed by the team 't' version 0: the model 'm' version 0"):
        await db.remove("model", "m", force=True)
    assert [] == await db.show("model")
    with pytest.raises(ComponentNotFoundError):
        await db.load("model", "m")
    with pytest.raises(ComponentNotFoundError):
        await db.remove("model", "m", force=True)
    team = await another(db).load("team", "t")
    assert isinstance(team, Team)
    assert [0] == [member.version for member in team.members if isinstance(member, Model)]
    assert (await db.check()).ok
    assert 1 == (await db.add(Model("m", Plus(1)))).version
    await db.remove("team", "t")
    states = {
        one["version"]: one["state"]
        for one in await db.parts.metadata.read(Find("_superorm_components", {"name": "m"}))
    }
    assert {0: "removed", 1: "live"} == states


async def test_recursive_removal(db: AsyncDB) -> None:
    """It takes what only the removed one needed, at any depth, and leaves what others need."""
    shared = Model("shared", Plus(1))
    inner = Team("inner", [Model("own", Plus(2)), shared])
    await db.add(Team("outer", [inner]))
    await db.add(Team("other", [shared]))
    await db.add(Model("unrelated", Plus(3)))
    await db.remove("team", "outer", recursive=True)
    seen = await shown(db)
    assert {"other": [0]} == seen["team"]
    assert {"shared": [0], "unrelated": [0]} == seen["model"]
    assert (await db.check()).ok


async def test_a_version_alone(db: AsyncDB) -> None:
    """One version is removed, the others stay, and its number is not given again."""
    for number in range(3):
        await db.add(Model("m", Plus(number)))
    await db.remove("model", "m", 2)
    assert [0, 1] == await db.show("model", "m")
    assert [1] == await db.predict("m", [0])
    assert 1 == (await db.add(Model("m", Plus(1)))).version
    assert 3 == (await db.add(Model("m", Plus(2)))).version
    with pytest.raises(ComponentNotFoundError, match="versions 0, 1, 3"):
        await db.remove("model", "m", 2)


async def test_a_shared_artifact_survives(db: AsyncDB) -> None:
    """Removing one of two owners of the same bytes leaves the other one's."""
    await db.add(Model("one", Plus(1)))
    await db.add(Model("two", Plus(1)))
    assert 1 == len(await db.parts.artifact_store.keys())
    await db.remove("model", "one")
    assert [1] == (await another(db).load("model", "two")).predict([0])
    report = await db.check()
    assert (True, []) == (report.ok, list(report.orphans))
    await db.remove("model", "two")
    assert 1 == len((await db.check()).orphans)


async def test_the_same_object_twice(db: AsyncDB) -> None:
    """Two components of one tree share the bytes, also where a collection that was killed had condemned these."""
    await db.add(Model("m", Plus(1)))
    blobs = Find(REGISTRY)
    (blob,) = await db.parts.metadata.read(blobs)
    await db.parts.metadata.write(condemn(blob))
    await db.add(Team("t", [Model("one", Plus(1)), Model("other", Plus(1))]))
    (stored,) = await db.parts.metadata.read(blobs)
    assert ("live", True) == (stored["state"], stored["key"] != blob["key"])
    assert {blob["key"], stored["key"]} == set(dict(await db.parts.artifact_store.keys()))
    assert [2] == await another(db).predict("other", [1])


async def test_caches_drop_what_was_removed(db: AsyncDB) -> None:
    """What another process removed or replaced is not served from memory."""
    other = another(db)
    await db.add(Model("m", Plus(1)))
    assert [1] == await other.predict("m", [0])
    await db.replace(Model("m", Plus(5)))
    assert [5] == await other.predict("m", [0])
    assert [5] == await db.predict("m", [0])
    await db.remove("model", "m")
    for each in db, other:
        with pytest.raises(ComponentNotFoundError):
            await each.load("model", "m", 0)


async def test_a_loaded_component_is_served_from_memory(db: AsyncDB) -> None:
    """Its blob is read once."""
    other = another(db)
    await db.add(Model("m", Plus(1)))
    first = await other.load("model", "m")
    stored = await db.parts.artifact_store.keys()
    for key, _ in stored:
        await db.parts.artifact_store.delete(key)
    assert first is await other.load("model", "m")
    with pytest.raises(ArtifactNotFoundError):
        await another(db).load("model", "m")


async def test_replace(db: AsyncDB) -> None:
    """Another object takes a version's place; those that need it have it; without one it is refused, or added."""
    with pytest.raises(ComponentNotFoundError):
        await db.replace(Model("m", Plus(1)))
    assert NOTHING == await shown(db)
    assert 0 == (await db.replace(Model("m", Plus(1)), upsert=True)).version
    await db.add(Team("t", [Named("model", "m")]))
    await db.add(Model("m", Plus(2)))
    assert 0 == (await db.replace(Model("m", Plus(7), batch_size=3, version=0))).version
    assert [0, 1] == await db.show("model", "m")
    team = await another(db).load("team", "t")
    assert isinstance(team, Team)
    (member,) = team.members
    assert isinstance(member, Model)
    assert ([7], 3) == (member.predict([0]), member.batch_size)
    assert [2] == await another(db).predict("m", [0])
    assert (await db.check()).ok


async def test_a_replaced_child_of_what_was_loaded(db: AsyncDB) -> None:
    """What was added or loaded before has the new one too, and components where it was given names."""
    other = another(db)
    await db.add(Model("m", Plus(1)))
    await db.add(Team("t", [Model("m", Plus(1)), Named("model", "m")]))
    for number in 1, 7:
        await db.replace(Model("m", Plus(number)))
        for one in db, other:
            team = await one.load("team", "t")
            assert isinstance(team, Team)
            assert [[number]] * 2 == [member.predict([0]) for member in team.members if isinstance(member, Model)]


async def test_a_child_removed_while_it_is_added_to(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal between the look-up of a child and the commit that counts on it: the add fails, nothing dangles."""
    other = another(db)
    await db.add(Model("m", Plus(1)))
    register = db.blobs.register

    async def after_removal(*args: Any, **kwargs: Any) -> None:
        if await other.show("model"):
            await other.remove("model", "m")
        await register(*args, **kwargs)

    monkeypatch.setattr(db.blobs, "register", after_removal)
    with pytest.raises(ComponentNotFoundError, match="needs the model 'm'"):
        await db.add(Team("t", [Named("model", "m")]))
    assert NOTHING == await shown(db)
    assert (await db.check()).ok


async def test_a_child_added_to_while_it_is_removed(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that counts on the child between the removal's look and its write: the removal is refused."""
    other = another(db)
    await db.add(Model("m", Plus(1)))
    records = db.components.records

    async def then_added_to(*args: Any, **kwargs: Any) -> Any:
        found = await records(*args, **kwargs)
        if not args and not await other.show("team"):
            await other.add(Team("t", [Named("model", "m")]))
        return found

    monkeypatch.setattr(db.components, "records", then_added_to)
    with pytest.raises(ComponentInUseError, match="the team 't' version 0"):
        await db.remove("model", "m")
    assert [0] == await db.show("model", "m")
    assert (await db.check()).ok


@pytest.mark.parametrize(
    "name",
    ["a.b.c", "a/b\\c", " spaces  in it ", "$where", "日本語 🎬", "e\u0301", "line\nbreak", "nul\0l", ".", "x" * 900],
    ids=repr,
)
async def test_names(db: AsyncDB, name: str) -> None:
    """Any text is a name, and no two texts of other characters are one."""
    await db.add(Model(name, Plus(1)))
    assert [name] == await db.show("model")
    assert [0] == await db.show("model", name)
    assert [1] == await another(db).predict(name, [0])
    assert [] == await db.show("model", "\u00e9")
    await db.remove("model", name)
    assert [] == await db.show("model")


async def test_refusals(db: AsyncDB) -> None:
    """What cannot name a component, and kinds that there are not, are refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="surrogate"):
        Model("half \ud83d", Plus(1))
    with pytest.raises(ConfigurationError, match="needs a name"):
        Metric("", lambda outputs, targets: 0)
    with pytest.raises(ConfigurationError, match="fingerprint is text"):
        Model("m", Plus(1), fingerprint=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ComponentError, match="surrogate"):
        await db.load("model", "\ud83d")
    with pytest.raises(ComponentError, match="surrogate"):
        await db.remove("model", "\ud83d")
    with pytest.raises(ComponentError, match="surrogate"):
        await db.show("model", "\ud83d")
    with pytest.raises(ValueError, match="name too"):
        await db.show("model", version=0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    with pytest.raises(UnsupportedError, match="dataset, listener, metric, model"):
        await db.load("modle", "m")
    with pytest.raises(UnsupportedError, match="dataset, listener, metric, model"):
        await db.show("modle")
    with pytest.raises(UnsupportedError, match="dataset, listener, metric, model"):
        await db.remove("modle", "m")
    with pytest.raises(ComponentNotFoundError):
        await db.remove("model", "m")


async def test_details_of_a_version(db: AsyncDB) -> None:
    """A version is shown with its parameters and the hash of its blob."""
    await db.add(Model("m", Plus(1), batch_size=8))
    details = await db.show("model", "m", 0)
    (blob,) = await db.parts.metadata.read(Find("_superorm_blobs"))
    assert ("model", "m", 0) == (details["kind"], details["name"], details["version"])
    assert {"batch_size": 8, "batched": True} == details["params"]
    assert blob["_id"] == details["artifact"]["sha256"]
    with pytest.raises(ComponentNotFoundError):
        await db.show("model", "m", 1)


class Letter(Document):
    """A document with a computed vector."""

    __collection__ = "letters_of_the_registry"

    text: Mapped[str]
    embedding: Mapped[np.ndarray | None] = vector(2, source="text", model="encoder")
    note: Mapped[str] = document_field(default="")


class Lengths:
    """Encodes texts by their length."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(text) * self.scale, 1.0] for text in texts], dtype=np.float32)


async def test_a_model_that_made_vectors(db: AsyncDB) -> None:
    """It is in use by their index: not removed, not replaced; hidden by force it serves that index still."""
    await db.add(Model("encoder", Lengths(1.0)))
    await db.create_all(Letter)
    async with db.begin() as session:
        session.add(Letter(text="a"))
    with pytest.raises(ComponentInUseError, match="letters_of_the_registry"):
        await db.remove("model", "encoder")
    with pytest.raises(ComponentInUseError, match="reencode=True"):
        await db.replace(Model("encoder", Lengths(2.0)))
    with pytest.warns(UserWarning, match="letters_of_the_registry"):
        await db.remove("model", "encoder", force=True)
    other = another(db)
    letter = Letter(text="bc")
    async with other.begin() as session:
        session.add(letter)
    assert [2.0, 1.0] == list(letter.embedding if letter.embedding is not None else [])


async def test_a_model_replaced_before_it_made_vectors(db: AsyncDB) -> None:
    """Vectors are made by what took its place, in a process too that had encoded queries with the one before."""
    await db.add(Model("encoder", Lengths(1.0)))
    await db.create_all(Letter)
    other = another(db)
    async with other.session() as session:
        assert [] == (await session.scalars(select(Letter).like("abc", on=Letter.embedding, k=1))).all()
    await db.replace(Model("encoder", Lengths(2.0)))
    letter = Letter(text="bc")
    async with other.begin() as session:
        session.add(letter)
    assert [4.0, 1.0] == list(letter.embedding if letter.embedding is not None else [])
