"""Objects with artifacts that were lost, copied, inherited from or not trusted."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncMemoryVectorIndex,
    Document,
    Mapped,
    MappingError,
    Registry,
    Select,
    UntrustedArtifactError,
    ValidationError,
    artifact,
    field,
    insert,
    select,
    undefer,
    update,
)
from superorm.compile.plan import Find

ON_SERVER = pytest.mark.parametrize("db", ["mongodb+memory", "mongodb+lancedb"], indirect=True)
"""What mongomock cannot do: transactions, validators, another client."""

registry = Registry()


class Tape(Document, registry=registry):
    __collection__ = "tapes_with_artifacts"

    title: Mapped[str] = field(default="")
    sound: Mapped[bytes | None] = artifact(default=None)
    notes: Mapped[Any] = artifact(default=None)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stored(db: AsyncDB) -> list[dict[str, Any]]:
    return await db.parts.data_backend.read(Find("tapes_with_artifacts", sort=[("title", 1)]))


async def add(db: AsyncDB, **values: Any) -> Any:
    async with db.begin() as session:
        session.add(tape := Tape(**values))
    return tape.id


@ON_SERVER
async def test_an_object_that_was_rolled_back_is_added_again(db: AsyncDB) -> None:
    async with db.session() as session:
        session.add(tape := Tape(title="a", sound=b"sound", notes=[1]))
        await session.flush()
        await session.rollback()
        session.add(tape)
        await session.commit()
    (document,) = await stored(db)
    assert document["sound"]["sha256"] == sha256(b"sound")
    async with db.session() as session:
        (found,) = await session.scalars(select(Tape).options(undefer(Tape.sound, Tape.notes)))
        assert (found.sound, found.notes) == (b"sound", [1])


@ON_SERVER
async def test_one_whose_flush_as_new_was_refreshed_and_rolled_back(db: AsyncDB) -> None:
    async with db.session() as session:
        session.add(tape := Tape(title="a", sound=b"sound"))
        await session.flush()
        await session.refresh(tape)  # from then on it is not read
        await session.rollback()
        session.add(tape)
        with pytest.raises(ValidationError, match=r"sound cannot be stored: expected an artifact, which was not read"):
            await session.commit()
        await session.rollback()
        tape.sound = b"anew"
        session.add(tape)
        await session.commit()
    (document,) = await stored(db)
    assert document["sound"]["sha256"] == sha256(b"anew")


async def test_a_new_object_is_merged(db: AsyncDB) -> None:
    given = Tape(title="a", sound=b"sound", notes={"k": [1]})
    async with db.begin() as session:
        merged = await session.merge(given)
        assert merged is not given
        assert (merged.sound, merged.notes) == (b"sound", {"k": [1]})
    (document,) = await stored(db)
    assert document["sound"]["sha256"] == sha256(b"sound")
    async with db.session() as session:
        found = await session.get_one(Tape, merged.id, options=[undefer(Tape.notes)])
        assert found.notes == {"k": [1]}


def test_a_subclass_cannot_make_it_another_kind_of_field() -> None:
    class Base(Document, registry=Registry()):
        data: Mapped[bytes] = artifact()
        title: Mapped[Any] = field(default=None)

    with pytest.raises(MappingError, match=r"Plain\.data: Base\.data, .* is an artifact or this is one"):

        class Plain(Base):
            data: Mapped[bytes] = field()

    with pytest.raises(MappingError, match=r"Other\.title: Base\.title, .* is an artifact or this is one"):

        class Other(Base):
            title: Mapped[Any] = artifact(default=None)


async def test_a_subclass_declares_it_again(db: AsyncDB) -> None:
    own = Registry()

    class Base(Document, registry=own):
        __collection__ = "inherited_artifacts"
        data: Mapped[Any] = artifact(default=None)

    class Packed(Base):
        data: Mapped[Any] = artifact(codec="cloudpickle", default=None)

    async with db.begin() as session:
        session.add_all([Base(data=[1]), Packed(data=[1])])
    documents = await db.parts.data_backend.read(Find("inherited_artifacts"))
    assert {"json", "cloudpickle"} == {document["data"]["codec"] for document in documents}
    async with db.session() as session:
        found = (await session.scalars(select(Base).options(undefer(Base.data)))).all()
        assert [[1], [1]] == [one.data for one in found]
        assert not session.dirty


@pytest.mark.parametrize(
    "statement",
    [
        select(Tape).where(Tape.sound == None).options(undefer(Tape.sound)),  # noqa: E711
        update(Tape).where(Tape.sound.exists()).values(sound=None),
    ],
    ids=repr,
)
def test_statements_are_stored(statement: Any) -> None:
    again = type(statement).from_dict(statement.to_dict(), registry=registry)
    assert again.to_dict() == statement.to_dict()
    if isinstance(statement, Select):
        assert again.pipeline() == [{"$match": {"sound": None}}]


async def test_trust_none_reads_what_carries_no_code(db: AsyncDB) -> None:
    key = await add(db, title="a", sound=b"sound", notes={1, 2})
    names = ("data_backend", "metadata", "artifact_store")
    parts = [getattr(db.parts, one) for one in names]
    careful = AsyncDB(*parts, AsyncMemoryVectorIndex(), signing_keys=[b"another"], trust="none")
    async with careful.session() as session:
        tape = await session.get_one(Tape, key)
        await session.load(tape, Tape.sound)
        assert tape.sound == b"sound"
        with pytest.raises(UntrustedArtifactError, match=r"Tape .*: notes: "):
            await session.load(tape, Tape.notes)
        with pytest.raises(UntrustedArtifactError, match=r"Tape .*: notes: "):
            await session.scalars(select(Tape).options(undefer(Tape.sound, Tape.notes)))


async def test_insert_statements_of_several(db: AsyncDB) -> None:
    async with db.begin() as session:
        await session.execute(insert(Tape).values(title="a", sound=b"one"))
        await session.execute(insert(Tape).values(title="b", sound=b"one", notes=[2]))
        await session.execute(insert(Tape).values(title="c"))
    async with db.session() as session:
        tapes = await session.scalars(select(Tape).order_by(Tape.title).options(undefer(Tape.sound, Tape.notes)))
        assert [(one.sound, one.notes) for one in tapes] == [(b"one", None), (b"one", [2]), (None, None)]
    await db.create_all(Tape)
    report = await db.check(Tape)
    assert report.ok
    assert not report.orphans
