"""Touching artifact fields: read at the first touch in a session, refused in an asynchronous one until loaded."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.monitoring import CommandListener, CommandStartedEvent

from superorm import (
    DB,
    AsyncSession,
    Document,
    Embedded,
    Mapped,
    MappingError,
    MemoryVectorIndex,
    Model,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    NotLoadedError,
    Registry,
    artifact,
    connect,
    connect_async,
    field,
    select,
    undefer,
)
from tests.databases import drop_database
from tests.db.artifact_writer import Blob

ROOT = Path(__file__).resolve().parents[2]
registry = Registry()


class Clip(Document, registry=registry):
    __collection__ = "clips_with_artifacts"

    title: Mapped[str] = field(default="")
    data: Mapped[bytes | None] = artifact(default=None)


class Plain(Document, registry=registry):
    __collection__ = "clips_without_artifacts"

    title: Mapped[str] = field(default="")


class Commands(CommandListener):
    """The names and collections of the commands that were sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        self.sent.append(name if name.endswith("Transaction") else f"{name} {event.command[name]}")

    def succeeded(self, event: Any) -> None:
        return

    def failed(self, event: Any) -> None:
        return


@pytest.fixture
def heard(mongodb_uri: str) -> Iterator[tuple[DB, Commands]]:
    """A DB on a server, and what it sends there."""
    name, commands = f"test_{uuid4().hex[:12]}", Commands()
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri, event_listeners=[commands]) as client:
        with DB(
            MongoDatabackend(client, name),
            MongoMetaDataStore(client, name),
            MongoArtifactStore(client, name=f"_filesystem:{name}"),
            MemoryVectorIndex(),
            signing_keys=[b"key"],
        ) as db:
            yield db, commands
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")


def test_a_touch_reads_once(heard: tuple[DB, Commands]) -> None:
    db, commands = heard
    with db.begin() as session:
        session.add(clip := Clip(title="a", data=b"bytes"))
    with db.session() as session:
        (found,) = session.scalars(select(Clip))
        assert found.title == "a"
        commands.sent.clear()
        assert found.data == b"bytes"
        assert commands.sent[0] == "find _superorm_blobs"
        assert {command.split(" ")[1].rpartition(".")[0] for command in commands.sent[1:]} == {"_superorm_artifacts"}
        commands.sent.clear()
        assert found.data == b"bytes"
        assert session.get_one(Clip, clip.id) is found
        assert not commands.sent


def test_a_touch_outside_of_a_session_says_what_to_do(heard: tuple[DB, Commands]) -> None:
    db, _ = heard
    with db.begin() as session:
        session.add(Clip(title="a", data=b"bytes"))
    with db.session() as session:
        (streamed,) = session.stream_scalars(select(Clip))
        (found,) = session.scalars(select(Clip))
    for one in (streamed, found):
        with pytest.raises(NotLoadedError, match=r"Clip .*: the artifact data was not read, and it is in no session"):
            _ = one.data
    with db.session() as session:
        session.add(streamed)
        assert streamed.data == b"bytes"


def test_a_commit_of_other_classes_sends_nothing_more(heard: tuple[DB, Commands]) -> None:
    db, commands = heard
    for cls in (Clip, Plain):  # what is made once
        with db.begin() as session:
            session.add(cls(title="first"))
    for cls in (Clip, Plain):
        commands.sent.clear()
        with db.begin() as session:
            session.add(cls(title="second"))
        assert commands.sent == [f"insert {cls.__collection__}", "commitTransaction"]


