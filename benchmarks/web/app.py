"""One document read a request, as JSON: the same app on superorm and on PyMongo alone, chosen by APP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from bson import ObjectId
from fastapi import FastAPI, HTTPException
from pymongo import AsyncMongoClient

from superorm import AsyncSession, Document, Mapped, connect_async

URI, DATABASE = os.environ["URI"], os.environ["DATABASE"]


class Flat(Document):
    name: Mapped[str]
    email: Mapped[str]
    city: Mapped[str]
    age: Mapped[int]
    visits: Mapped[int]
    score: Mapped[float]
    balance: Mapped[float]
    active: Mapped[bool]
    created: Mapped[datetime]
    updated: Mapped[datetime]


NAMES = ("name", "email", "city", "age", "visits", "score", "balance", "active", "created", "updated")


def with_superorm() -> FastAPI:
    """A session a request."""
    db = connect_async(URI, database=DATABASE, vector_database="memory://")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with db:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/people/{key}")
    async def person(key: str) -> dict[str, Any]:
        async with AsyncSession(db) as session:
            found = await session.get(Flat, ObjectId(key))
        if found is None:
            raise HTTPException(404)
        return {"id": key, **{name: getattr(found, name) for name in NAMES}}

    return app


def with_pymongo() -> FastAPI:
    """The client alone."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(URI, tz_aware=True)
    collection = client[DATABASE].flat

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/people/{key}")
    async def person(key: str) -> dict[str, Any]:
        found = await collection.find_one({"_id": ObjectId(key)})
        if found is None:
            raise HTTPException(404)
        return {"id": key, **{name: found[name] for name in NAMES}}

    return app


app = with_superorm() if os.environ["APP"] == "superorm" else with_pymongo()
