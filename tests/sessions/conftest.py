"""A server with fail points, and databases of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import give_back, take
from tests.sessions.servers import replica_set


@pytest.fixture(scope="session")
def own_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a replica set of one member that nobody else uses, and that fails on demand (``configureFailPoint``).

    Clients poll: else they need half a second to see that a connection was closed.
    Databases are not dropped: a transaction left open would hold that up for a minute.
    """
    with replica_set(tmp_path_factory.mktemp("own"), 1, "enableTestCommands=1") as (member,):
        yield f"mongodb://{member.address}/?replicaSet=tests&serverMonitoringMode=poll"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients look for a server again at once."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.02)


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database on the real server, which is emptied afterwards."""
    name = take(mongodb_uri)
    yield name
    give_back(mongodb_uri, name)
