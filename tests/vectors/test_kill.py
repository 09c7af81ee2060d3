"""Processes killed in the middle of the protocol."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm._sync.vector_indexes import VectorIndexes
from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.vectors._sync.lancedb import LanceVectorIndex
from tests.vectors._sync.world import World
from tests.vectors.brute import DIM

VECTORS = np.random.default_rng(0).standard_normal((20, DIM)).astype("f4")


def open_world(uri: str, name: str, path: Path) -> World:
    """A handle of one process."""
    client: Any = pymongo.MongoClient(uri)
    backend = MongoDatabackend(client, name, owns_client=True)
    return World(backend, client[name], VectorIndexes(backend, LanceVectorIndex(str(path))))


def killed(uri: str, name: str, path: Path, point: str) -> None:
    """Commit, begin to apply, and die by SIGKILL at the point."""
    world = open_world(uri, name, path)
    copies: Any = world.indexes.copies

    def die(*args: Any, **names: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "committed":
        copies.read_step = die
    elif point == "read":
        copies.write_step = die
    elif point == "written":
        copies.publish_step = die
    elif point == "deleted":
        from superorm.vectors import lance_directory

        lance_directory._arrow = die  # between the two commits of one write
    world.put({0: -VECTORS[0], 1: None, 99: VECTORS[1]})
    world.indexes.apply(world.spec)


@pytest.fixture
def database(mongodb_uri: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"vectors_{uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        client.drop_database(name)


@pytest.mark.parametrize("point", ["committed", "read", "deleted", "written"])
def test_kill(mongodb_uri: str, database: str, tmp_path: Path, point: str) -> None:
    """A process killed between the commit and the publication loses nothing: searches are right, the next applies."""
    world = open_world(mongodb_uri, database, tmp_path)
    world.indexes.ensure(world.spec)
    world.put(dict(enumerate(VECTORS)))
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[1], 5)
    for _ in range(2):
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=killed, args=(mongodb_uri, database, tmp_path, point))
        process.start()
        process.join(60)
        assert -signal.SIGKILL == process.exitcode
        world.agrees(VECTORS[1], 5)
        world.put({5: None})
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[1], 5)
    assert [] == world.indexes.check(world.spec)
    world.indexes.close()
    world.backend.close()


def in_child(world: World) -> None:
    """Search and write in a forked process, with the parent's objects but a client of its own."""
    world.agrees(VECTORS[2], 5)
    world.put({3: None})
    world.indexes.apply(world.spec)
    world.agrees(VECTORS[2], 5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_fork(mongodb_uri: str, database: str, tmp_path: Path) -> None:
    """The directory is opened anew in a forked process, which does not hold its parent's locks."""
    world = open_world(mongodb_uri, database, tmp_path)
    world.indexes.ensure(world.spec)
    world.put(dict(enumerate(VECTORS)))
    world.agrees(VECTORS[1], 5)
    copies: Any = world.indexes.copies
    context = multiprocessing.get_context("fork")
    with copies.tables.lock(copies.prefix(world.spec)):
        process = context.Process(target=in_child, args=(world,))
        process.start()
    process.join(60)
    assert 0 == process.exitcode
    world.agrees(VECTORS[2], 5)
    world.backend.close()
