"""Commands that fail, hang, are slow, end too early or succeed without saying so, where artifacts are in GridFS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any
from uuid import uuid4

import gridfs
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from superorm import (
    DB,
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncMongoArtifactStore,
    AsyncMongoDatabackend,
    AsyncMongoMetaDataStore,
    MemoryVectorIndex,
    MongoArtifactStore,
    MongoDatabackend,
    MongoMetaDataStore,
    SuperormError,
)
from superorm.backends._async import transactions as async_transactions
from superorm.backends._sync import transactions as sync_transactions
from superorm.components.kinds import KINDS
from tests.artifacts.operations import OPERATIONS, Operation, World, under_fault
from tests.sessions.faults import APP, end_given_up
from tests.sessions.mongo_proxy import FAULTS, MongoProxy
from tests.teams import Team

BUCKET = "_superorm_artifacts"
ERRORS: dict[str, dict[str, Any]] = {
    "error": {"errorCode": 8000},
    "not primary": {"errorCode": 10107},
    "conflict": {"errorCode": 112},
}
"""What the server's fail points make it answer; beside these are what the proxy does."""
SHORT = {("error", "once"), ("unsaid", "once")}
LIMIT = 20.0
"""Seconds that an operation takes at most, however its commands hang."""
NUMBER = 1000
"""From here on operations are numbered."""


class Faults(CommandListener):
    """Counts the commands of one operation, and has those that are told to go wrong."""

    def __init__(self, control: MongoClient[dict[str, Any]], proxy: MongoProxy) -> None:
        self._control = control
        self._proxy = proxy
        self._fault: tuple[str, int, bool] | None = None
        self.commands: list[str] = []

    def arm(self, fault: str | None = None, at: int = 0, always: bool = False) -> None:
        """Count from 1 again, and have the command of this number go wrong; all that come after too, with `always`."""
        self.commands = []
        self._fault = None if fault is None else (fault, at, always)

    def disarm(self) -> None:
        """Nothing goes wrong any more."""
        self._fault = None
        self._fail("off", {})

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(event.command_name)
        number = len(self.commands)
        if self._fault is None or not (number == self._fault[1] or (self._fault[2] and number > self._fault[1])):
            return
        if (fault := self._fault[0]) in FAULTS:
            self._proxy.arm(fault, event.request_id)
        else:
            self._fail({"times": 1}, {"failCommands": [event.command_name], "appName": APP, **ERRORS[fault]})

    def _fail(self, mode: Any, data: dict[str, Any]) -> None:
        self._control.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to do."""


class GridFSWorld(World):
    """Documents, metadata and artifacts on one server, whose commands fail on demand."""

    by_async = False
    """Whether operations are those of `AsyncDB`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = f"test_{uuid4().hex[:12]}"
        self.plain: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.proxy = MongoProxy(uri)
        self.faults = Faults(self.plain, self.proxy)
        self.address = f"mongodb://127.0.0.1:{self.proxy.port}/?directConnection=true&serverMonitoringMode=poll"
        self.options: dict[str, Any] = {
            "appName": APP,
            "socketTimeoutMS": 700,
            "serverSelectionTimeoutMS": 3000,
            "event_listeners": [self.faults],
        }
        self.client: MongoClient[dict[str, Any]] = MongoClient(self.address, **self.options)
        self.db = self.of(self.client)

    def of(self, client: MongoClient[dict[str, Any]]) -> DB:
        return DB(
            MongoDatabackend(client, self.name),
            MongoMetaDataStore(client, self.name),
            MongoArtifactStore(client, f"files_{self.name}"),
            MemoryVectorIndex(),
            signing_keys=[b"key"],
        )

    def run(self, operation: Operation, number: int) -> None:
        if self.by_async:
            asyncio.run(self._run_async(operation, number))
        else:
            super().run(operation, number)

    async def _run_async(self, operation: Operation, number: int) -> None:
        async with AsyncMongoClient[dict[str, Any]](self.address, **self.options) as client:
            backend, metadata = AsyncMongoDatabackend(client, self.name), AsyncMongoMetaDataStore(client, self.name)
            store = AsyncMongoArtifactStore(client, f"files_{self.name}")
            db = AsyncDB(backend, metadata, store, AsyncMemoryVectorIndex(), signing_keys=[b"key"])
            await operation.run_async(db, self, number)

    def disarm(self) -> None:
        """Nothing goes wrong any more, and no transaction is open that was given up."""
        self.faults.disarm()
        end_given_up(self.uri)

    def other(self) -> DB:
        return self.of(self.plain)

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.plain[self.name][collection].find())

    def stored(self) -> dict[str, bytes]:
        files = self.plain[f"files_{self.name}"]
        bucket = gridfs.GridFSBucket(files, BUCKET)
        stored: dict[str, bytes] = dict.fromkeys(files[f"{BUCKET}.chunks"].distinct("files_id"), b"")
        for file in files[f"{BUCKET}.files"].find():
            stored[file["_id"]] = bucket.open_download_stream(file["_id"]).read()
        return stored

    def close(self) -> None:
        self.db.close()
        self.client.close()
        self.proxy.stop()
        self.plain.close()


