"""A data directory for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from superorm.backends.mongod import lease
from tests.mongod.processes import everything, kill, servers, until


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path for a data directory, with a short grace period; what still runs there after the test is ended."""
    monkeypatch.setattr(lease, "GRACE", 0.1)
    path = tmp_path / "data"
    yield path
    kill(*servers(path))  # an orderly stop takes a second, and has tests of its own
    assert until(lambda: not everything(path))
    place = path / ".superorm" / "socket"
    if place.exists():
        shutil.rmtree(place.read_text(), ignore_errors=True)
