"""When models are asked for computed vectors, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest
import pytest_asyncio
from pymongo.monitoring import CommandListener

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    Model,
    PredictionError,
    SuperormError,
    VectorError,
    case,
    field,
    func,
    insert,
    select,
    update,
    vector,
)
from superorm._async import vector_switch
from superorm._async.vector_models import AsyncVectorModels
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp
from tests._async.databases import heard_db
from tests.db.letters import Letters


class Leaf(Document):
    __collection__ = "encoding_leaves"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None)
    other: Mapped[str | None] = field(default=None)
    size: Mapped[int] = field(default=0)
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="seen")
    second: Mapped[np.ndarray | None] = vector(26, source="other", model="seen")


class Stem(Document):
    __collection__ = "encoding_stems"

    id: Mapped[int] = field(primary_key=True)
    label: Mapped[str] = field(default="root")
    vec: Mapped[np.ndarray | None] = vector(26, source="label", model="seen")


class Seen:
    """Counts letters, and notes what it is asked."""

    texts: list[str] = []  # noqa: RUF012
    asked: Callable[[], None] | None = None
    """Called before it answers."""

    def encode(self, texts: Sequence[str]) -> Any:
        Seen.texts += texts
        if Seen.asked is not None:
            Seen.asked()
        found: list[Any] = list(Letters().encode(texts))
        for number, text in enumerate(texts):
            if text == "raises":
                raise ValueError("no such word")
            if text == "nan":
                found[number] = found[number] * np.nan
            elif text == "short":
                found[number] = found[number][:7]
        return found[1:] if "few" in texts else found


class Doubled:
    """Another version."""

    def encode(self, texts: Sequence[str]) -> Any:
        return 2 * np.array(Letters().encode(texts))


@pytest.fixture(autouse=True)
def _nothing_asked() -> Iterator[None]:
    Seen.texts = []
    yield
    Seen.asked = None


async def vectors(db: AsyncDB, collection: str = "encoding_leaves", path: str = "vec") -> dict[int, Any]:
    """The stored vectors, by key."""
    found = await db.parts.data_backend.read(Find(collection))
    return {
        one["_id"]: None if one.get(path) is None else np.frombuffer(one[path], "<f4", offset=2).tolist()
        for one in found
    }


def letters(*texts: str) -> list[list[float]]:
    """Their vectors."""
    return Letters().encode(texts).tolist()


async def fill(db: AsyncDB, *texts: str) -> None:
    """Store leaves with keys from 0 on."""
    await db.add(Model("seen", Seen(), fingerprint="1"))
    async with db.begin() as session:
        session.add_all(Leaf(id=key, text=text) for key, text in enumerate(texts))
    Seen.texts = []


async def test_a_source_that_changes_while_an_update_stores_its_vector(
    db: AsyncDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transactions: the vector of the text that the update gave does not take the place of the newer one's."""
    if db.capabilities.transactions:
        return
    await fill(db, "tea", "soup")
    compute = AsyncVectorModels.compute
    done: list[str] = []

    async def computes(self: Any, *rest: Any, **settings: Any) -> None:
        await compute(self, *rest, **settings)
        if not done:
            done.append("begun")
            async with db.begin() as session:
                (await session.get_one(Leaf, 1)).text = "bread"

    monkeypatch.setattr(AsyncVectorModels, "compute", computes)
    async with db.begin() as session:
        await session.execute(update(Leaf).all().values(text="ice"))
    assert dict(enumerate(letters("ice", "bread"))) == await vectors(db)


