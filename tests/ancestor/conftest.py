"""Behaviours that users of SuperDuperDB 0.1.0 missed, or that its own tests promise, each a test here.

Every test runs with three combinations of parts: mongomock with artifacts and vectors in memory, a server with GridFS
and LanceDB, a server with S3 (moto's, over HTTP) and vectors in memory. What the tests expect comes from plain clients
of these and from brute force. The sessions are synchronous ones; other tests have the asynchronous twins.

Left out is what needs parts that superorm does not have yet: an index served over HTTP (also when it is out of date,
and when its search is limited to given keys), change streams (their filters, and a deletion that shrinks an index),
errors and retries of remote workers, and downloads of URIs.
Jobs, and events of components other than the computing of outputs, come with those parts too.
What indexes promise is tested of those of vector fields, and shortly of those that are components.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from superorm import DB, connect
from tests.ancestor.world import KEY, World
from tests.databases import drop_database
from tests.vectors.s3_server import CREDENTIALS, S3Server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server over HTTP."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def plain(mongodb_uri: str) -> Iterator[Any]:
    """A plain client of the server."""
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        yield client


@pytest.fixture(params=["mongomock+memory", "mongodb+gridfs+lancedb", "mongodb+s3+memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty database with each combination of parts."""
    combination: str = request.param
    name = f"test_{uuid4().hex[:12]}"
    settings: dict[str, Any] = {"database": name, "vector_database": "memory://", "signing_key": KEY}
    if combination.startswith("mongomock"):
        settings |= {"url": f"mongomock://{name}", "artifact_store": f"memory://{name}"}
        with connect(**settings) as db:
            backend: Any = db.parts.data_backend
            yield World(db, name, settings, backend.client)
        return
    settings["url"] = request.getfixturevalue("mongodb_uri")
    plain, endpoint = request.getfixturevalue("plain"), None
    environment: dict[str, str] = {}
    if "s3" in combination:
        server: S3Server = request.getfixturevalue("s3")
        endpoint = server.endpoint
        environment = {variable.upper(): value for variable, value in CREDENTIALS.items()}
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        settings["artifact_store"] = server.url(server.bucket(), "models")
    else:
        settings["artifact_store"] = f"gridfs://_filesystem:{name}"
        settings["vector_database"] = f"lancedb://{tmp_path / 'lance'}"
    with connect(**settings) as db:
        yield World(db, name, settings, plain, endpoint, environment)
    for database in (name, f"_filesystem:{name}"):
        drop_database(plain, database)


@pytest.fixture
def db(world: World) -> DB:
    """Its DB."""
    return world.db