class Plus:
    """A model that adds."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, items: list[int]) -> list[int]:
        return [item + self.number for item in items]


def test_the_round_trips_of_a_small_model(heard: tuple[DB, Commands]) -> None:
    """Those that the documentation counts."""
    db, commands = heard

    def sent(call: Callable[[], Any]) -> list[str]:
        commands.sent.clear()
        call()
        return [command for command in commands.sent if "_superorm_artifacts." not in command]  # those are the store's

    db.add(Model("first", Plus(0)))
    added = [
        "find _superorm_components",  # which version is the newest?
        "find _superorm_blobs",  # are the bytes there?
        "update _superorm_artifacts",  # an upload begins
        "delete _superorm_artifacts",  # the transaction: the upload is over
        "update _superorm_blobs",
        "insert _superorm_components",
        "commitTransaction",
    ]
    for name, number in ("m", 1), ("m", 2), ("other", 3):
        assert sent(lambda name=name, number=number: db.add(Model(name, Plus(number)))) == added  # type: ignore[misc]
        assert len(commands.sent) > len(added)
    assert sent(lambda: db.add(Model("m", Plus(2)))) == commands.sent == ["find _superorm_components"]
    assert sent(lambda: db.add(Model("shares", Plus(2)))) == commands.sent
    assert [command for command in added if "_superorm_artifacts" not in command] == commands.sent
    assert sent(lambda: db.load("model", "m")) == commands.sent == ["find _superorm_components"]


def test_the_round_trips_of_a_new_artifact(heard: tuple[DB, Commands]) -> None:
    db, commands = heard
    with db.begin() as session:
        session.add(Clip(title="first", data=b"first"))
    commands.sent.clear()
    with db.begin() as session:
        session.add(Clip(title="second", data=b"second"))
    own = [command for command in commands.sent if "_superorm_artifacts." not in command]  # those are the store's
    assert own == [
        "find _superorm_blobs",  # are the bytes there?
        "update _superorm_artifacts",  # an upload begins
        "delete _superorm_artifacts",  # the transaction: its commit comes
        "update _superorm_blobs",
        "insert clips_with_artifacts",
        "commitTransaction",
    ]
    commands.sent.clear()
    with db.begin() as session:
        session.add(Clip(title="third", data=b"second"))
    assert commands.sent == [
        "find _superorm_blobs",
        "update _superorm_blobs",
        "insert clips_with_artifacts",
        "commitTransaction",
    ]


@pytest.mark.parametrize("backend", ["mongomock", "mongodb"])
def test_an_asynchronous_session_reads_by_load_only(backend: str, mongodb_uri: str) -> None:
    name = f"test_{uuid4().hex[:12]}"
    url = f"mongomock://{name}" if backend == "mongomock" else mongodb_uri

    async def run() -> None:
        async with connect_async(url, database=name, signing_key="key") as db:
            async with db.begin() as session:
                session.add(clip := Clip(title="a", data=b"bytes"))
            async with AsyncSession(db) as session:
                found = await session.get_one(Clip, clip.id)
                with pytest.raises(NotLoadedError, match=r"session\.load\(\.\.\., Clip\.data\)"):
                    _ = found.data
                await session.load(found, Clip.data)
                assert found.data == b"bytes"

    asyncio.run(run())
    if backend == "mongodb":
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            drop_database(client, name)
            drop_database(client, f"_filesystem:{name}")


def test_a_touch_in_a_process_without_sessions(tmp_path: Path) -> None:
    with connect(f"mongomock://test_{uuid4().hex[:12]}", signing_key="key") as db:
        with db.begin() as session:
            session.add(Blob(digest="a", data=b"bytes"))
        with db.session() as session:
            found = session.get_one(Blob, "a")
    path = tmp_path / "blob.pickle"
    path.write_bytes(pickle.dumps(found))
    program = """if True:
        import pickle, sys
        from pathlib import Path
        blob = pickle.loads(Path(sys.argv[1]).read_bytes())
        print(blob.digest, "superorm._sync.session" in sys.modules, flush=True)
        blob.data
    """
    command = [sys.executable, "-c", program, str(path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.stdout == "a False\n"
    assert "NotLoadedError: Blob 'a': the artifact data was not read, and it is in no session" in done.stderr


def test_a_touch_on_mongomock() -> None:
    with connect(f"mongomock://test_{uuid4().hex[:12]}", signing_key="key") as db:
        with db.begin() as session:
            session.add(clip := Clip(title="a", data=b"bytes"))
        with db.session() as session:
            assert session.get_one(Clip, clip.id).data == b"bytes"


def test_declarations_that_cannot_be() -> None:
    with pytest.raises(MappingError, match=r"Part\.data: an Embedded has no artifacts"):

        class Part(Embedded):
            data: Mapped[bytes | None] = artifact(default=None)

    with pytest.raises(MappingError, match=r"Default\.data: an artifact's default is None"):

        class Default(Document, registry=Registry()):
            data: Mapped[bytes] = artifact(default=b"x")

    with pytest.raises(MappingError, match=r"Codec\.data: codec=1 is no name"):

        class Codec(Document, registry=Registry()):
            data: Mapped[bytes] = artifact(codec=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_one_that_was_deleted_unread_is_added_again() -> None:
    """Its artifact is read while its blob is there."""
    with connect(f"mongomock://test_{uuid4().hex[:12]}") as db:
        with db.begin() as session:
            session.add(clip := Clip(data=b"data"))
        with db.session() as session:
            found = session.get_one(Clip, clip.id)
            session.delete(found)
            session.commit()
            session.add(found)
            session.commit()
        with db.session() as session:
            assert b"data" == session.get_one(Clip, clip.id).data


async def test_one_that_was_deleted_unread_is_assigned_before_it_is_added_again() -> None:
    """Of an asynchronous session, where reading has to be awaited."""
    async with connect_async(f"mongomock://test_{uuid4().hex[:12]}") as db:
        async with db.begin() as session:
            session.add(clip := Clip(data=b"data"))
        async with db.session() as session:
            found = await session.get_one(Clip, clip.id)
            session.delete(found)
            await session.commit()
            session.add(found)
            with pytest.raises(NotLoadedError, match=r"Clip .*: the artifact data was not read"):
                await session.commit()
            await session.rollback()
            assert not (await session.scalars(select(Clip))).all()
            found.data = b"anew"
            session.add(found)
            await session.commit()
        async with db.session() as session:
            (again,) = await session.scalars(select(Clip).options(undefer(Clip.data)))
            assert (again.id, again.data) == (clip.id, b"anew")