async def test_a_merge_while_all_is_encoded_anew(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves has vectors of the version that came meanwhile, of sources that changed meanwhile too."""
    if not real:
        return
    monkeypatch.setattr(vector_switch, "GRACE", 0.1)
    await fill(db, "tea", "soup")
    await db.add(Model("seen", Doubled(), fingerprint="2"))
    compute = AsyncVectorModels.compute
    done: list[str] = []

    async def computes(self: Any, *rest: Any, **settings: Any) -> None:
        await compute(self, *rest, **settings)
        if not done:
            done.append("begun")
            async with db.begin() as session:
                (await session.get_one(Leaf, 1)).text = "bread"
            await db.rebuild(Leaf.vec, reencode=True)

    monkeypatch.setattr(AsyncVectorModels, "compute", computes)
    async with db.session() as session:
        await session.execute(select(Leaf.id, func.concat(Leaf.text, "s").label("text")).merge_into(Leaf))
        await session.commit()
    expected = Doubled().encode(["teas", "bread"]).tolist()
    assert dict(enumerate(expected)) == await vectors(db)


async def test_a_text_is_encoded_once_over_classes_and_fields(db: AsyncDB) -> None:
    """One flush of two classes with three fields of one model asks it for each text once."""
    await fill(db)
    async with db.begin() as session:
        session.add_all([Leaf(id=key, text=f"t{key % 2}", other="root") for key in range(4)])
        session.add_all([Stem(id=1), Stem(id=2, label="t1")])
    assert ["t0", "t1", "root"] == Seen.texts
    t0, t1, root = letters("t0", "t1", "root")
    assert {0: t0, 1: t1, 2: t0, 3: t1} == await vectors(db)
    assert dict.fromkeys(range(4), root) == await vectors(db, path="second")
    assert {1: root, 2: t1} == await vectors(db, "encoding_stems")


async def test_earlier_flushes_of_a_transaction_count(db: AsyncDB) -> None:
    """A text that the unit of work has encoded is not encoded again before its end."""
    await fill(db)
    async with db.session() as session:
        session.add(Leaf(id=1, text="tea"))
        await session.flush()
        session.add(Stem(id=1, label="tea"))
        await session.flush()
        await session.execute(insert(Leaf).values([{"id": 2, "text": "tea"}]))
        assert ["tea"] == Seen.texts
        await session.commit()
        session.add(Leaf(id=3, text="tea"))
        await session.commit()
    assert ["tea", "tea"] == Seen.texts
    assert dict.fromkeys((1, 2, 3), letters("tea")[0]) == await vectors(db)


async def test_the_objects_have_arrays_of_their_own(db: AsyncDB) -> None:
    """What is changed in one vector changes no other, nor what the unit of work remembers."""
    await fill(db)
    async with db.session() as session:
        one, two = Leaf(id=1, text="tea", other="tea"), Leaf(id=2, text="tea")
        session.add_all([one, two])
        await session.flush()
        assert one.vec is not None
        one.vec[:] = 9
        assert letters("tea") == [two.vec.tolist()]  # type: ignore[union-attr]
        assert letters("tea") == [one.second.tolist()]  # type: ignore[union-attr]
        session.add(Leaf(id=3, text="tea"))
        await session.commit()
    assert dict.fromkeys((1, 2, 3), letters("tea")[0]) == await vectors(db)


async def test_only_where_the_source_changed(db: AsyncDB) -> None:
    """Neither another field nor an upsert that leaves the source alone asks the model."""
    await fill(db, "a", "b")
    async with db.begin() as session:
        for leaf in (await session.scalars(select(Leaf))).all():
            leaf.size += 1
        await session.execute(update(Leaf).all().values(size=3))
        await session.execute(update(Leaf).where(Leaf.id == 1).values(size=4).upsert())
        await session.execute(update(Leaf).where(Leaf.id == 99).values(text="c"))
    assert [] == Seen.texts
    async with db.begin() as session:
        await session.execute(update(Leaf).where(Leaf.id == 2).values(size=4, text="new").upsert())
    assert ["new"] == Seen.texts


async def test_an_empty_text_is_the_models_own_matter(db: AsyncDB) -> None:
    """Its vector is what the model says; None has none and asks nothing."""
    await fill(db)
    async with db.begin() as session:
        session.add_all([Leaf(id=1, text=""), Leaf(id=2, text=None)])
    assert [""] == Seen.texts
    assert {1: [0.0] * 26, 2: None} == await vectors(db)


UPDATES = {
    "given": lambda text: update(Leaf).where(Leaf.id == 1).values(text=text),
    "computed": lambda text: update(Leaf).all().set(Leaf.text.to(case((Leaf.id == 1, text), else_=Leaf.text))),
    "upserted": lambda text: update(Leaf).where(Leaf.id == 7).values(text=text).upsert(),
    "inserted": lambda text: insert(Leaf).values([{"id": 7, "text": text}]),
    "insert-or-update": lambda text: insert(Leaf).values([{"id": 1, "text": text}]).upsert(),
}


@pytest.mark.parametrize("way", UPDATES)
@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("raises", PredictionError, r"Leaf \d: vec cannot be computed: model 'seen' failed: ValueError: no such word"),
        ("nan", VectorError, r"Leaf \d: vec cannot be computed: model 'seen' returned NaN"),
        ("short", VectorError, r"Leaf \d: vec cannot be computed: model 'seen' returned an output of shape \(7,\)"),
        ("few", PredictionError, r"Leaf.*: vec cannot be computed: model 'seen' gave \d outputs for \d inputs"),
    ],
)
async def test_statements_whose_texts_cannot_be_encoded(
    db: AsyncDB, way: str, text: str, error: type[SuperormError], words: str
) -> None:
    """The error names class, key, field and model; nothing is written, and after a rollback the session goes on."""
    await fill(db, "a", "b")
    before = await db.parts.data_backend.read(Find("encoding_leaves"))
    async with db.session() as session:
        with pytest.raises(error, match=words) as raised:
            await session.execute(UPDATES[way](text))
        assert (Leaf, "vec", "seen") == (raised.value.document_class, raised.value.field, raised.value.component)
        await session.rollback()
        assert before == await db.parts.data_backend.read(Find("encoding_leaves"))
        await session.execute(UPDATES[way]("good"))
        await session.commit()
    assert letters("good")[0] in (await vectors(db)).values()
    assert (await db.check(Leaf)).ok


async def test_which_text_was_at_fault(db: AsyncDB) -> None:
    """The message says which of the texts to encode it was, and the error which object."""
    await fill(db)
    async with db.session() as session:
        session.add_all([Leaf(id=1, text="good"), Leaf(id=2, text="nan"), Leaf(id=3, text="fine")])
        session.add(Stem(id=5, label="well"))
        with pytest.raises(VectorError, match=r"Leaf 2: vec .* 'seen' returned NaN or infinity, for text 2 of 3"):
            await session.commit()
        await session.rollback()
        session.add_all([Stem(id=4), Stem(id=5, label="raises"), Leaf(id=1, text="good")])
        with pytest.raises(PredictionError, match=r"Stem 5: vec .*no such word, for text 2 of 2"):
            await session.commit()
    assert {} == await vectors(db)


# Transactions


class Commands(CommandListener):
    """Which transactions of documents are open, as the commands say that a client sent."""

    def __init__(self) -> None:
        self.open: set[tuple[bytes, int]] = set()

    def started(self, event: Any) -> None:
        command = event.command
        if "txnNumber" not in command:
            return
        transaction = bytes(command["lsid"]["id"]), int(command["txnNumber"])
        if event.command_name in ("commitTransaction", "abortTransaction"):
            self.open.discard(transaction)
        elif str(command[event.command_name]).startswith("encoding_"):
            self.open.add(transaction)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest_asyncio.fixture
async def watched(mongodb_uri: str) -> AsyncIterator[tuple[AsyncDB, list[bool]]]:
    """A DB on the real server, and whether a transaction was open each time that the model was asked."""
    name, commands = f"test_{uuid4().hex[:12]}", Commands()
    within: list[bool] = []
    async with heard_db(mongodb_uri, name, commands) as db:
        await fill(db, "a", "b")
        Seen.asked = lambda: within.append(bool(commands.open))
        yield db, within


@pytest.mark.parametrize("way", UPDATES)
@pytest.mark.parametrize("pending", [False, True])
async def test_statements_encode_before_the_transaction(
    watched: tuple[AsyncDB, list[bool]], way: str, pending: bool
) -> None:
    """Also where the flush that goes before a statement begins the transaction."""
    db, within = watched
    async with db.session() as session:
        if pending:
            session.add(Stem(id=1, label="pending"))
        await session.execute(UPDATES[way]("text"))
        await session.commit()
    assert within
    assert not any(within)
    assert letters("text")[0] in (await vectors(db)).values()


async def test_flushes_encode_before_the_transaction(watched: tuple[AsyncDB, list[bool]]) -> None:
    """The first one does, whatever asks for it, and so does a bulk insert; one in an open transaction cannot."""
    db, within = watched
    async with db.session() as session:
        session.add(Stem(id=1, label="one"))
        await session.scalars(select(Leaf))
        assert [False] == within
        await session.commit()
        session.add(Stem(id=2, label="two"))
        await session.bulk_insert([Leaf(id=7, text="seven")])
        await session.commit()
        assert [False] * 3 == within
        session.add(Stem(id=3, label="three"))
        await session.commit()
        assert [False] * 4 == within
        session.add(Stem(id=4, label="four"))
        await session.flush()
        session.add(Stem(id=5, label="five"))
        await session.commit()
        assert [False] * 5 + [True] == within


async def test_what_changes_while_it_is_encoded_is_encoded_again(db: AsyncDB, mongodb_uri: str, real: bool) -> None:
    """A statement stores the vector of what the source is then, though somebody changed that meanwhile."""
    if not real:
        return  # one process, whose statements are not interrupted
    await fill(db, "a", "b")
    name = db.parts.data_backend.name

    def change() -> None:
        Seen.asked = None
        with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
            client[name].encoding_leaves.update_one({"_id": 1}, {"$set": {"text": "zz"}})

    Seen.asked = change
    async with db.begin() as session:
        await session.execute(update(Leaf).all().set(Leaf.text.to(func.concat(Leaf.text, "q"))))
    assert ["aq", "bq", "zzq"] == Seen.texts
    assert dict(enumerate(letters("aq", "zzq"))) == await vectors(db)


async def test_pending_changes_of_the_session_count(db: AsyncDB) -> None:
    """A statement sees them, though texts were encoded before they were flushed."""
    await fill(db, "a", "b")
    async with db.begin() as session:
        (await session.get_one(Leaf, 1)).text = "zz"
        session.add(Leaf(id=2, text="c"))
        await session.flush()
        await session.execute(update(Leaf).all().set(Leaf.text.to(func.concat(Leaf.text, "q"))))
    assert dict(enumerate(letters("aq", "zzq", "cq"))) == await vectors(db)


async def test_writes_by_others_are_left_alone(db: AsyncDB) -> None:
    """A statement computes the vectors of the documents that it changes, and no others."""
    await fill(db, "a", "b")
    op = UpdateOp(q={"_id": 1}, u={"$set": {"text": "elsewhere"}})
    await db.parts.data_backend.write(Update("encoding_leaves", [op]))
    async with db.begin() as session:
        await session.execute(update(Leaf).where(Leaf.id == 0).values(text="here"))
    assert ["here"] == Seen.texts
    assert dict(enumerate(letters("here", "b"))) == await vectors(db)
