"""Commits some time after the version of a model was read: they look by the command that writes their record."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    Model,
    PredictionError,
    StaleDocumentError,
    connect_async,
    field,
    select,
    vector,
)
from superorm._async import vector_models, vector_switch
from superorm._async.transaction import AsyncTransaction
from superorm._io import aio
from tests.databases import drop_database

LEASE = 0.1


class Length(Document):
    __collection__ = "later_lengths"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(2, source="text", model="lengths")


class Other(Document):
    __collection__ = "later_others"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    vec: Mapped[np.ndarray | None] = vector(2, source="text", model="others")


class Times:
    """A model whose versions give the length times a number."""

    def __init__(self, number: int, refused: str | None = None) -> None:
        self.number = number
        self.refused = refused

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        if self.refused in texts:
            raise ValueError(f"{self.refused} is no text for this version")
        return [[float(len(text) * self.number), 1.0] for text in texts]


class Place:
    """A database for several processes, which plain PyMongo looks into."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name

    @asynccontextmanager
    async def process(self) -> AsyncGenerator[AsyncDB]:
        """A DB that knows nothing of the others."""
        options: dict[str, Any] = {"vector_database": "memory://", "signing_key": "test-key", "trust": "all"}
        async with connect_async(self.uri, database=self.name, **options) as db:
            yield db

    def stored(self) -> dict[int, float]:
        """The first number of each vector, by key."""
        with pymongo.MongoClient[Any](self.uri) as client:
            found = client[self.name].later_lengths.find()
            return {one["_id"]: float(np.frombuffer(one["vec"], "<f4", offset=2)[0]) for one in found}


async def newer(db: AsyncDB, number: int) -> None:
    """Have the vectors made anew by another version."""
    await db.add(Model("lengths", Times(number), fingerprint=str(number)))
    await db.rebuild(Length.vec, reencode=True)


@pytest_asyncio.fixture
async def place(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Place]:
    """A database with two documents, made by the first version, which refuses the text ``refused``."""
    monkeypatch.setattr(vector_models, "LEASE", LEASE)
    monkeypatch.setattr(vector_switch, "GRACE", 3 * LEASE)
    place = Place(mongodb_uri, f"later_{uuid4().hex[:12]}")
    async with place.process() as db:
        await db.add(Model("lengths", Times(1, "refused"), fingerprint="1"))
        await db.add(Model("others", Times(1), fingerprint="1"))
        async with db.begin() as session:
            session.add_all([Length(id=1, text="a"), Length(id=2, text="bb")])
    yield place
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        drop_database(client, place.name)


async def test_another_version_is_used_since(place: Place) -> None:
    """A commit stores what the new one says, in a first attempt; the object shows it, and searches find it."""
    async with place.process() as here, place.process() as there:
        async with here.session() as session:
            one = await session.get_one(Length, 1)
            one.text = "four"
            await session.commit()
            await newer(there, 10)
            await aio.sleep(2 * LEASE)
            one.text = "seven77"
            session.add(Length(id=3, text="xxx"))
            await session.commit()
            assert one.vec is not None
            assert [70.0, 1.0] == one.vec.tolist()
        assert {1: 70.0, 2: 20.0, 3: 30.0} == place.stored()
        async with here.session() as session:
            like = select(Length.id).like(np.array([30.0, 1.0], np.float32), Length.vec, k=1)
            assert [3] == (await session.scalars(like)).all()


async def test_another_version_within_a_longer_transaction(place: Place) -> None:
    """What it flushed before is of the old version, and so nothing of it can be committed."""
    async with place.process() as here, place.process() as there:
        async with here.session() as session:
            session.add(Length(id=3, text="xxx"))
            await session.flush()
            await newer(there, 10)
            session.add(Length(id=4, text="xxxx"))
            await session.flush()
            with pytest.raises(StaleDocumentError, match="encoded anew"):
                await session.commit()
            await session.rollback()
            session.add(Length(id=4, text="xxxx"))
            await session.commit()
        assert {1: 10.0, 2: 20.0, 4: 40.0} == place.stored()


async def test_a_text_that_only_the_new_version_takes(place: Place) -> None:
    """The old one, which is not in use any more, refuses nothing; before that its error is raised."""
    async with place.process() as here, place.process() as there:
        async with here.session() as session:
            await aio.sleep(2 * LEASE)
            session.add(Length(id=3, text="refused"))
            with pytest.raises(PredictionError, match="no text for this version"):
                await session.commit()
            await session.rollback()
            await newer(there, 10)
            await aio.sleep(2 * LEASE)
            session.add(Length(id=3, text="refused"))
            await session.commit()
        assert {1: 10.0, 2: 20.0, 3: 70.0} == place.stored()


