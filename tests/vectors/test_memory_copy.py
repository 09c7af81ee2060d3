"""Copies in memory against a small database with snapshots, versions of a table and publications, by random steps."""

from __future__ import annotations

import threading
from typing import Any
from unittest import mock

import numpy as np
import pytest
from attrs import evolve, field, frozen
from bson import ObjectId
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from superorm.codec.keys import decode_key, encode_key
from superorm.schema.vector_spec import Metric, VectorSpec
from superorm.vectors import memory_copy
from superorm.vectors.memory_copy import Forward, MemoryCopy, Ranked
from superorm.vectors.mirror import table_rows
from superorm.vectors.records import Look, Record, State
from superorm.vectors.rows import Rows
from tests.vectors.brute import stored
from tests.vectors.prepared import as_rows

QUERY = np.array([1, 0], np.float32)
KEYS = st.integers(0, 5)
VALUES = st.none() | st.integers(0, 40).map(lambda n: n / 4)
PICK = st.integers(0, 1000)


@frozen
class Snapshot:
    """One committed state of the database, with what the engine's table holds at the published version."""

    docs: dict[int, float]
    table: dict[int, float]
    records: tuple[Record, ...] = ()
    n: int = 0
    floor: int = 0
    token: str = "t0"

    def look(self, since: int | None) -> Look:
        """What a search reads."""
        seen = {r.id: r for r in self.records if r.seq is None or (since is not None and r.seq > since)}
        return Look(State(self.n, self.floor, self.n, self.token), seen, since)

    def change(self, writes: dict[int, float | None], record: Record) -> Snapshot:
        """The state after a commit."""
        docs = {key: value for key, value in {**self.docs, **writes}.items() if value is not None}
        return evolve(self, docs=docs, records=(*self.records, record))

    def read(self, keys: Any) -> list[dict[str, Any]]:
        """Those documents that are there."""
        return documents({key: self.docs[key] for key in keys if key in self.docs})

    def ranked(self, among: set[int] | None = None) -> list[tuple[float, int]]:
        """Brute force: distances and keys, nearest first, ties by key."""
        keys = [key for key in sorted(self.docs) if among is None or key in among]
        rows = np.array([[1, self.docs[key]] for key in keys], np.float64).reshape(-1, 2)
        distances = ((rows - QUERY) ** 2).sum(axis=1)
        return sorted(zip(distances.tolist(), keys, strict=True))


def documents(values: dict[int, float]) -> list[dict[str, Any]]:
    """With vectors whose distance to the query is the value squared."""
    return [{"_id": key, "v": stored(np.array([1, value]))} for key, value in values.items()]


def spec(metric: Metric) -> VectorSpec:
    """Of their vectors."""
    return VectorSpec("things", "v", 2, metric)


def rows_of(values: dict[int, float], metric: Metric = "euclidean", size: int = 0) -> Rows:
    """The rows of documents."""
    rows = Rows(2, metric, size)
    rows.replace((), table_rows(spec(metric), documents(values)))
    return rows


@frozen
class Applying:
    """What an applier read: it publishes later, if nobody else did meanwhile."""

    read: Snapshot
    ids: frozenset[ObjectId]


@frozen
class Search:
    """A search under way in a snapshot."""

    copy: MemoryCopy
    snapshot: Snapshot
    look: Look
    step: Forward | None
    ranked: Ranked | None
    installed: list[bool] = field(factory=list[bool])


