"""A process that is killed while it adds a component leaves all of it, or nothing that can be seen."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from gridfs import GridFSBucket

from superorm import DB, connect
from superorm.components.kinds import KINDS
from tests.artifacts.killed_adder import add
from tests.artifacts.operations import Adding, World
from tests.databases import drop_database
from tests.teams import Team
from tests.vectors.processes import settle, started
from tests.vectors.s3_server import CREDENTIALS, S3Server

BUCKET = "_superorm_artifacts"


class Place(World):
    """A database that other processes write to, and are killed."""

    def __init__(self, uri: str, store: str, s3: S3Server | None) -> None:
        self.name = f"test_{uuid4().hex[:12]}"
        self.settings: dict[str, Any] = {
            "url": f"{uri}{'&' if '?' in uri else '/?'}appName={self.name}",
            "database": self.name,
            "vector_database": "memory://",
            "artifact_store": store,
            "signing_key": "key",
        }
        self.plain: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)
        self.bucket, self.s3 = store.partition("://")[2].partition("/")[0], s3
        self.db = connect(**(self.settings | {"url": uri}))

    def other(self) -> DB:
        parts = self.db.parts
        return DB(
            parts.data_backend, parts.metadata, parts.artifact_store, parts.vector_database, signing_keys=[b"key"]
        )

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.plain[self.name][collection].find())

    def stored(self) -> dict[str, bytes]:
        if self.s3 is not None:
            client = self.s3.client()
            found = client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
            data = {one["Key"]: client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read() for one in found}
            client.close()
            return {key.rpartition("/")[2].removesuffix(".blob"): value for key, value in data.items()}
        files = self.plain[self.bucket]
        stored: dict[str, bytes] = dict.fromkeys(files[f"{BUCKET}.chunks"].distinct("files_id"), b"")
        for file in files[f"{BUCKET}.files"].find():
            stored[file["_id"]] = GridFSBucket(files, BUCKET).open_download_stream(file["_id"]).read()
        return stored

    def sent(self, number: int, environment: dict[str, str], at_most: int = 0) -> int | None:
        """How many commands it takes a process to add the team of a number; None where it is killed after so many.

        What it had begun is over then.
        """
        process, pipe = started(add, self.settings, environment, number, at_most)
        process.join(60)
        commands = None if process.exitcode else pipe.recv()
        pipe.close()
        assert process.exitcode == (-signal.SIGKILL if at_most else 0)
        settle(self.plain, self.name)
        return commands

    def close(self) -> None:
        """End it."""
        self.db.close()
        for name in (self.name, self.bucket) if self.s3 is None else (self.name,):
            drop_database(self.plain, name)
        self.plain.close()


@pytest.fixture(params=["gridfs", "s3", "gridfs, without transactions"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A database with a model that stays."""
    monkeypatch.setitem(KINDS, Team.kind, Team)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name.upper(), value)
    store, s3 = f"gridfs://files_{uuid4().hex[:12]}", None
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        assert s3 is not None
        store = f"{s3.url(s3.bucket(), 'models')}&region=us-east-1"
    alone = "without" in request.param
    place = Place(request.getfixturevalue("alone_uri" if alone else "mongodb_uri"), store, s3)
    assert alone is not place.db.capabilities.transactions
    place.begin()
    yield place
    place.close()


@pytest.mark.parametrize("each", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["some", "each"])
def test_killed_after_a_command(place: Place, each: bool) -> None:
    """The component with both its children is there, or nothing of it, and what is left is no problem and is collected.

    One child shares its artifact with what was there before. Adding the component again stores all of it.
    """
    environment = {name.upper(): value for name, value in CREDENTIALS.items()}
    adding = Adding()
    commands = place.sent(0, environment)
    assert commands is not None
    assert commands > 5
    adding.undo(place, 0)
    for at in range(1, commands + 1) if each else (commands // 2, commands - 1, commands):
        assert place.sent(at, environment, at) is None
        assert (at == commands) is adding.is_done(place, at)
        assert place.other().check().ok
        place.settle()
        if at < commands:
            adding.run(place.db, place, at)
            assert adding.is_done(place, at)
        adding.undo(place, at)
    place.intact()
