"""Random steps of sessions agree with a plain model, on a real server and on mongomock, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pymongo
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo.read_concern import ReadConcern

from superorm import connect, connect_async
from superorm.backends.mongomock_engine import mongomock_client
from tests.sessions.classes import CONCRETE
from tests.sessions.driven import Driven
from tests.sessions.families import Child, FamilyMachine, Parent
from tests.sessions.machine import SCRIPTS, SessionMachine

EXAMPLES = {"mongodb": 16, "mongomock": 40}
LONG = {"mongodb": 150, "mongomock": 400}


@pytest.fixture(params=["mongodb", "mongomock"])
def server(request: pytest.FixtureRequest) -> str:
    """What keeps the documents."""
    return str(request.param)


@pytest.fixture
def raw(request: pytest.FixtureRequest, server: str, database: str) -> Iterator[Any]:
    """A database without superorm."""
    if server == "mongomock":
        yield mongomock_client(database)[database]
        return
    with pymongo.MongoClient[dict[str, Any]](request.getfixturevalue("mongodb_uri")) as client:
        yield client.get_database(database, read_concern=ReadConcern("majority"))


@pytest.fixture(params=["sync", "async"])
def db(request: pytest.FixtureRequest, server: str, raw: Any, mongodb_uri: str) -> Iterator[Any]:
    """The same by a DB, or by an `AsyncDB` that is driven."""
    url = mongodb_uri if server == "mongodb" else f"mongomock://{raw.name}"
    options: dict[str, Any] = {"database": raw.name, "vector_database": "memory://", "signing_key": "test-key"}
    if request.param == "sync":
        with connect(url, **options) as db:
            yield db
        return
    with asyncio.Runner() as runner:
        db = Driven(connect_async(url, **options), runner)
        try:
            yield db
        finally:
            db.close()


SOAK = pytest.mark.parametrize("soak", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["short", "long"])


def _settings(db: Any, server: str, soak: bool) -> settings:
    examples = (LONG if soak else EXAMPLES)[server]
    return settings(
        max_examples=examples // 3 if isinstance(db, Driven) else examples,
        stateful_step_count=60 if soak else 16,
        deadline=None,
        derandomize=not soak,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@SOAK
def test_sessions_agree_with_a_model(db: Any, raw: Any, server: str, soak: bool) -> None:
    """After each of random steps the database, the session and its objects are what the model says."""
    db.create_all(*CONCRETE)
    run_state_machine_as_test(lambda: SessionMachine(db, raw), settings=_settings(db, server, soak))


@SOAK
def test_sequences_agree_with_a_model(db: Any, raw: Any, server: str, soak: bool) -> None:
    """So they are after each step of sequences that have to do with one another, with objects of each class."""
    db.create_all(*CONCRETE)
    quick = server == "mongomock" and not isinstance(db, Driven)
    for seed in range(10 if soak else 1):
        random = Random(seed)
        for script in SCRIPTS if quick else SCRIPTS[seed % 4 :: 4]:
            machine = SessionMachine(db, raw)
            machine.fill(random.randrange(6))
            machine.play(script, random)
            machine.teardown()


@SOAK
def test_families_agree_with_a_model(db: Any, raw: Any, server: str, soak: bool) -> None:
    """So do relationships, while their objects leave the session, come back, and have twins."""
    db.create_all(Parent, Child)
    run_state_machine_as_test(lambda: FamilyMachine(db, raw), settings=_settings(db, server, soak))
