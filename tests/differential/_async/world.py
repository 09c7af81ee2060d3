"""The same data in a real server and in mongomock, and statements run on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import bson
from attrs import define, field
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.database import Database

from superorm import AsyncDB, UnsupportedError
from superorm.backends.mongomock_engine import mongomock_client
from superorm.expr.statements import Select
from tests.differential.oracle import Ambiguous, answer
from tests.differential.report import differing

__all__ = ["AsyncWorld"]

Data: TypeAlias = Mapping[type, Sequence[dict[str, Any]]]

_READ: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
_STORED: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


@define
class AsyncWorld:
    """Two DBs and the way to write into them past superorm."""

    server: AsyncDB
    mock: AsyncDB
    database: Database[dict[str, Any]]
    data: Data = field(factory=dict[type, list[dict[str, Any]]])
    refused: dict[str, int] = field(factory=dict[str, int])
    """What mongomock refused, and how often."""
    compared: int = 0

    def fill(self, data: Data) -> None:
        """Write the documents of each class in the place of those before."""
        name = self.database.name
        databases: list[Any] = [self.database, mongomock_client(name)[name]]
        self.data = {cls: [_decoded(one, _READ) for one in documents] for cls, documents in data.items()}
        for cls, documents in self.data.items():
            for database in databases:
                collection = database[cls.__collection__]  # type: ignore[attr-defined]
                collection.delete_many({})
                if documents:
                    collection.insert_many([_decoded(one, _STORED) for one in documents])

    async def check(self, select: Select[Any, Any], *, mock: bool) -> None:
        """Fail where an answer differs from the oracle's. What mongomock cannot do it has to refuse."""
        try:
            expected = answer(select, self.data)
        except Ambiguous:
            return
        self.compared += 1
        backends = {"server": self.server, **({"mongomock": self.mock} if mock else {})}
        for backend, db in backends.items():
            try:
                wrong = differing(select, expected, await self._run(db, select))
            except UnsupportedError as error:
                if db is self.server:
                    raise
                self.refused[str(error)] = self.refused.get(str(error), 0) + 1
                continue
            if wrong:
                raise AssertionError(f"{backend}: {await self._smallest(db, select)}")

    async def _run(self, db: AsyncDB, select: Select[Any, Any]) -> list[Any]:
        async with db.session() as session:
            return list(await session.execute(select))

    async def _wrong(self, db: AsyncDB, select: Select[Any, Any], data: Data) -> str:
        self.fill(data)
        try:
            return differing(select, answer(select, self.data), await self._run(db, select))
        except Ambiguous:
            return ""

    async def _smallest(self, db: AsyncDB, select: Select[Any, Any]) -> str:
        """The difference with as few documents as show it."""
        data = self.data
        for cls in data:
            for document in data[cls]:
                fewer = {**data, cls: [one for one in data[cls] if one is not document]}
                if await self._wrong(db, select, fewer):
                    data = fewer
        wrong = await self._wrong(db, select, data)
        return "\n".join([wrong, *(f"{cls.__name__}: {documents}" for cls, documents in data.items())])


def _decoded(document: Mapping[str, Any], options: CodecOptions[dict[str, Any]]) -> dict[str, Any]:
    encoded = bson.encode(document, codec_options=_READ)
    return bson.decode(encoded, options)  # pyright: ignore[reportUnknownMemberType]
