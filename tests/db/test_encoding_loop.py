"""Models do not block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np

from superorm import (
    Document,
    Listener,
    Mapped,
    Metric,
    Model,
    Trainer,
    connect_async,
    field,
    select,
    update,
    vector,
)
from tests.db.letters import Letters


class Slow(Document):
    __collection__ = "encoding_slow"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="slow")


class Plain(Document):
    __collection__ = "trained_on_slowly"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]


class Waiting:
    """Answers when a task of the event loop has allowed it."""

    allowed = threading.Semaphore(0)
    asked = threading.Event()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        Waiting.asked.set()
        assert Waiting.allowed.acquire(timeout=10), "the event loop is blocked"
        return Letters().encode(texts)


async def allow() -> None:
    """Let the model answer, from the event loop, whenever it is asked."""
    while True:
        if Waiting.asked.is_set():
            Waiting.asked.clear()
            Waiting.allowed.release()
        await asyncio.sleep(0.005)


async def test_models_are_asked_off_the_event_loop() -> None:
    """By flushes, statements, searches, and when all is encoded anew."""
    async with connect_async(f"mongomock://{uuid4().hex}", trust="all", signing_key="k") as db:
        await db.add(Model("slow", Waiting(), fingerprint="1"))
        allowing = asyncio.create_task(allow())
        try:
            async with db.begin() as session:
                session.add(Slow(id=1, text="tea"))
            async with db.begin() as session:
                await session.execute(update(Slow).all().values(text="ice"))
            async with db.session() as session:
                assert [1] == (await session.scalars(select(Slow.id).like("cold", k=1))).all()
            await db.rebuild(Slow.vec, reencode=True)
            assert (26,) == (await db.predict("slow", ["tea"]))[0].shape
            await db.add(Listener("slowly", model="slow", select=select(Slow), key=Slow.text))
            async with db.begin() as session:
                session.add(Slow(id=2, text="salt"))
            outputs = await db.outputs("slowly")
            assert [1, 2] == sorted([key async for key in outputs])
        finally:
            allowing.cancel()


class Packed:
    """A model whose pickling and unpickling, fitting, rating and predicting wait for the event loop."""

    waited: ClassVar[list[str]] = []

    def wait(self, what: str) -> None:
        Waiting.asked.set()
        assert Waiting.allowed.acquire(timeout=10), f"the event loop is blocked by {what}"
        Packed.waited.append(what)

    def __getstate__(self) -> dict[str, Any]:
        self.wait("pickling")
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.wait("unpickling")

    def __deepcopy__(self, memo: Any) -> Packed:
        return Packed()

    def fit(self, texts: Sequence[str], numbers: Sequence[int]) -> None:
        self.wait("fitting")

    def predict(self, texts: Sequence[str]) -> list[int]:
        self.wait("predicting")
        return [0 for _ in texts]


def rating(outputs: Any, targets: Any) -> float:
    Packed().wait("rating")
    return 0.0


async def test_components_are_stored_and_trained_off_the_event_loop() -> None:
    """Pickled when they are added, unpickled when they are loaded, trained and rated in between."""
    name = uuid4().hex
    settings: dict[str, Any] = {"artifact_store": f"memory://{name}", "signing_key": "k"}
    async with connect_async(f"mongomock://{name}", **settings) as db:
        async with db.begin() as session:
            session.add(Plain(id=1, text="tea"))
        allowing = asyncio.create_task(allow())
        Packed.waited.clear()
        try:
            await db.add(Model("packed", Packed()))
            trainer = Trainer(select=select(Plain), key=Plain.text, target=Plain.id, metrics=[Metric("rating", rating)])
            await db.add(Model("trained", Packed(), trainer=trainer))
            async with connect_async(f"mongomock://{name}", **settings) as other:
                assert [0] == await other.predict("packed", ["tea"])
                await other.fit("trained")
        finally:
            allowing.cancel()
    assert {"pickling", "unpickling", "fitting", "predicting", "rating"} == {*Packed.waited}
