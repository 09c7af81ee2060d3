"""The document whose key is null, which other programs may have written, is one like any other."""

from __future__ import annotations

from typing import Any

import numpy as np

from superorm import AsyncDB, Document, Mapped, field, select, vector
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Insert

COLLECTION = "spots_of_any_key"


class Spot(Document):
    __collection__ = COLLECTION

    key: Mapped[Any] = field(primary_key=True)
    vec: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


async def near(db: AsyncDB, query: Any) -> list[Any]:
    """The keys found, the nearest first."""
    async with db.session() as session:
        return [spot.key for spot in await session.scalars(select(Spot).like(query, k=5))]


async def test_the_document_of_key_null_is_left_out_and_leaves_the_index(db: AsyncDB) -> None:
    """It is not near itself, and when it is deleted its vector goes from the engine."""
    async with db.begin() as session:
        session.add_all([Spot(key=n, vec=np.array([n, 0], np.float32)) for n in (1, 2)])
    backend = db.parts.data_backend
    (one,) = await backend.read(Find(COLLECTION, {"_id": 1}))
    await backend.write(Insert(COLLECTION, [{**one, "_id": None}]))  # the vector of 1, by another program
    await db.rebuild(Spot.vec)
    async with db.session() as session:
        null = await session.get_one(Spot, None)
        assert [1, 2] == await near(db, null)
        assert {None, 1} == set((await near(db, [1.0, 0.0]))[:2])
        session.delete(null)
        await session.commit()
    assert [] == await backend.read(Find(COLLECTION, {"_id": None}))
    assert [1, 2] == await near(db, [1.0, 0.0])
    assert (await db.check()).ok
