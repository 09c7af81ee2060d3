"""superorm: a session that tracks, in its asynchronous form."""

from __future__ import annotations

from typing import Any

from mapper import Mapper

from candidates import superorm as synchronous
from candidates.superorm import Flat, Nested
from superorm import AsyncSession, connect_async, insert, select

NAME = f"{synchronous.NAME}, asynchronous"


class Candidate(Mapper):
    new_flat = synchronous.Candidate.new_flat
    statement = synchronous.Candidate.statement

    def open(self, uri: str, database: str) -> None:
        self.db = connect_async(uri, database=database, vector_database="memory://")
        self.session = AsyncSession(self.db)

    async def forget(self) -> None:
        await self.session.close()

    async def load_flat(self) -> list[Flat]:
        self.session = AsyncSession(self.db)
        return (await self.session.scalars(select(Flat))).all()

    async def stream_flat(self) -> int:
        total = 0
        async with AsyncSession(self.db) as session:
            async for one in session.stream_scalars(select(Flat)):
                total += one.age
        return total

    async def load_nested(self) -> list[Nested]:
        self.session = AsyncSession(self.db)
        return (await self.session.scalars(select(Nested))).all()

    async def insert(self, objects: list[Flat]) -> None:
        async with AsyncSession(self.db) as session:
            await session.bulk_insert(objects)
            await session.commit()

    async def insert_values(self, objects: list[Flat]) -> None:
        async with AsyncSession(self.db) as session:
            await session.execute(insert(Flat).values(objects))
            await session.commit()

    async def add_all(self, objects: list[Flat]) -> None:
        async with AsyncSession(self.db) as session:
            session.add_all(objects)
            await session.commit()

    async def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
        await self.session.commit()

    async def flush(self, _: list[Any]) -> None:
        await self.session.flush()