class Copies(RuleBasedStateMachine):
    """Writers, appliers, rebuilds, and searches of which some are in transactions, over one copy.

    The copy is loaded from the documents of a snapshot, or with `published` from the table's version.
    """

    answered = confirmed = 0

    @initialize(published=st.booleans())
    def begin(self, published: bool) -> None:
        """Five documents, applied."""
        docs = {key: float(key + 1) for key in range(5)}
        self.published = published
        self.now = Snapshot(docs, docs)
        self.snapshots = [self.now]
        self.transactions: list[tuple[dict[int, float | None], Record]] = []
        self.appliers: list[Applying] = []
        self.searches: list[Search] = []
        self.copy = self.load(self.now)

    def load(self, snapshot: Snapshot) -> MemoryCopy:
        """A copy as a snapshot has it."""
        rows = rows_of(snapshot.table if self.published else snapshot.docs)
        return MemoryCopy(rows, snapshot.look(None), published=self.published, monotone=False)

    @rule(writes=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), late=st.booleans())
    def write(self, writes: dict[int, float | None], late: bool) -> None:
        """A writer takes the id of its record, and commits now or later."""
        self.transactions.append((writes, Record(ObjectId(), [*writes], None)))
        if not late:
            self.commit(-1)

    @precondition(lambda self: self.transactions)
    @rule(pick=PICK)
    def commit(self, pick: int) -> None:
        """Some writer commits."""
        writes, record = self.transactions.pop(pick % len(self.transactions))
        self.now = self.now.change(writes, record)
        self.snapshots = [*self.snapshots[-7:], self.now]

    @rule(pick=st.lists(st.booleans(), min_size=1, max_size=8))
    def apply(self, pick: list[bool]) -> None:
        """An applier reads some of the records and the documents as they are."""
        waiting = [r.id for r in self.now.records if r.seq is None]
        chosen = frozenset(id for position, id in enumerate(waiting) if pick[position % len(pick)])
        self.appliers = [*self.appliers[-1:], Applying(self.now, chosen)]

    @precondition(lambda self: self.appliers)
    @rule()
    def publish(self) -> None:
        """An applier publishes what it read, unless the state moved."""
        applying = self.appliers.pop()
        if applying.read.n != self.now.n:
            return
        touched = {key for r in applying.read.records if r.id in applying.ids for key in r.keys}
        table = {key: value for key, value in self.now.table.items() if key not in touched}
        table |= {key: applying.read.docs[key] for key in touched if key in applying.read.docs}
        self.stamp(applying.ids, table=table)

    @rule()
    def rebuild(self) -> None:
        """The table is built anew; in memory the index is only loaded anew."""
        ids = frozenset(r.id for r in self.now.records if r.seq is None)
        if self.published:
            self.stamp(ids, table=self.now.docs, token=f"t{self.now.n + 1}")
        else:
            self.copy = self.load(self.now)

    def stamp(self, ids: frozenset[ObjectId], **changes: Any) -> None:
        """Publish: the state and the stamps at once."""
        n = self.now.n + 1
        records = tuple(evolve(r, seq=n) if r.id in ids else r for r in self.now.records)
        self.now = evolve(self.now, n=n, records=records, **changes)
        self.snapshots = [*self.snapshots[-7:], self.now]

    @rule(kept=st.integers(0, 4))
    def prune(self, kept: int) -> None:
        """Records applied long ago go."""
        floor = max(self.now.floor, self.now.n - kept)
        records = tuple(r for r in self.now.records if r.seq is None or r.seq > floor)
        self.now = evolve(self.now, records=records, floor=floor)

    def find(self, snapshot: Snapshot, *, outside: bool, quick: bool, late: bool = False) -> None:
        """A search begins: it may rank first, then looks, and finds out how to bring the copy forward."""
        ranked = self.copy.rank(QUERY, 4, []) if quick else None
        look = snapshot.look(self.copy.n if ranked is None else ranked.n)
        if outside and self.copy.stale(look):
            self.copy = self.load(snapshot)
            look, ranked = snapshot.look(self.copy.n if late else None), None
        step = self.copy.forward(look) if outside else None
        self.searches = [*self.searches[-5:], Search(self.copy, snapshot, look, step, ranked)]

    @rule(quick=st.booleans())
    def search_now(self, quick: bool) -> None:
        """A search outside transactions."""
        self.find(self.now, outside=True, quick=quick)

    @rule(pick=PICK, quick=st.booleans(), late=st.booleans())
    def search_late(self, pick: int, quick: bool, late: bool) -> None:
        """A search whose snapshot was taken some time ago."""
        self.find(self.snapshots[pick % len(self.snapshots)], outside=True, quick=quick, late=late)

    @rule(pick=PICK, writes=st.dictionaries(KEYS, VALUES, max_size=2))
    def search_in_transaction(self, pick: int, writes: dict[int, float | None]) -> None:
        """A search in a transaction that sees its own writes, which nobody else will."""
        snapshot = self.snapshots[pick % len(self.snapshots)]
        if writes:
            snapshot = snapshot.change(writes, Record(ObjectId(), [*writes], None))
        self.find(snapshot, outside=False, quick=False)

    @precondition(lambda self: self.forward())
    @rule(pick=PICK)
    def bring_forward(self, pick: int) -> None:
        """A search brings the copy forward, unless another was quicker."""
        search = self.forward()[pick % len(self.forward())]
        assert search.step is not None
        read = search.snapshot.read(search.step.keys.values())
        search.installed.append(search.copy.install(search.step, search.look, spec("euclidean"), read))

    def forward(self) -> list[Search]:
        """The searches that know how to bring the copy forward, and have not done it."""
        return [search for search in self.searches if search.step is not None and not search.installed]

    @precondition(lambda self: self.searches)
    @rule(pick=PICK, among=st.none() | st.sets(KEYS))
    def rank(self, pick: int, among: set[int] | None) -> None:
        """Searches answer as brute force over the documents of their snapshots does, or not at all; one ends."""
        for search in self.searches:
            if search.ranked is not None:
                found = search.copy.seen(search.ranked, search.look)
                Copies.confirmed += found is not None and bool(search.installed)
                self.compare(search, found, None)
            self.compare(
                search,
                search.copy.nearest(search.look, QUERY, 100, [], among=None if among is None else [*among]),
                among,
            )
        self.searches.pop(pick % len(self.searches))

    def compare(self, search: Search, found: Any, among: set[int] | None) -> None:
        """What memory found, with the pending keys ranked from the documents, is what brute force finds."""
        if found is None:
            return
        Copies.answered += 1
        nearest, pending = found
        memory = {decode_key(key): float(d) for key, d in zip(nearest.keys, nearest.distances, strict=True)}
        assert not memory.keys() & set(pending.values())
        wanted = set(pending.values()) if among is None else set(pending.values()) & among
        values = memory | {key: distance for distance, key in search.snapshot.ranked(wanted)}
        ranked = [key for _, key in sorted((distance, key) for key, distance in values.items())]
        expected = [key for _, key in search.snapshot.ranked(among)]
        if nearest.complete:
            assert expected == ranked
        else:
            count = len(nearest.keys)
            assert expected[:count] == ranked[:count]


