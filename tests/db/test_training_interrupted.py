"""Trainings that are killed, interrupted, cancelled, or in vain: a version that can be seen, or nothing."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest
import torch

import superorm
from superorm import DB, Document, Mapped, Model, Trainer, WriteError, connect_async, field, select
from superorm.components.kinds import KINDS
from tests.databases import drop_database, new_db
from tests.db.training_process import Measured, model

ROOT = Path(__file__).resolve().parents[2]


def shown(db: DB) -> dict[str, dict[str, list[int]]]:
    """All components that can be seen."""
    found = {kind: {name: db.show(kind, name) for name in db.show(kind)} for kind in KINDS}
    return {kind: names for kind, names in found.items() if names}


ADDED = {
    "dataset": {"others": [0]},
    "metric": {"largest error": [0]},
    "model": {"mean": [0]},
    "training": {"mean": [0]},
}


def fill(db: DB) -> None:
    with db.begin() as session:
        session.add_all([Measured(id=n, height=float(n)) for n in range(100)])


Place = tuple[DB, str, str, str]


@pytest.fixture
def place(mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A DB whose artifacts are in a directory, with its server, database and store."""
    monkeypatch.setenv("SUPERORM_SIGNING_KEY", "test-key")
    name, store = f"test_{uuid4().hex[:12]}", f"file://{tmp_path / 'artifacts'}"
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://", artifact_store=store) as db:
        fill(db)
        yield db, mongodb_uri, name, store
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
@pytest.mark.parametrize("where", ["fit", "put", "write"])
@pytest.mark.parametrize("call", ["add", "fit"])
def test_a_process_that_ends(place: Place, call: str, where: str, number: signal.Signals) -> None:
    """In the training, after an upload, or at the first write: what was there before is there, and after gc no more."""
    db, *address = place
    before: dict[str, dict[str, list[int]]] = {}
    if call == "fit":
        db.add(model())
        before = ADDED
    blobs = files(address[2])
    command = [sys.executable, "-m", "tests.db.training_process", *address, call, where]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "stopped\n" == process.stdout.readline(), process.communicate()[1]
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert -number == process.returncode or (number == signal.SIGINT and "KeyboardInterrupt" in told)
    assert before == shown(db)
    report = db.check()
    assert report.ok
    assert (where == "put" and number == signal.SIGKILL) <= bool(report.orphans)
    db.gc(grace=timedelta(0))
    db.gc(grace=timedelta(0))
    assert blobs == files(address[2])
    if call == "add":
        db.add(model())
        assert ADDED == shown(db)
        assert [24.5] == db.predict("mean", [1])
    else:
        assert 1 == db.fit("mean").version


def files(store: str) -> set[str]:
    """The blobs of a directory."""
    return {path.name for path in Path(store.removeprefix("file://")).rglob("*") if path.is_file()}


@pytest.mark.parametrize("after", [False, True], ids=["refused", "done, but not said"])
@pytest.mark.parametrize("where", ["mongodb", "mongomock"])
def test_a_store_that_fails(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch, where: str, after: bool) -> None:
    """Whichever call of a fit fails, the version before is served and no other is there; then it works."""
    monkeypatch.setenv("SUPERORM_SIGNING_KEY", "test-key")
    with new_db(mongodb_uri if where == "mongodb" else where) as db:
        fill(db)
        db.add(model())
        calls = at = 0

        def failing(method: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at and not after:
                    raise WriteError("broken")
                result = method(*args, **kwargs)
                if calls == at:
                    raise WriteError("broken")
                return result

            return call

        while True:
            at, calls = at + 1, 0
            with monkeypatch.context() as patch:
                patch.setattr(db.parts.artifact_store, "put", failing(db.parts.artifact_store.put))
                patch.setattr(db.parts.metadata, "write", failing(db.parts.metadata.write))
                try:
                    fitted = db.fit("mean")
                except WriteError:
                    assert ADDED == shown(db)
                    assert db.check().ok
                    assert [24.5] == db.predict("mean", [1])
                else:
                    break
        assert at > 3
        assert 1 == fitted.version
        db.gc(grace=timedelta(0))
        assert db.check().ok
        assert [] == list(db.check().orphans)


def test_two_at_once(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model added at once is one version; two fits at once are two."""
    monkeypatch.setenv("SUPERORM_SIGNING_KEY", "test-key")
    with new_db(mongodb_uri) as db, ThreadPoolExecutor(4) as threads:
        fill(db)
        db.prepare()
        added = list(threads.map(lambda _: db.add(model()), range(4)))
        assert [0] * 4 == [one.version for one in added]
        assert [[24.5]] * 4 == [one.predict([1]) for one in added]
        assert ADDED == shown(db)
        fits = list(threads.map(lambda _: db.fit("mean").version, range(4)))
        assert [1, 2, 3, 4] == sorted(version for version in fits if version is not None)
        assert db.check().ok


class Spot(Document):
    """A document to train a module on."""

    __collection__ = "spots_of_trainings"

    id: Mapped[int] = field(primary_key=True)
    sizes: Mapped[list[float]] = field(factory=list)


async def test_cancelled(mongodb_uri: str) -> None:
    """The training of a module ends with the batch, and leaves nothing; the event loop was free meanwhile."""
    name = f"test_{uuid4().hex[:12]}"
    async with connect_async(
        mongodb_uri, database=name, vector_database="memory://", artifact_store="memory://", signing_key="k"
    ) as db:
        async with db.begin() as session:
            session.add_all([Spot(id=n, sizes=[float(n), 1.0]) for n in range(100)])
        trainer = Trainer(
            select=select(Spot), key=Spot.sizes, target=Spot.id, loss="HuberLoss", epochs=10**6, batch_size=10
        )
        seen: list[int] = []
        adding = asyncio.create_task(
            db.add(Model("m", torch.nn.Linear(2, 1), trainer=trainer), progress=lambda done, *_: seen.append(done))
        )
        while len(seen) < 20:
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert time.perf_counter() - began < 5
        assert [] == await db.show("model")
        report = await db.check()
        assert report.ok
        assert [] == list(report.orphans)
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, name)
