"""A small model of the vector protocol, explored exhaustively: as it is it holds, and each rule is needed.

Two documents, k0 at distance 3 and k1 at 5, in a table of versions; searches ask for the nearest one.
A step of an actor is one operation that is atomic in MongoDB or in the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest

Values = tuple[int | None, ...]


class World(NamedTuple):
    """Everything that the actors share."""

    docs: Values = (3, 5)
    records: frozenset[tuple[int, int, int | None, bool]] = frozenset()
    """(id, key, publication that applied it, open)"""
    n: int = 0
    ver: int = 0
    table: tuple[Values, ...] = ((3, 5),)
    """The content of each version."""
    ids: int = 0
    lock: int | None = None
    crashes: int = 1
    seen: tuple[frozenset[int | None], ...] = ()
    """The values that each key had since the search began."""
    states: frozenset[Values] = frozenset()
    """The states of all documents since then."""
    handed: frozenset[tuple[int, int | None, int]] = frozenset()
    """(id, value, a publication that was there before the commit)"""

    def commit(self, key: int, value: int | None, **changes: Any) -> World:
        """Change a document."""
        docs = (*self.docs[:key], value, *self.docs[key + 1 :])
        seen = tuple(values | {docs[k]} for k, values in enumerate(self.seen))
        states = self.states | {docs} if self.seen else self.states
        return self._replace(docs=docs, seen=seen, states=states, **changes)

    def stamped(self, ids: frozenset[int]) -> frozenset[tuple[int, int, int | None, bool]]:
        """The records, with these ids stamped by the next publication."""
        return frozenset((i, k, self.n if i in ids else seq, o) for i, k, seq, o in self.records)

    @property
    def pending(self) -> frozenset[tuple[int, int, int | None, bool]]:
        return frozenset(record for record in self.records if record[2] is None)


def nearest(values: Values, among: frozenset[int] = frozenset((0, 1))) -> tuple[int, int] | None:
    """The least value and its key."""
    return min(((value, key) for key, value in enumerate(values) if key in among and value is not None), default=None)


class Wrong(Exception):
    """A search answered what no state of the documents explains."""


Step = Iterator[tuple[World, tuple[Any, ...] | None]]
"""The worlds that a step may lead to, each with what the actor does next."""


def writer(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Commits values: ids are taken before, so that they may become visible in another order."""
    pc, writes, *rest = at
    (key, value), *later = writes
    after = ("id", tuple(later)) if later else None
    if pc == "id":
        yield w._replace(ids=w.ids + 1), ("open" if "standalone" in broken else "commit", writes, w.ids, w.n)
    elif pc == "commit":
        id, n = rest
        handed = w.handed | {(id, value, n)} if "handed" in broken else w.handed
        yield w.commit(key, value, records=w.records | {(id, key, None, False)}, handed=handed), after
    elif pc == "open":
        yield w._replace(records=w.records | {(rest[0], key, None, "s1" not in broken)}), ("write", writes, *rest)
    elif pc == "write":
        yield w.commit(key, value), ("done", writes, *rest)
    else:
        records = frozenset((i, k, seq, o and i != rest[0]) for i, k, seq, o in w.records)
        yield w._replace(records=records), after


def as_handed(w: World, key: int, broken: frozenset[str]) -> int | None:
    """A document as it is now, or as it was handed over, where no other record names it that may be of later."""
    for id, value, n in w.handed:
        since = [i for i, k, seq, _ in w.records if k == key and (seq is None or (seq > n and "since" not in broken))]
        if since == [id] and (id, key, None, False) in w.records:
            return value
    return w.docs[key]


