"""A small model of changing a model's version in small transactions, explored exhaustively; each rule is needed.

Two documents, k0 with the source 3 and k1 with 5. By each version of the model the sources lie in another order,
so that vectors of two versions that are compared give themselves away. The design is told in
``docs/design/switching-models.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

Vector = tuple[int, int]
"""The source that it was made of, and the version that made it."""
Row = Vector | None


class Stored(NamedTuple):
    """A document."""

    source: int
    vector: Vector


class World(NamedTuple):
    """Everything that the actors share."""

    docs: tuple[Stored | None, ...] = (Stored(3, (3, 0)), Stored(5, (5, 0)))
    stage: frozenset[tuple[int, int, int]] = frozenset()
    """(key, version, source): a vector that waits beside the documents."""
    version: int = 0
    moving: bool = False
    """Whether vectors of the version may still be in the stage alone."""
    records: frozenset[tuple[int, int, bool]] = frozenset()
    """(id, key, whether the published table includes it)"""
    n: int = 0
    table: tuple[Row, ...] = ((3, 0), (5, 0))
    """What publication `n` made."""
    lock: int | None = None
    computed: int = 0
    """The commits of computed vectors, or writes to fences: each is in conflict with a switch that has begun."""
    crashes: int = 1
    fences: frozenset[int] = frozenset()
    """The writers that have written to a fence, and stand still before their commit arrives."""

    @property
    def pending(self) -> frozenset[int]:
        return frozenset(key for _, key, applied in self.records if not applied)

    def vector(self, key: int, broken: frozenset[str] = frozenset()) -> Row:
        """The vector that a document has for everybody who searches or applies: its own, or that of the stage."""
        doc = self.docs[key]
        if doc is None:
            return None
        if self.moving and "overlay" not in broken:
            for of, version, source in sorted(self.stage):
                if of == key and version == self.version and (source == doc.source or "compared" in broken):
                    return source, version
        return doc.vector

    def put(self, key: int, doc: Stored | None, **changes: Any) -> World:
        return self._replace(docs=(*self.docs[:key], doc, *self.docs[key + 1 :]), **changes)

    def staged(self, key: int, version: int, source: int | None) -> World:
        """With one vector in the stage, in the place of the one before it."""
        others = {one for one in self.stage if one[:2] != (key, version)}
        return self._replace(stage=frozenset(others if source is None else {*others, (key, version, source)}))

    def published(self, table: tuple[Row, ...], ids: frozenset[int]) -> World:
        records = frozenset((id, key, applied or id in ids) for id, key, applied in self.records)
        return self._replace(n=self.n + 1, table=table, records=records)


def distance(vector: Vector) -> int:
    """By each version the sources have another order."""
    source, version = vector
    return (source, 10 - source, 7 * source % 11)[version]


def nearest(rows: dict[int, Row]) -> int | None:
    return min(((distance(row), key) for key, row in rows.items() if row is not None), default=(0, None))[1]


class Wrong(Exception):
    """Some state would answer a search otherwise than its documents do."""


def judge(w: World, broken: frozenset[str]) -> None:
    """Search in a snapshot: the engine's candidate and what is pending, ranked by the vectors that documents have."""
    candidate = nearest({key: row for key, row in enumerate(w.table) if key not in w.pending})
    looked = w.pending if candidate is None else w.pending | {candidate}
    found = nearest({key: w.vector(key, broken) for key in looked})
    true = {key: None if doc is None else (doc.source, w.version) for key, doc in enumerate(w.docs)}
    if found != nearest(true):
        raise Wrong


Step = Iterator[tuple[World, tuple[Any, ...] | None]]
"""The worlds that a step may lead to, each with what the actor does next."""