@pytest.fixture
def world(own_uri: str, impatient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GridFSWorld]:
    """A DB whose commands fail, with what stays."""
    monkeypatch.setitem(KINDS, Team.kind, Team)
    for transactions in sync_transactions, async_transactions:
        monkeypatch.setattr(transactions, "_COMMIT_SECONDS", 0.5)
    world = GridFSWorld(own_uri)
    world.begin()
    yield world
    world.close()


def clean(world: GridFSWorld, operation: str) -> list[str]:
    """The commands of an operation where nothing goes wrong."""
    OPERATIONS[operation].prepare(world, NUMBER)
    world.faults.arm()
    OPERATIONS[operation].run(world.db, world, NUMBER)
    commands = world.faults.commands
    world.faults.arm()
    assert OPERATIONS[operation].is_done(world, NUMBER)
    OPERATIONS[operation].undo(world, NUMBER)
    world.settle()
    return commands


def cases() -> list[Any]:
    """Each fault of each operation, once and for a while."""
    return [
        pytest.param(
            operation,
            fault,
            mode == "from then on",
            marks=[] if (fault, mode) in SHORT else [pytest.mark.soak],
            id=f"{operation}, {fault}, {mode}",
        )
        for operation, fault, mode in product(OPERATIONS, [*ERRORS, *FAULTS], ("once", "from then on"))
    ]


def at_each_command(world: GridFSWorld, operation: str, fault: str, always: bool) -> None:
    """The fault at each of the operation's commands in turn."""
    commands = clean(world, operation)
    assert "find" in commands
    for number in range(1, len(commands) + 1):
        at_command(world, operation, fault, always, number, commands)
    world.intact()


def at_command(
    world: GridFSWorld, operation: str, fault: str, always: bool, number: int, commands: Sequence[str]
) -> None:
    """The fault at one of the operation's commands."""
    try:
        failed = under_fault(
            world,
            OPERATIONS[operation],
            NUMBER + number,
            partial(world.faults.arm, fault, number, always),
            world.disarm,
            SuperormError,
            LIMIT,
        )
        if fault == "slow":
            assert failed is None
    except BaseException as error:
        error.add_note(f"{operation}, {fault} at command {number}, {commands[number - 1]}")
        raise


@pytest.mark.parametrize(("operation", "fault", "always"), cases())
def test_at_each_command(world: GridFSWorld, operation: str, fault: str, always: bool) -> None:
    """All of it is done, or there is an error and nothing of it is."""
    at_each_command(world, operation, fault, always)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_at_one_command(world: GridFSWorld, operation: str) -> None:
    """The other faults in short: each at another command."""
    commands = clean(world, operation)
    others = [fault for fault in (*ERRORS, *FAULTS) if (fault, "once") not in SHORT]
    assert {"hangs", "slow", "cut"} <= {*others}
    for n, fault in enumerate(others):
        at_command(world, operation, fault, False, 1 + n * (len(commands) - 1) // (len(others) - 1), commands)
    world.intact()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_async(world: GridFSWorld, operation: str) -> None:
    """The same of `AsyncDB`, where answers are lost."""
    world.by_async = True
    at_each_command(world, operation, "unsaid", False)
