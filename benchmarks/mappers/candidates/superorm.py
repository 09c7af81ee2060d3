"""superorm: a session that tracks, in its synchronous form."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from mapper import Mapper

import superorm
from superorm import Document, Embedded, Mapped, Session, connect, select, vector
from superorm.compile.compiler import compile_select
from superorm.compile.plan import Find

NAME = f"superorm {version('superorm-mongodb')}"


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


class Rating(Embedded):
    source: Mapped[str]
    score: Mapped[float]
    votes: Mapped[int]


class Part(Embedded):
    name: Mapped[str]
    role: Mapped[str]
    age: Mapped[int]


class Nested(Document):
    title: Mapped[str]
    year: Mapped[int]
    rating: Mapped[Rating]
    cast: Mapped[list[Part]]
    embedding: Mapped[np.ndarray | None] = vector(384)


class Candidate(Mapper):
    def open(self, uri: str, database: str) -> None:
        self.db = connect(uri, database=database, vector_database="memory://")
        self.session = Session(self.db)

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Flat]:
        return [Flat(id=document.pop("_id"), **document) for document in documents]

    def forget(self) -> None:
        self.session.close()

    def load_flat(self) -> list[Flat]:
        self.session = Session(self.db)
        return self.session.scalars(select(Flat)).all()

    def stream_flat(self) -> int:
        total = 0
        with Session(self.db) as session:
            for one in session.stream_scalars(select(Flat)):
                total += one.age
        return total

    def load_nested(self) -> list[Nested]:
        self.session = Session(self.db)
        return self.session.scalars(select(Nested)).all()

    def insert(self, objects: list[Flat]) -> None:
        with Session(self.db) as session:
            session.bulk_insert(objects)
            session.commit()

    def insert_values(self, objects: list[Flat]) -> None:
        with Session(self.db) as session:
            session.execute(superorm.insert(Flat).values(objects))
            session.commit()

    def add_all(self, objects: list[Flat]) -> None:
        with Session(self.db) as session:
            session.add_all(objects)
            session.commit()

    def modify(self, objects: list[Flat], value: int) -> None:
        for one in objects:
            one.visits = value
        self.session.commit()

    def flush(self, _: list[Any]) -> None:
        self.session.flush()

    def statement(self) -> Find:
        statement = select(Flat).where(Flat.age >= 18, Flat.score < 0.5, Flat.name != "Nobody")
        return compile_select(statement.order_by(Flat.score.desc()).limit(10)).find  # what a session sends
