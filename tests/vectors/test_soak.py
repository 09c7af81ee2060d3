"""Writers, appliers that die, rebuilds and searches at once on a real server: every search is right in its snapshot."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

from superorm._sync.vector_indexes import VectorIndexes
from superorm.backends._sync.mongodb import MongoDatabackend
from superorm.compile.plan import Find
from superorm.vectors._sync.lancedb import LanceVectorIndex
from superorm.vectors._sync.memory import MemoryVectorIndex
from superorm.vectors.request import Hits, SearchRequest
from tests.databases import drop_database
from tests.vectors._sync.world import World
from tests.vectors.brute import DIM, brute

KEYS = 40


def soak(uri: str, make_engine: Callable[[], Any], seconds: float) -> int:
    """Run all at once for some seconds; the number of searches, all of them right."""
    name = f"vectors_{uuid4().hex[:12]}"
    client: Any = pymongo.MongoClient(uri)
    failures: list[BaseException] = []
    searches: list[int] = []
    shared = make_engine()

    def world(engine: Any = None) -> World:
        backend = MongoDatabackend(client, name)
        return World(backend, client[name], VectorIndexes(backend, engine or make_engine()))

    def write(rng: random.Random, own: World) -> None:
        vectors = np.random.default_rng(rng.randrange(1 << 30))
        touched = rng.sample(range(KEYS), rng.randint(1, 3))
        try:
            if rng.random() < 0.2:
                own.remove(*touched)
            else:
                own.put({key: vectors.standard_normal(DIM) for key in touched}, mark=rng.random() < 0.5)
        except Exception as error:
            if "WriteConflict" not in str(error):
                raise
        own.indexes.notify([own.spec])

    def apply(rng: random.Random, own: World) -> None:
        copies: Any = own.indexes.copies
        if rng.random() < 0.7 or isinstance(shared, MemoryVectorIndex):
            own.indexes.apply(own.spec)
        elif rng.random() < 0.1:
            own.indexes.rebuild(own.spec)
        else:  # one that dies before it publishes
            with copies.tables.lock(copies.prefix(own.spec)):
                step = copies.read_step(own.spec)
                if step is not None:
                    copies.write_step(own.spec, step)
        time.sleep(rng.random() * 0.05)

    def search(rng: random.Random, own: World) -> None:
        query = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(DIM)
        filter = {"mark": True} if rng.random() < 0.5 else None

        def finish(hits: Hits, session: Any) -> None:
            documents = own.backend.read(Find("things", filter or {}, sort=[("_id", 1)]), session=session)
            assert [key for key, _ in brute(documents, query, 6)] == [hit.key for hit in hits], hits.explanation
            searches.append(1)

        request = SearchRequest(own.spec, query, k=6, filter=filter, exact=True)
        if rng.random() < 0.3:
            with own.backend.transaction() as session:
                for _ in range(3):
                    own.indexes.search(request, finish, session=session)
        else:
            own.indexes.search(request, finish)

    def forever(job: Callable[[random.Random, World], None], seed: int, own: World) -> None:
        rng = random.Random(seed)
        try:
            while time.monotonic() < deadline and not failures:
                job(rng, own)
        except BaseException as error:
            failures.append(error)
            raise

    first = world(shared)
    first.indexes.ensure(first.spec)
    first.put({0: np.ones(DIM)}, mark=True)
    deadline = time.monotonic() + seconds
    jobs = [(write, world()), (write, world()), (apply, world()), (apply, world()), (search, first), (search, world())]
    threads = [threading.Thread(target=forever, args=(job, seed, own)) for seed, (job, own) in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    for _, own in jobs:
        own.indexes.close()
    assert [] == first.indexes.check(first.spec)
    drop_database(client, name)
    client.close()
    return len(searches)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.parametrize("engine", ["lancedb", "memory", "lancescan"])
def test_soak(mongodb_uri: str, tmp_path: Path, engine: str, seconds: float) -> None:
    """No search is wrong."""
    size = 0 if engine == "lancescan" else 1 << 20
    make = MemoryVectorIndex if engine == "memory" else lambda: LanceVectorIndex(str(tmp_path), cache_bytes=size)
    assert soak(mongodb_uri, make, seconds) > 5
