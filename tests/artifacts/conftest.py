"""Fixtures for the tests of artifacts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vectors.s3_server import S3Server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server over HTTP."""
    server = S3Server()
    yield server
    server.stop()
