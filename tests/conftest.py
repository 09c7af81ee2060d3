"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from superorm.backends.mongod import open_mongod, wait_stopped
from tests.databases import drop_free
from tests.sessions.servers import standalone

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background, and its children, ignore


TWINS = {
    "test_after_like",
    "test_filtered",
    "test_gc",
    "test_mirrored",
    "test_reencode",
    "test_reencode_beside",
    "test_s3",
    "test_training",
    "test_training_modules",
    "test_upkeep",
}
"""Modules that take long, whose generated synchronous twins are left to the soak."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those twins before anything is selected by marks."""
    for item in items:
        if item.path.parent.name == "_sync" and item.path.stem in TWINS:
            item.add_marker(pytest.mark.soak)


ROOM = 6 << 30
"""Bytes: several times what the servers of all processes of tests hold, journals and oplogs included."""


def in_memory() -> str | None:
    """A folder in memory for a server's data, None where there is no such thing or too little room.

    To make a collection, the server waits for the disk several times: with a few servers on one disk, that is most of
    the time of a test that makes five.
    """
    place = Path("/dev/shm")
    memory = Path("/proc/meminfo")
    if not (memory.exists() and os.access(place, os.W_OK)):
        return None
    (available,) = [int(line.split()[1]) << 10 for line in memory.read_text().splitlines() if "MemAvailable" in line]
    return str(place) if min(available, shutil.disk_usage(place).free) > ROOM else None


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """The URI of a real replica set: ``SUPERORM_TEST_MONGODB``, or a private mongod started here."""
    given = os.environ.get("SUPERORM_TEST_MONGODB")
    if given:
        yield given
        drop_free(given)
        return
    with tempfile.TemporaryDirectory(prefix="superorm-tests-", dir=in_memory()) as directory:
        with open_mongod(directory) as lease:
            yield lease.uri
        assert wait_stopped(directory)


@pytest.fixture(scope="session")
def alone_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a server without transactions that nobody else uses, and that fails on demand."""
    with standalone(tmp_path_factory.mktemp("alone"), "enableTestCommands=1") as member:
        yield f"mongodb://{member.address}/?directConnection=true&serverMonitoringMode=poll"
