"""Random writes, searches, rollbacks, rebuilds and deaths of two processes: each search is right in its snapshot."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.vectors.brute import DIM
from tests.vectors.peer import ENGINES, METRICS, Peer, Place, Question
from tests.vectors.processes import Died, RemotePeer
from tests.vectors.s3_server import S3Server

_RANDOM = np.random.default_rng(6).standard_normal((10, DIM)).astype("f4")
VECTORS = [*_RANDOM, -_RANDOM[0], 3 * _RANDOM[1], np.zeros(DIM, "f4")]
"""So few that several documents have the same one."""
EVERYTHING = [Question(name, _RANDOM[0].tolist(), 1000, True) for name in sorted(METRICS)]

who = st.sampled_from([0, 1])
names = st.sampled_from(sorted(METRICS))
vectors = st.sampled_from([None, *VECTORS])
keys = st.integers(0, 7)  # of songs that are put and dropped; statements and bulks add higher ones
years = st.integers(0, 6)
ranges = st.tuples(years, years).map(lambda pair: (min(pair), max(pair)))
song = {"v": vectors, "w": vectors, "year": years, "mark": st.booleans()}
some = st.fixed_dictionaries({}, optional=song).filter(bool)
writes = st.one_of(
    st.tuples(st.just("put"), keys, some),
    st.tuples(st.just("put"), keys, st.fixed_dictionaries(song)),
    st.tuples(st.just("drop"), keys),
    st.tuples(st.just("statement"), st.sampled_from(["update", "insert", "delete"]), ranges, some),
    st.tuples(st.just("bulk"), st.lists(st.fixed_dictionaries(song), min_size=1, max_size=5)),
)
questions = st.builds(
    Question,
    name=names,
    query=st.sampled_from([vector.tolist() for vector in VECTORS[:-1]]),
    k=st.sampled_from([1, 2, 3, 5, 8, 30, 1000]),
    exact=st.booleans(),
    years=st.none() | ranges,
    mark=st.none() | st.booleans(),
    after=st.booleans(),
)


class VectorsMachine(RuleBasedStateMachine):
    """The first peer is this process, the second another one, which dies at times."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        with ExitStack() as stack:
            stack.callback(place.drop)
            self.client = stack.enter_context(place.client())
            local = Peer(place)
            stack.callback(local.close)
            local.create()
            self.place = place
            self.peers: list[Peer | RemotePeer] = [local, RemotePeer(place, self.client)]
            stack.callback(lambda: self.peers[1].close())
            self.stack = stack.pop_all()

    @rule(who=who, calls=st.lists(writes, min_size=1, max_size=4))
    def write(self, who: int, calls: list[tuple[Any, ...]]) -> None:
        """Change some songs."""
        for call in calls:
            if self.peers[who].do(*call) == "conflict":
                break

    @rule(who=who, call=st.sampled_from(["flush", "commit", "commit", "rollback", "apply"]), question=questions)
    def end(self, who: int, call: str, question: Question) -> None:
        """Flush, end the transaction, or apply what was committed; the other one searches."""
        self.peers[who].do(call)
        self.search(1 - who, question)

    @rule(who=who, name=names)
    def rebuild(self, who: int, name: str) -> None:
        """Build an index anew."""
        self.peers[who].do("rebuild", name)

    @rule(who=who, question=questions)
    def search(self, who: int, question: Question) -> None:
        """Search in the session as it is."""
        answer = self.peers[who].do("search", question)
        if answer != "conflict":
            answer.check()

    @rule(
        commands=st.integers(0, 25),
        calls=st.lists(writes, max_size=2),
        last=st.sampled_from([(), ("apply",), ("rebuild", "v")]),
        question=questions,
    )
    def kill(self, commands: int, calls: list[tuple[Any, ...]], last: tuple[str, ...], question: Question) -> None:
        """The second process is killed while it writes, commits, applies or rebuilds, unless it is done before."""
        remote = self.peers[1]
        try:
            remote.do("die_after", commands)
            for call in [*calls, ("commit",), *([last] if last else [])]:
                remote.do(*call)
            remote.do("die_after", -1)
        except Died:
            self.peers[1] = RemotePeer(self.place, self.client)
        self.search(0, question)
        self.search(1, question)

    def teardown(self) -> None:
        """Nothing is lost, and the vector database is what the documents say."""
        with self.stack:
            for peer in self.peers:
                peer.do("rollback")
            for question in EVERYTHING:
                self.search(0, question)
                self.search(1, question)
            assert [] == self.peers[0].do("problems")
            assert [] == self.peers[1].do("problems")
            for question in EVERYTHING:
                self.search(0, question)


@pytest.mark.parametrize("engine", [*ENGINES, "s3"])
@pytest.mark.parametrize("soak", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["short", "long"])
def test_two_processes(
    mongodb_uri: str, tmp_path: Path, request: pytest.FixtureRequest, engine: str, soak: bool
) -> None:
    """No search of either process is wrong, and nothing is lost."""
    numbers = count()
    server: S3Server | None = request.getfixturevalue("s3") if engine == "s3" else None
    bucket = "" if server is None else server.bucket()

    def make() -> VectorsMachine:
        name, number = f"vectors_{uuid4().hex[:12]}", str(next(numbers))
        path = tmp_path / number if server is None else server.url(bucket, number)
        return VectorsMachine(Place(mongodb_uri, name, path, engine))

    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=200 if soak else 4 if server is None else 2,
            stateful_step_count=60 if soak else 20,
            deadline=None,
            derandomize=not soak,
            database=None,
            phases=[Phase.generate],  # what happens in the background is not the same again
            suppress_health_check=list(HealthCheck),
        ),
    )