async def test_a_commit_that_reads_the_version_slowly(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the version changes while that is read before a commit, the two are in conflict, and it is done again."""
    async with place.process() as here, place.process() as there:
        models, backend = here.vector_models, here.parts.data_backend
        read, write, slow, fenced = models.read, backend.write, list[bool](), list[Any]()

        async def reads(indexes: Any) -> Any:
            found = await read(indexes)
            if slow:
                slow.clear()
                await newer(there, 10)
            return found

        async def writes(what: Any, **options: Any) -> Any:
            if what.collection == "_superorm_indexes":
                fenced.append(what)
            return await write(what, **options)

        monkeypatch.setattr(models, "read", reads)
        monkeypatch.setattr(backend, "write", writes)

        async def work(session: Any) -> None:
            session.add(Length(id=3, text="xxx"))
            await session.flush()
            if not attempts:
                await aio.sleep(2 * LEASE)
                slow.append(True)
            attempts.append(1)

        attempts: list[int] = []
        await here.run(work)
        assert len(attempts) == 2
        assert len(fenced) == 1
        assert {1: 10.0, 2: 20.0, 3: 30.0} == place.stored()


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_commit_that_stands_still(place: Place, monkeypatch: pytest.MonkeyPatch, flushed: bool) -> None:
    """However long nothing is sent once all is written, another version comes after it, and finds it."""
    async with place.process() as here, place.process() as there:
        done: list[bool] = []

        async def switch() -> None:
            await newer(there, 10)
            done.append(True)

        running, stalls = aio.Background(switch, 0.0), [False, False, True]
        end = AsyncTransaction.end

        async def stands_still(transaction: AsyncTransaction) -> None:
            if transaction.db is here and stalls.pop():
                running.wake(at_once=True)
                await aio.sleep(20 * LEASE)
                assert not done
            await end(transaction)

        monkeypatch.setattr(AsyncTransaction, "end", stands_still)
        async with here.session() as session:
            session.add(Length(id=3, text="xxx"))
            if flushed:
                await session.flush()
            await session.commit()
        await running.stop()
        assert [True] == done
        assert {1: 10.0, 2: 20.0, 3: 30.0} == place.stored()
        async with here.begin() as session:  # its fence has gone
            session.add(Length(id=4, text="four"))
        async with here.begin() as session:
            session.add(Length(id=5, text="five5"))
        assert {1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0, 5: 50.0} == place.stored()


async def test_writers_beside_each_other(place: Place) -> None:
    """Each writes to a fence of its own, so that they are not in conflict; later ones take these."""
    with pymongo.MongoClient[Any](place.uri) as client:
        before = client[place.name]["_superorm_records"].count_documents({"kind": "fence"})
    async with place.process() as here:
        for first in (3, 5):
            async with here.session() as one, here.session() as two:
                for key, session in ((first, one), (first + 1, two)):
                    session.add(Length(id=key, text="x" * key))
                    await session.flush()
                    await here.vector_models.confirm(session._work.encoded, session._work.server_session)  # type: ignore[arg-type]
                await two.commit()
                await one.commit()
    with pymongo.MongoClient[Any](place.uri) as client:
        fences = client[place.name]["_superorm_records"].find({"_id": {"$regex": "^later_lengths.vec#fence:"}})
        assert before + 2 == len([*fences])
    assert {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 5.0, 6: 6.0} == place.stored()


def drop_token(place: Place) -> None:
    with pymongo.MongoClient[Any](place.uri) as client:
        assert client[place.name]["_superorm_records"].delete_one({"_id": "models"}).deleted_count


def drop_records(place: Place) -> None:
    with pymongo.MongoClient[Any](place.uri) as client:
        client[place.name].drop_collection("_superorm_records")


@pytest.mark.parametrize("lost", [drop_token, drop_records])
async def test_a_lost_token(place: Place, lost: Callable[[Place], None]) -> None:
    """The version is read again then, as it is before another one is announced that nobody could be told of."""
    async with place.process() as here, place.process() as there:
        async with here.session() as session:
            one = await session.get_one(Length, 1)
            for number, text in enumerate(("four", "five5"), 1):
                one.text = text
                await session.commit()
                assert {1: 1.0 * len(text), 2: 2.0} == place.stored()
                if number == 1:
                    lost(place)
                await aio.sleep(2 * LEASE)
            await newer(there, 10)
            one.text = "seven77"
            await session.commit()
        assert {1: 70.0, 2: 20.0} == place.stored()


async def test_announcements_of_another_index(place: Place) -> None:
    """They tell nothing of this one, whose version stays in use."""
    async with place.process() as here, place.process() as there:
        async with there.begin() as session:
            session.add(Other(id=1, text="a"))
        async with here.session() as session:
            one = await session.get_one(Length, 1)
            for text in ("four", "five5", "sixsix"):
                await there.rebuild(Other.vec, reencode=True)
                await aio.sleep(2 * LEASE)
                one.text = text
                await session.commit()
                assert {1: 1.0 * len(text), 2: 2.0} == place.stored()


async def test_versions_beside_writers_that_pause(place: Place) -> None:
    """Whenever they write, all vectors are of the version in use when the last of both has ended."""
    chance = random.Random(1)
    async with place.process() as here, place.process() as there:
        expected = {1: 1, 2: 2}
        for number in range(2, 6):
            await there.add(Model("lengths", Times(number), fingerprint=str(number)))
            done: list[BaseException | None] = []

            async def rebuild(done: list[BaseException | None] = done) -> None:
                try:
                    await there.rebuild(Length.vec, reencode=True)
                except BaseException as error:  # noqa: BLE001 - of a thread or task of its own
                    done.append(error)
                else:
                    done.append(None)

            running = aio.Background(rebuild, 0.0)
            running.wake(at_once=True)
            while not done:
                key = len(expected) + 1
                async with here.begin() as session:
                    session.add(Length(id=key, text="x" * (key % 7)))
                expected[key] = key % 7
                await aio.sleep(chance.choice([0.0, 0.05, 1.5 * LEASE, 3 * LEASE]))
            await running.stop()
            assert [None] == done
            assert {key: float(length * number) for key, length in expected.items()} == place.stored()
        assert len(expected) > 8