def writer(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Reads which version is in use, computes, and commits where it still is, or where its fence is still there.

    Who was slow to look at that writes to what the switch writes, and so is in conflict with it.
    Who stands still before the commit has written to a fence, and is committed as it is, or given up by the server.
    """
    pc, writes, *rest = at
    (key, source), *later = writes
    again = ("version", tuple(later)) if later else None
    if pc == "version":
        yield w, ("commit", writes, w.version)
    elif pc == "sent":
        held = w._replace(fences=w.fences - {me})
        if w.crashes:
            yield held._replace(crashes=0), ("version", writes)
        records = w.records | {(len(w.records), key, False)}
        yield held.put(key, Stored(source, (source, rest[0])), records=records), again
    elif rest[0] != w.version and source is not None and not broken & {"stale", pc}:
        yield w, ("version", writes)
    else:
        records = w.records | {(len(w.records), key, False)}
        doc = None if source is None else Stored(source, (source, rest[0]))
        conflicts = source is not None and pc not in broken
        yield w.put(key, doc, records=records, computed=w.computed + conflicts), again
        if pc == "commit" and source is not None:
            yield w, ("slow", writes, rest[0])
            yield w._replace(fences=w.fences | {me}, computed=w.computed + 1), ("sent", writes, rest[0])


def applier(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Lock, read in one snapshot what is pending, or everything for a rebuild, publish; may die in between."""
    pc, *rest = at
    if pc == "lock":
        if w.lock is None:
            yield w._replace(lock=me), ("read", *rest)
        return
    if w.crashes:
        yield w._replace(lock=None, crashes=0), None
    if pc == "read":
        ids = frozenset(id for id, _, applied in w.records if not applied)
        keys = range(len(w.docs)) if rest else w.pending
        hidden = frozenset({"overlay"}) if "copied" in broken else broken
        rows = tuple(w.vector(key, hidden) if key in keys else row for key, row in enumerate(w.table))
        yield w, ("publish", w.n, rows, ids)
    else:
        n, rows, ids = rest
        yield (w.published(rows, ids) if w.n == n else w)._replace(lock=None), None


def encoder(w: World, me: int, at: tuple[Any, ...], broken: frozenset[str]) -> Step:
    """Encodes by a version beside all others, switches to it, moves the vectors; after a crash another one does."""
    pc, mine, *rest = at
    if w.crashes and pc != "begin":
        yield w._replace(lock=None if w.lock == me else w.lock, crashes=0), ("begin", mine)
    if pc == "begin":
        if w.version >= mine:
            yield w, ("put", mine, 0) if w.moving else None
        else:
            yield w, ("stage", mine, frozenset(id for id, _, _ in w.records), 0)
    elif pc == "stage":
        noted, key = rest
        doc = w.docs[key]
        after = w.staged(key, mine, None if doc is None else doc.source)
        if "keyed" in broken:
            kept = frozenset(one for one in after.stage if one[0] != key or one[1] == mine)
            after = after._replace(stage=kept)
        yield after, ("stage", mine, noted, key + 1) if key + 1 < len(w.docs) else ("look", mine, noted)
    elif pc == "look":
        (noted,) = rest
        ids = frozenset(id for id, _, _ in w.records)
        yield w, ("catch", mine, ids, tuple(sorted({key for id, key, _ in w.records if id not in noted})))
    elif pc == "catch":
        noted, keys = rest
        after = w
        for key in keys[:1]:
            doc = w.docs[key]
            after = w.staged(key, mine, None if doc is None else doc.source)
        if not keys and "noted" in broken:
            noted = frozenset(id for id, _, _ in w.records)
        yield after, ("catch", mine, noted, keys[1:]) if keys else ("lock", mine, noted)
    elif pc == "lock":
        if w.lock is None:
            yield w._replace(lock=me), ("read", mine, *rest)
    elif pc == "read" and w.version >= mine and "again" not in broken:
        yield w._replace(lock=None), ("begin", mine)
    elif pc == "read" and w.fences and "fenced" not in broken:
        return
    elif pc == "read":
        (noted,) = rest
        fresh = [key for id, key, _ in w.records if id not in noted and "fresh" not in broken]
        sources = tuple((key, doc.source if (doc := w.docs[key]) is not None else None) for key in sorted({*fresh}))
        yield w, ("switch", mine, noted, w.version, w.computed, sources, frozenset(id for id, _, _ in w.records))
    elif pc == "switch":
        noted, version, computed, sources, ids = rest
        if w.version != version:
            yield w._replace(lock=None), ("begin", mine)
            return
        if w.computed != computed and "conflict" not in broken:
            yield w, ("read", mine, noted)
            return
        after = w
        for key, source in sources:
            after = after.staged(key, mine, source)
        by_key = {key: (source, of) for key, of, source in after.stage if of == mine}
        rows = tuple(by_key.get(key) for key in range(len(w.docs)))
        switched = after._replace(version=mine, moving=True)
        if "together" in broken:
            yield switched, ("publish", mine, rows, ids)
        else:
            yield switched.published(rows, ids)._replace(lock=None), ("put", mine, 0)
    elif pc == "publish":
        yield w.published(*rest)._replace(lock=None), ("put", mine, 0)
    elif pc in ("put", "take"):
        (key,) = rest
        if w.version != mine or not w.moving:  # others have gone on
            yield w, None
            return
        first = (pc == "put") != ("order" in broken)
        after, doc = w, w.docs[key]
        if not first:
            after = w.staged(key, mine, None)
        elif doc is not None:
            for of, version, source in sorted(w.stage):
                if (of, version) == (key, mine) and (source == doc.source or "overwritten" in broken):
                    after = w.put(key, Stored(doc.source, (source, version)))
        following = ("take", mine, key) if pc == "put" else ("put", mine, key + 1) if key == 0 else ("end", mine)
        if "early" in broken and pc == "put":
            after = after._replace(moving=False)
        yield after, following
    else:
        left = w.version != mine or any(version == mine for _, version, _ in w.stage)
        yield (w if left else w._replace(moving=False)), None


ACTORS = {"W": writer, "A": applier, "R": encoder}


def explore(actors: dict[str, tuple[Any, ...]], broken: frozenset[str] = frozenset()) -> int:
    """Visit every state, and search in each; their number. Raises ``Wrong``."""
    start = (World(), tuple(actors.values()))
    kinds = [ACTORS[name[0]] for name in actors]
    todo, visited = [start], {start}
    while todo:
        world, ats = todo.pop()
        judge(world, broken)
        if all(at is None for at in ats) and not world.moving:
            own = [doc.vector == (doc.source, world.version) for doc in world.docs if doc is not None]
            if not all(own):
                raise Wrong
        for me, at in enumerate(ats):
            if at is None:
                continue
            for after, following in kinds[me](world, me, at, broken):
                state = after, (*ats[:me], following, *ats[me + 1 :])
                if state not in visited:
                    visited.add(state)
                    todo.append(state)
    return len(visited)


CHANGES = {"W1": ("version", ((0, 9), (1, 2))), "W2": ("version", ((0, 1),)), "A": ("lock",), "R": ("begin", 1)}
DELETES = {"W1": ("version", ((0, None), (0, 9))), "W2": ("version", ((1, None),)), "A": ("lock",), "R": ("begin", 1)}
REBUILT = {"W": ("version", ((0, 9), (1, 2))), "A": ("lock", "everything"), "R": ("begin", 1)}
TWICE = {"W": ("version", ((0, 9),)), "R1": ("begin", 1), "R2": ("begin", 1)}
OTHERS = {"W": ("version", ((0, 9),)), "R1": ("begin", 1), "R2": ("begin", 2)}


@pytest.mark.parametrize("actors", [CHANGES, DELETES, REBUILT, TWICE, OTHERS])
def test_switching(actors: dict[str, tuple[Any, ...]]) -> None:
    """In every state searches answer as the documents' sources do, by one version; crashes change nothing of it."""
    assert explore(actors) > 1000


@pytest.mark.parametrize(
    ("rule", "actors"),
    [
        ("overlay", CHANGES),
        ("compared", CHANGES),
        ("stale", CHANGES),
        ("fresh", CHANGES),
        ("noted", CHANGES),
        ("conflict", CHANGES),
        ("slow", CHANGES),
        ("fenced", CHANGES),
        ("together", CHANGES),
        ("order", CHANGES),
        ("overwritten", CHANGES),
        ("early", CHANGES),
        ("copied", REBUILT),
        ("again", TWICE),
        ("keyed", OTHERS),
    ],
)
def test_each_rule_is_needed(rule: str, actors: dict[str, tuple[Any, ...]]) -> None:
    """The model finds the state that a broken rule leads to."""
    with pytest.raises(Wrong):
        explore(actors, frozenset({rule}))
