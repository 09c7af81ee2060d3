"""A session that is used by two threads or tasks at once says so, and nothing else does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from timeit import repeat
from typing import Any

import pytest

from superorm import DB, Document, Mapped, Session, SessionError, connect, connect_async, field, select


class Leaf(Document):
    __collection__ = "leaves"

    id: Mapped[int] = field(primary_key=True)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"alone_{request.node.name}_{time.monotonic_ns()}"[-60:]


@pytest.fixture
def db(name: str) -> Iterator[DB]:
    """A DB with three documents."""
    with connect(f"mongomock://{name}", signing_key="test-key") as db:
        with db.begin() as session:
            session.add_all([Leaf(id=key) for key in range(3)])
        yield db


class Gate:
    """Holds the backend's reads and writes up until it is opened."""

    def __init__(self, db: DB, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        backend: Any = db.parts.data_backend
        for method in ("read", "write"):
            monkeypatch.setattr(backend, method, self._held(getattr(backend, method)))

    def _held(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **kwargs: Any) -> Any:
            self.reached.set()
            assert self.open.wait(10)
            return method(*args, **kwargs)

        return held


CALLS: dict[str, Callable[[Session], Any]] = {
    "get": lambda session: session.get(Leaf, 1),
    "scalars": lambda session: session.scalars(select(Leaf)),
    "scalar": lambda session: session.scalar(select(Leaf.id)),
    "execute": lambda session: session.execute(select(Leaf.id)),
    "count": lambda session: session.count(select(Leaf)),
    "stream": lambda session: list(session.stream(select(Leaf))),
    "stream_scalars": lambda session: list(session.stream_scalars(select(Leaf))),
    "bulk_insert": lambda session: session.bulk_insert([Leaf(id=7)]),
    "flush": lambda session: session.flush(),
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "add": lambda session: session.add(Leaf(id=8)),
    "add_all": lambda session: session.add_all([Leaf(id=8)]),
    "delete": lambda session: session.delete(Leaf(id=8)),
    "expunge": lambda session: session.expunge(Leaf(id=8)),
    "refresh": lambda session: session.refresh(Leaf(id=8)),
    "refresh_all": lambda session: session.refresh_all([Leaf(id=8)]),
    "merge": lambda session: session.merge(Leaf(id=8)),
    "merge_all": lambda session: session.merge_all([Leaf(id=8)]),
    "is_modified": lambda session: session.is_modified(Leaf(id=8)),
    "expire": lambda session: session.expire(Leaf(id=8)),
    "expire_all": lambda session: session.expire_all(),
    "expunge_all": lambda session: session.expunge_all(),
    "new": lambda session: session.new,
    "dirty": lambda session: session.dirty,
    "deleted": lambda session: session.deleted,
}


@pytest.mark.parametrize("call", CALLS)
def test_two_threads_at_once(db: DB, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is called while another thread flushes is refused, with both threads' names; the flush goes on."""
    gate = Gate(db, monkeypatch)
    session = db.session()
    session.add(Leaf(id=9))
    worker = threading.Thread(target=session.commit, name="the-worker")
    worker.start()
    assert gate.reached.wait(10)
    try:
        with pytest.raises(SessionError, match=r"'MainThread' while commit\(\) runs in thread 'the-worker'"):
            CALLS[call](session)
    finally:
        gate.open.set()
        worker.join()
    assert [0, 1, 2, 9] == sorted(leaf.id for leaf in session.scalars(select(Leaf)))


def test_every_public_method_is_covered() -> None:
    """Each method and property that does anything with the session is tried above."""
    own = {name for name in vars(Session) if not name.startswith("_")}
    wrapped = {"begin", "get_one"}  # which call others that are covered
    assert set() == own - CALLS.keys() - wrapped - {"made_by", "load"}


def test_one_thread_after_the_other(db: DB) -> None:
    """Several threads may take turns, in the middle of a stream too."""
    session = db.session()
    stream = session.stream_scalars(select(Leaf).order_by(Leaf.id), batch_size=1)
    found: list[int] = []

    def work() -> None:
        leaf = next(stream)
        assert isinstance(leaf, Leaf)
        found.append(leaf.id)
        session.add(Leaf(id=10 + leaf.id))
        session.commit()

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [0, 1, 2] == found
    assert 6 == session.count(select(Leaf))


async def test_two_tasks_at_once(db: DB, name: str) -> None:
    """The tasks are named; the call that was first goes on."""
    async with connect_async(f"mongomock://{name}", signing_key="test-key") as adb, adb.session() as session:
        first = asyncio.create_task(session.get(Leaf, 1), name="the-first")
        second = asyncio.create_task(session.get(Leaf, 2), name="the-second")
        with pytest.raises(SessionError, match=r"task 'the-second' while get\(\) runs in task 'the-first'"):
            await second
        assert 1 == (await first).id  # type: ignore[union-attr]
        assert 2 == (await session.get_one(Leaf, 2)).id
        flush = asyncio.create_task(session.scalars(select(Leaf)), name="the-query")
        await asyncio.sleep(0)
        with pytest.raises(SessionError, match=r"add\(\) was called in task .* runs in task 'the-query'"):
            session.add(Leaf(id=5))
        await flush


async def test_a_half_read_stream_and_others_of_the_same_task(db: DB, name: str) -> None:
    """Between two rows the session does other things, in this task and in others that are waited for."""
    async with connect_async(f"mongomock://{name}", signing_key="test-key") as adb, adb.session() as session:
        seen: list[int] = []
        async for leaf in session.stream_scalars(select(Leaf).order_by(Leaf.id), batch_size=1):
            seen.append(leaf.id)
            assert leaf.id == (await session.get_one(Leaf, leaf.id)).id
            assert 3 == await asyncio.wait_for(session.count(select(Leaf)), 5)
        assert [0, 1, 2] == seen


async def test_a_cancelled_call_leaves_the_session_free(db: DB, name: str) -> None:
    """It is over once it was cancelled."""
    async with connect_async(f"mongomock://{name}", signing_key="test-key") as adb, adb.session() as session:
        task = asyncio.create_task(session.scalars(select(Leaf)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 3 == await session.count(select(Leaf))


def test_it_costs_little(db: DB) -> None:
    """Less than half a microsecond a call, on a machine that is busy less than two."""
    from superorm._sync.alone import Alone, alone

    work: Any = None

    class Both:
        def __init__(self) -> None:
            self._alone = Alone(work)

        def bare(self) -> None:
            pass

        guarded = alone(bare)

    both = Both()
    number = 20_000
    bare = min(repeat(both.bare, number=number, repeat=7)) / number
    guarded = min(repeat(both.guarded, number=number, repeat=7)) / number
    assert guarded - bare < 2e-6
    print(f"{(guarded - bare) * 1e9:.0f} ns")
