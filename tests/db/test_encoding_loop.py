"""Models do not block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from uuid import uuid4

import numpy as np

from superorm import Document, Mapped, Model, connect_async, field, select, update, vector
from tests.db.letters import Letters


class Slow(Document):
    __collection__ = "encoding_slow"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="slow")


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
        finally:
            allowing.cancel()
