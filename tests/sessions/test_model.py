"""Random steps of sessions agree with a plain model, on a real server and on mongomock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongomock
import pymongo
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo.read_concern import ReadConcern

from superorm import DB, connect, superduper
from tests.sessions.classes import CONCRETE
from tests.sessions.machine import SessionMachine


@pytest.fixture(params=["mongodb", "mongomock"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[DB, Any]]:
    """A DB, and its database without superorm."""
    if request.param == "mongomock":
        raw = mongomock.MongoClient()["sessions"]
        with superduper(raw) as db:
            yield db, raw
        return
    uri, name = request.getfixturevalue("mongodb_uri"), request.getfixturevalue("database")
    with (
        pymongo.MongoClient[dict[str, Any]](uri) as client,
        connect(uri, database=name, vector_database="memory://", signing_key="test-key") as db,
    ):
        yield db, client.get_database(name, read_concern=ReadConcern("majority"))


@pytest.mark.parametrize(
    ("examples", "steps"), [(25, 40), pytest.param(2000, 100, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_sessions_agree_with_a_model(both: tuple[DB, Any], examples: int, steps: int) -> None:
    """After each step the database, the session and its objects are what the model says."""
    db, raw = both
    db.create_all(*CONCRETE)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=examples < 100,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: SessionMachine(db, raw), settings=chosen)
