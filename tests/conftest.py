"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

from superorm.backends.mongod import open_mongod, wait_stopped
from tests.sessions.servers import standalone

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background, and its children, ignore


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """The URI of a real replica set: ``SUPERORM_TEST_MONGODB``, or a private mongod started here."""
    given = os.environ.get("SUPERORM_TEST_MONGODB")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="superorm-tests-") as directory:
        with open_mongod(directory) as lease:
            yield lease.uri
        assert wait_stopped(directory)


@pytest.fixture(scope="session")
def alone_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a server without transactions that nobody else uses, and that fails on demand."""
    with standalone(tmp_path_factory.mktemp("alone"), "enableTestCommands=1") as member:
        yield f"mongodb://{member.address}/?directConnection=true&serverMonitoringMode=poll"
