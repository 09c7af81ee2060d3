"""A signing key in the place of another: what the old one signed is loaded until it is dropped, or stored again."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import (
    AsyncDB,
    Document,
    Listener,
    Mapped,
    Model,
    Trainer,
    UntrustedArtifactError,
    artifact,
    field,
    select,
)
from superorm.artifacts.signing import key_id
from superorm.compile.plan import Find
from superorm.components.kinds import KINDS
from superorm.unitofwork.writes import Update, UpdateOp
from tests.teams import Team


class Reader(Document):
    """A document with code."""

    __collection__ = "readers_of_a_rotation"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="")
    read: Mapped[Any] = artifact(default=None)


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


def by(db: AsyncDB, *keys: str) -> AsyncDB:
    """The same DB as a process with these keys has it."""
    parts = db.parts
    given = [key.encode() for key in keys]
    return AsyncDB(parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=given)


async def signers(db: AsyncDB) -> dict[tuple[str, int], str | None]:
    """The key of each component's artifact."""
    found = await db.parts.metadata.read(Find("_superorm_components", {"artifact": {"$ne": None}}))
    return {(one["name"], one["version"]): one["artifact"].get("key_id") for one in found}


async def test_components(db: AsyncDB) -> None:
    """Adding or replacing the same content signs it anew, and nothing else is another one."""
    old, both, new = by(db, "old"), by(db, "new", "old"), by(db, "new")
    for number in 1, 2:
        await old.add(Model("m", Plus(number)))
    await both.add(Model("n", Plus(3)))
    assert {("m", 0): key_id(b"old"), ("m", 1): key_id(b"old"), ("n", 0): key_id(b"new")} == await signers(db)
    before = await db.parts.metadata.read(Find("_superorm_components", {"name": "m"}, sort=[("version", 1)]))
    assert [[1], [2]] == [(await both.load("model", "m", version)).predict([0]) for version in (0, 1)]
    with pytest.raises(UntrustedArtifactError, match=key_id(b"old")):
        await new.load("model", "m")
    assert 0 == (await both.replace(await both.load("model", "m", 0))).version
    assert 1 == (await both.add(Model("m", Plus(2)))).version
    assert {key_id(b"new")} == set((await signers(db)).values())
    assert [[1], [2], [3]] == [
        (await by(db, "new").load("model", *named)).predict([0]) for named in (("m", 0), ("m", 1), ("n",))
    ]
    with pytest.raises(UntrustedArtifactError, match=key_id(b"new")):
        await old.load("model", "n")
    after = await db.parts.metadata.read(Find("_superorm_components", {"name": "m"}, sort=[("version", 1)]))
    signed = {"key_id", "signature"}
    for one in [*before, *after]:
        one["artifact"] = {name: value for name, value in one["artifact"].items() if name not in signed}
    assert before == after
    assert (await db.check()).ok


async def test_children(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are given as objects are signed anew with what needs them, a listener's model too."""
    monkeypatch.setitem(KINDS, Team.kind, Team)
    old, both = by(db, "old"), by(db, "new", "old")

    async def add(db: AsyncDB) -> None:
        await db.add(Team("t", [Model("m", Plus(1)), Model("n", Plus(2))]))
        await db.add(Listener("l", model=Model("length", len), select=select(Reader), key=Reader.text))

    await add(old)
    await add(both)
    assert dict.fromkeys([("m", 0), ("n", 0), ("length", 0)], key_id(b"new")) == await signers(db)
    async with by(db, "new").begin() as session:
        session.add(Reader(id=1, text="four"))
    outputs = await by(db, "new").outputs("l")
    assert 4 == await outputs.get(1)


async def test_trained_models(db: AsyncDB) -> None:
    """Every version, and what they were trained from, so that they can be trained anew with the new key alone."""
    async with db.begin() as session:
        session.add_all([Reader(id=number, text="x" * number) for number in (1, 2, 3)])
    old, both, new = by(db, "old"), by(db, "new", "old"), by(db, "new")
    trainer = Trainer(select=select(Reader), key=Reader.text, target=Reader.id)
    await old.add(Model("m", Mean(), trainer=trainer))
    await old.fit("m")
    for version in await both.show("model", "m"):
        await both.replace(await both.load("model", "m", version))
    await both.replace(await both.load("training", "m"))
    assert {key_id(b"new")} == set((await signers(db)).values())
    assert [[2.0], [2.0]] == [(await new.load("model", "m", version)).predict(["x"]) for version in (0, 1)]
    assert 2 == (await new.fit("m")).version


class Mean:
    """A model that learns the mean of the targets."""

    mean = 0.0

    def fit(self, texts: list[str], numbers: list[int]) -> None:
        self.mean = sum(numbers) / len(numbers)

    def predict(self, texts: list[str]) -> list[float]:
        return [self.mean for _ in texts]


@pytest.mark.parametrize("how", ["theirs", "unsigned", "changed"])
async def test_what_no_key_of_ours_has_signed(db: AsyncDB, how: str) -> None:
    """Adding the same content does not vouch for it: by its fingerprint, it may be something else."""
    await by(db, "theirs" if how == "theirs" else "old").add(Model("m", Plus(1), fingerprint="a"))
    change = {"unsigned": {"$unset": {"artifact.signature": "", "artifact.key_id": ""}}}
    change["changed"] = {"$set": {"artifact.size": 5, "artifact.signature": "0" * 64}}
    if how in change:
        await db.parts.metadata.write(Update("_superorm_components", [UpdateOp(q={}, u=change[how])]))
    before = await db.parts.metadata.read(Find("_superorm_components"))
    assert 0 == (await by(db, "new", "old").add(Model("m", Plus(1), fingerprint="a"))).version
    assert before == await db.parts.metadata.read(Find("_superorm_components"))
    with pytest.raises(UntrustedArtifactError):
        await by(db, "new", "old").load("model", "m")


async def test_documents(db: AsyncDB) -> None:
    """What is taken away and put back in a transaction is signed anew."""
    await db.create_all(Reader)
    async with by(db, "old").begin() as session:
        session.add(Reader(id=1, read=Plus(5)))
    both = by(db, "new", "old")
    async with both.begin() as session:
        reader = await session.get_one(Reader, 1)
        await session.load(reader, Reader.read)
        kept, reader.read = reader.read, None
        await session.flush()
        reader.read = kept
    new = by(db, "new")
    async with new.session() as session:
        reader = await session.get_one(Reader, 1)
        await session.load(reader, Reader.read)
        assert [6] == reader.read.predict([1])
    assert (await new.check(Reader)).ok
    assert 1 == len(await db.parts.artifact_store.keys())