def test_random_interleavings() -> None:
    """Whatever moves memory on meanwhile, each search answers as its own snapshot does."""
    Copies.answered = Copies.confirmed = 0
    with mock.patch.object(memory_copy, "HISTORY", 6), mock.patch.object(memory_copy, "STEPS", 3):
        run_state_machine_as_test(
            Copies,
            settings=settings(
                max_examples=100, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    assert Copies.answered > 100
    assert Copies.confirmed > 0


@pytest.mark.parametrize("published", [False, True])
def test_a_publication_reads_nothing_again(published: bool) -> None:
    """Records that were applied while they were pending are not read again once they are published."""
    docs = {key: float(key + 1) for key in range(5)}
    record = Record(ObjectId(), [0], None)
    before = Snapshot(docs, docs)
    rows = rows_of(docs)
    copy = MemoryCopy(rows, before.look(None), published=published, monotone=False)
    written = before.change({0: 9.0}, record)
    step = copy.forward(written.look(copy.n))
    assert step is not None
    assert [0] == list(step.keys.values())
    assert copy.install(step, written.look(copy.n), spec("euclidean"), written.read([0]))
    stamped = evolve(written, n=1, records=(evolve(record, seq=1),), table=written.docs)
    step = copy.forward(stamped.look(copy.n))
    assert step is not None
    assert {} == step.keys
    assert copy.install(step, stamped.look(copy.n), spec("euclidean"), stamped.read([]))
    assert 1 == copy.n
    assert copy.forward(stamped.look(copy.n)) is None
    nearest, pending = copy.nearest(stamped.look(copy.n), QUERY, 5, []) or (None, None)
    assert {} == pending
    assert nearest is not None
    assert [1, 2, 3, 4, 0] == [decode_key(key) for key in nearest.keys]


def test_a_look_that_does_not_reach_back_is_refused() -> None:
    """Of a copy older than what a search read of the records, nothing is answered."""
    docs = {0: 1.0, 1: 2.0}
    rows = rows_of(docs)
    copy = MemoryCopy(rows, Snapshot(docs, docs).look(None), published=True, monotone=False)
    later = evolve(Snapshot(docs, docs), n=1, records=(Record(ObjectId(), [0], 1),))
    assert copy.nearest(later.look(None), QUERY, 5, []) is None
    assert copy.forward(later.look(None)) is None
    assert copy.nearest(later.look(0), QUERY, 5, []) is not None


def test_what_was_ranked_long_ago_is_refused() -> None:
    """Where memory went on by more steps than it remembers, what was ranked before counts no more."""
    docs = {key: float(key + 1) for key in range(5)}
    rows = rows_of(docs)
    with mock.patch.object(memory_copy, "STEPS", 2):
        copy = MemoryCopy(rows, Snapshot(docs, docs).look(None), published=True, monotone=False)
    ranked, now = copy.rank(QUERY, 5, []), Snapshot(docs, docs)
    for step in range(3):
        now = now.change({step: 9.0 + step}, Record(ObjectId(), [step], None))
        forward = copy.forward(now.look(0))
        assert forward is not None
        assert copy.install(forward, now.look(0), spec("euclidean"), now.read([step]))
        found = copy.seen(ranked, now.look(0))
        if step < 2:
            assert found is not None
            assert set(range(step + 1)) == set(found[1].values())
            assert list(range(step + 1, 5)) == [decode_key(key) for key in found[0].keys]
        else:
            assert found is None


def grown(copy: MemoryCopy, now: Snapshot, values: dict[int, float | None]) -> tuple[Snapshot, Forward]:
    """A commit of these values, and the step to it."""
    now = now.change(values, Record(ObjectId(), [*values], None))
    step = copy.forward(now.look(0))
    assert step is not None
    return now, step


def test_room_is_asked_for_before_it_is_taken() -> None:
    """What is allocated, rows without a key included, never goes beyond what was given; a step without room is none."""
    docs = {key: float(key) for key in range(50)}
    rows = rows_of(docs, "cosine", 50)
    asked: list[int] = []
    limit = 60 * 8

    def extend(copy: MemoryCopy, least: int, most: int) -> int | None:
        asked.append(least)
        return min(most, limit) if least <= limit else None

    now = Snapshot(docs, docs)
    copy = MemoryCopy(rows, now.look(None), published=True, monotone=False, extend=extend)
    assert 50 * 8 == copy.nbytes
    now, step = grown(copy, now, dict.fromkeys(range(20)))
    assert copy.install(step, now.look(0), spec("cosine"), now.read([]))
    assert (30, 50 * 8) == (len(copy), copy.nbytes)
    now, step = grown(copy, now, {100 + key: 1.0 for key in range(20)})
    assert copy.install(step, now.look(0), spec("cosine"), now.read(step.keys.values()))
    assert (50, 50 * 8, []) == (len(copy), copy.nbytes, asked)
    now, step = grown(copy, now, {200 + key: 1.0 for key in range(10)})
    assert step.fits
    assert copy.install(step, now.look(0), spec("cosine"), now.read(step.keys.values()))
    assert (60, 60 * 8) == (len(copy), copy.nbytes)
    now, step = grown(copy, now, {300: 1.0})
    assert not step.fits
    assert not copy.install(step, now.look(0), spec("cosine"), now.read([300]))
    assert [60 * 8, 61 * 8] == asked
    assert copy.nbytes == limit


def test_what_is_known_is_told_while_rows_are_installed() -> None:
    """Nobody who only asks what memory has applied, as event loops do, waits for rows to be written or ranked."""
    docs = {key: float(key + 1) for key in range(5)}
    rows = rows_of(docs)
    now = Snapshot(docs, docs)
    copy = MemoryCopy(rows, now.look(None), published=True, monotone=False)
    ranked = copy.rank(QUERY, 3, [])
    now, step = grown(copy, now, {0: 9.0, 7: 0.5})
    begun, go = threading.Event(), threading.Event()
    replace = rows.replace

    def slow(*args: Any) -> None:
        begun.set()
        assert go.wait(20)
        replace(*args)

    def ask() -> None:
        told.append(copy.seen(ranked, now.look(0)))
        told.append(copy.forward(now.look(0)))
        told.append(copy.rows_seen(now.look(0)))

    told: list[Any] = []
    with mock.patch.object(rows, "replace", slow):
        writer = threading.Thread(target=copy.install, args=(step, now.look(0), spec("euclidean"), now.read([0, 7])))
        writer.start()
        assert begun.wait(20)
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(5)
        waited = asking.is_alive()
        go.set()
        writer.join()
        asking.join()
    assert not waited
    (seen, forward, held) = told
    assert [1, 2] == [decode_key(key) for key in seen[0].keys]
    assert {0, 7} == set(seen[1].values())
    assert (step, 5) == (forward, held)
    found, pending = copy.nearest(now.look(0), QUERY, 9, []) or (None, None)
    assert {} == pending
    assert found is not None
    assert [7, 1, 2, 3, 4, 0] == [decode_key(key) for key in found.keys]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_rows_that_came_in_many_parts(metric: Any) -> None:
    """However room was made, rows are replaced, dropped, ranked and compared as if they had come at once."""
    rng = np.random.default_rng(3)
    held: dict[str, Any] = {}
    rows = Rows(4, metric, 7)
    for step in range(60):
        some = {encode_key(int(key)): rng.standard_normal(4).astype("f4") for key in rng.integers(0, 900, 40)}
        gone = [encode_key(int(key)) for key in rng.integers(0, 900, 15)]
        rows.replace([*gone, *some], as_rows(metric, [*some], np.array([*some.values()])))
        held = {key: row for key, row in held.items() if key not in gone} | some
        rows.reserve(rows.size + step % 3)
    query = rng.standard_normal(4).astype("f4")
    wide = {key: row.astype("f8") for key, row in held.items()}
    if metric == "cosine":
        distance = {k: 1 - row @ query / np.sqrt(row @ row) / np.sqrt(float(query @ query)) for k, row in wide.items()}
    elif metric == "dot":
        distance = {key: -float(row @ query) for key, row in wide.items()}
    else:
        distance = {key: float(((row - query) ** 2).sum()) for key, row in wide.items()}
    for among in (None, [*held][::20], [*held][::2]):
        best = sorted(among or held, key=lambda key: (distance[key], key))[:10]
        nearest = rows.nearest(query, 10, [best[0]], None if among is None else [decode_key(key) for key in among])
        assert best[1:] == list(nearest.keys)[:9]
        assert np.allclose([distance[key] for key in nearest.keys], nearest.distances, atol=1e-4)
    again = Rows(4, metric)
    again.replace((), as_rows(metric, [*held], np.array([*held.values()])))
    assert {} == again.compare(rows)
    assert len(held) == len(rows) <= rows.size
    assert rows.nbytes == rows.size * 4 * (4 if metric == "cosine" else 5)