def applier(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Lock, read, restore, write, publish; may die after each. A lease may expire, and be taken, at any moment."""
    pc, rounds, *rest = at
    leased = "lease" in broken
    if pc == "lock":
        if w.lock is None or broken & {"lock", "lease"}:
            yield w._replace(lock=me), ("read", rounds)
        return
    free = w._replace(lock=None) if w.lock == me or not leased else w
    back = ("read", rounds) if w.lock == me else None
    if w.crashes:
        yield free._replace(crashes=0), None
    if pc == "read":
        todo = frozenset((i, k) for i, k, _, still_open in w.pending if not still_open)
        if not todo:
            yield free, None
        for some in (
            [todo, *(frozenset((one,)) for one in todo)] if "handed" in broken and todo else [todo] * bool(todo)
        ):
            values = tuple((k, as_handed(w, k, broken)) for k in sorted({k for _, k in some}))
            yield w, ("restore", rounds, w.n, w.ver, frozenset(i for i, _ in some), values)
        return
    n, ver, ids, values, *newest = rest
    if pc == "restore" and leased:
        yield w, ("restoring", rounds, *rest, len(w.table))
    elif pc in ("restore", "restoring"):
        versions = newest[0] if newest else len(w.table)
        if ver != versions - 1:
            w, versions = w._replace(table=(*w.table, w.table[ver])), versions + 1
        gap = leased and "gaps" not in broken and len(w.table) != versions
        yield w, back if gap else ("write", rounds, n, ver, ids, values, versions)
    elif pc == "write":
        content = list(w.table[-1])
        for k, value in values:
            content[k] = value
        gap = leased and "gaps" not in broken and len(w.table) != newest[0]
        written = w._replace(table=(*w.table, tuple(content)))
        yield written, back if gap else ("publish", rounds, n, len(w.table), ids, values)
    elif pc == "publish":
        if leased and w.lock != me:
            yield w, None
            return
        if w.n != n and "fence" not in broken:
            yield free, None
            return
        if "order" in broken:
            ids = frozenset(range(max(ids) + 1))
        published = w._replace(n=w.n + 1, ver=ver)
        if broken & {"together", "standalone"}:
            halfway = published if "standalone" in broken else w._replace(records=w.stamped(ids))
            yield halfway, ("stamp", rounds, n, ver, ids, values)
            return
        published = published._replace(records=published.stamped(ids), lock=None)
        yield published, ("lock", rounds - 1) if rounds > 1 else None
    else:
        free = w._replace(lock=None)
        yield (
            (free._replace(records=w.stamped(ids)) if "standalone" in broken else free._replace(n=n + 1, ver=ver)),
            None,
        )


def ahead(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Looks at the state under the lock, and only then commits a value, or gives up, while it is written to the table.

    What was written is published once it is committed, with the stamp of its own record; may die at any moment.
    """
    pc, (key, value), *rest = at
    if pc == "id":
        yield w._replace(ids=w.ids + 1), ("lock", (key, value), None, w.ids)
        return
    committed, id, *known = rest
    free = w._replace(lock=None) if w.lock == me else w
    if committed is None:
        after = w.commit(key, value, records=w.records | {(id, key, None, False)})
        yield after, (pc, (key, value), True, id, *known) if known or "late" in broken else None
        yield w, (pc, (key, value), False, id, *known)
    if w.crashes:
        yield free._replace(crashes=0), None
    if pc == "lock":
        if w.lock is None:
            yield w._replace(lock=me), ("restore", (key, value), *rest, w.n, w.ver)
    elif pc == "restore":
        restored = (*w.table, w.table[w.ver]) if w.ver != len(w.table) - 1 else w.table
        yield w._replace(table=restored), ("write", (key, value), *rest)
    elif pc == "write":
        content = (*w.table[-1][:key], value, *w.table[-1][key + 1 :])
        yield w._replace(table=(*w.table, content)), ("publish", (key, value), *rest, len(w.table))
    elif committed is not None or "early" in broken:
        n, _, made = known
        if committed is not False and w.n == n:
            free = free._replace(n=n + 1, ver=made)
            free = free._replace(records=free.stamped(frozenset((id,))))
        yield free, None


def rebuild(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Note the records, scan, lock, read again what was recorded since, publish."""
    pc, *rest = at
    if pc == "note":
        yield w, ("scan", frozenset(record[0] for record in w.records))
    elif pc == "scan":
        yield w, ("scan1", *rest, w.docs[0])
    elif pc == "scan1":
        yield w, ("lock", *rest, w.docs[1])
    elif pc == "lock":
        if w.lock is None:
            yield w._replace(lock=me), ("read", *rest)
    elif pc == "read":
        noted, *values = rest
        fresh = {k for i, k, _, _ in w.records if i not in noted and "rescan" not in broken}
        content = tuple(w.docs[k] if k in fresh else value for k, value in enumerate(values))
        yield w, ("publish", content, frozenset(record[0] for record in w.pending))
    else:
        content, ids = rest
        built = w._replace(n=w.n + 1, ver=len(w.table), table=(*w.table, content), lock=None)
        yield built._replace(records=built.stamped(ids)), None


def copier(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Copy the published version, lock, read again what was recorded after its publication, publish."""
    pc, *rest = at
    if pc == "note":
        yield w, ("copy", w.n, w.ver)
    elif pc == "copy":
        n, ver = rest
        yield w, ("lock", n, w.table[ver])
    elif pc == "lock":
        if w.lock is None:
            yield w._replace(lock=me), ("read", *rest)
    elif pc == "read":
        n, values = rest
        fresh = {k for _, k, seq, _ in w.records if seq is None or (seq > n and "since" not in broken)}
        content = tuple(w.docs[k] if k in fresh else value for k, value in enumerate(values))
        yield w, ("publish", content, frozenset(record[0] for record in w.pending))
    else:
        yield from rebuild(w, me, at, broken)


def search(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Read records and state, ask the engine, read documents; without transactions read the records again."""
    pc, *rest = at
    if pc == "look":
        begun = w._replace(seen=tuple(frozenset((v,)) for v in w.docs), states=frozenset((w.docs,)))
        yield begun, ("ask", w.docs, w.pending, w.n, w.ver)
        return
    docs, pending, n, ver, *more = rest
    leave_out = frozenset(record[1] for record in pending)
    if pc == "ask":
        content = w.table[-1] if "pin" in broken else w.table[ver]
        yield w, ("fetch", *rest, nearest(content, frozenset((0, 1)) - leave_out))
    elif pc == "fetch":
        among = leave_out | ({more[0][1]} if more[0] else set())
        answer = nearest(w.docs if broken & {"snapshot", "standalone"} else docs, among)
        if "standalone" in broken and "s3" not in broken:
            yield w, ("again", *rest, answer)
            return
        yield judge(w, answer, docs, broken), None
    elif (pending, n) != (w.pending, w.n):
        yield w, ("ask", w.docs, w.pending, w.n, w.ver)
    else:
        yield judge(w, more[-1], docs, broken), None


def judge(w: World, answer: tuple[int, int] | None, docs: Values, broken: frozenset[str]) -> World:
    """The world after a search, unless its snapshot, or without snapshots no mix of fresh values, gives the answer."""
    explained = product(*w.seen) if "standalone" in broken else w.states if "snapshot" in broken else [docs]
    if answer not in {nearest(values) for values in explained}:
        raise Wrong
    return w._replace(seen=(), states=frozenset())


ACTORS = {"W": writer, "A": applier, "E": ahead, "R": rebuild, "C": copier, "S": search}


def explore(actors: dict[str, tuple[Any, ...]], broken: frozenset[str]) -> int:
    """Visit every state; their number. Raises ``Wrong``."""
    start = (World(), tuple(actors.values()))
    kinds = [ACTORS[name[0]] for name in actors]
    todo, visited = [start], {start}
    while todo:
        world, ats = todo.pop()
        for me, at in enumerate(ats):
            if at is None:
                continue
            for after, following in kinds[me](world, me, at, broken):
                state = after, (*ats[:me], following, *ats[me + 1 :])
                if state not in visited:
                    visited.add(state)
                    todo.append(state)
        settled = not world.pending and all(
            at is None for name, at in zip(actors, ats, strict=True) if name[0] in "WERC"
        )
        if settled and world.lock is None and world.table[world.ver] != world.docs:
            raise Wrong
    return len(visited)


UPDATES = {"W1": ("id", ((0, 9), (1, 2))), "W2": ("id", ((0, 1),)), "S": ("look",)}
APPLIED = UPDATES | {"A1": ("lock", 1), "A2": ("lock", 1)}
DELETES = {
    "W1": ("id", ((0, None), (0, 9))),
    "W2": ("id", ((1, 2),)),
    "A1": ("lock", 2),
    "A2": ("lock", 1),
    "S": ("look",),
}
REBUILT = {"W1": ("id", ((0, 9), (1, 2))), "A1": ("lock", 2), "R": ("note",), "S": ("look",)}
COPIED = {"W1": ("id", ((0, 9), (1, 2), (0, 4))), "A1": ("lock", 2), "C": ("note",), "S": ("look",)}


@pytest.mark.parametrize("actors", [APPLIED, DELETES, REBUILT, COPIED], ids=["updates", "deletes", "rebuild", "copy"])
def test_protocol(actors: dict[str, tuple[Any, ...]]) -> None:
    """With transactions every search answers as one committed state, and what is applied equals the documents."""
    assert explore(actors, frozenset()) > 5000


def test_protocol_without_transactions() -> None:
    """Without transactions no search answers for a key as it was before the search."""
    one = {"W1": ("id", ((0, 9),)), "A1": ("lock", 2), "S": ("look",)}
    two = {"W1": ("id", ((0, 9),)), "W2": ("id", ((0, 1),)), "A1": ("lock", 1), "S": ("look",)}
    for actors in (one, two):
        assert explore(actors, frozenset({"standalone"})) > 200


LEASED = {"W1": ("id", ((0, 9), (0, 1), (1, 2))), "A1": ("lock", 1), "A2": ("lock", 2), "S": ("look",)}


def test_protocol_under_a_lease() -> None:
    """Appliers that lose their lease at any moment, and go on, do no harm."""
    assert explore(LEASED, frozenset({"lease"})) > 5000


HANDED = {"W1": ("id", ((0, 9),)), "W2": ("id", ((0, 1),)), "A1": ("lock", 2), "A2": ("lock", 1), "S": ("look",)}


def test_protocol_with_documents_handed_over() -> None:
    """Appliers that take some of the records, and documents as they were committed where they may, do no harm."""
    assert explore(HANDED, frozenset({"handed"})) > 1000


AHEAD = {"E": ("id", (0, 9)), "W": ("id", ((0, 1),)), "A1": ("lock", 2), "A2": ("lock", 1), "S": ("look",)}
BOTH_AHEAD = {"E1": ("id", (0, 9)), "E2": ("id", (0, None)), "A": ("lock", 1), "S": ("look",)}


@pytest.mark.parametrize("actors", [AHEAD, BOTH_AHEAD], ids=["one", "two"])
def test_protocol_with_writing_ahead_of_the_commit(actors: dict[str, tuple[Any, ...]]) -> None:
    """What is written to the table beside a commit, and published after it, does no harm, whatever becomes of it."""
    assert explore(actors, frozenset()) > 5000


@pytest.mark.parametrize(
    ("trace", "actors", "broken"),
    [
        ("a record that is stamped while a table is copied", COPIED, {"since"}),
        ("a later record that is stamped", HANDED, {"handed", "since"}),
        ("a state that was read after the commit", AHEAD, {"late"}),
        ("published before the commit", AHEAD, {"early"}),
        ("A", APPLIED, {"snapshot"}),
        ("B: not pinned", APPLIED, {"pin"}),
        ("B: version and stamps apart", APPLIED, {"together"}),
        ("C", APPLIED, {"lock", "fence"}),
        ("C: versions of a zombie in between", LEASED, {"lease", "gaps"}),
        ("D", APPLIED, {"order"}),
        ("E", REBUILT, {"rescan"}),
        ("s1", APPLIED, {"standalone", "s1"}),
        ("s3", APPLIED, {"standalone", "s3"}),
    ],
)
def test_each_rule_is_needed(trace: str, actors: dict[str, tuple[Any, ...]], broken: set[str]) -> None:
    """The model finds the trace that a broken rule lets through."""
    with pytest.raises(Wrong):
        explore(actors, frozenset(broken))
