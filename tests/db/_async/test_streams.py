"""Streams, partial documents and results over each kind of DB."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pymongo
import pytest

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    NotLoadedError,
    Registry,
    SessionError,
    UnsupportedError,
    field,
    func,
    load_only,
    relationship,
    select,
    selectinload,
)

registry = Registry()


class Note(Document, registry=registry):
    __collection__ = "notes_streamed"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    words: Mapped[list[str]] = field(factory=list)
    stars: Mapped[int] = field(default=0, name="s")


class Reply(Document, registry=registry):
    __collection__ = "replies_streamed"
    id: Mapped[int] = field(primary_key=True)
    note_id: Mapped[int]
    note: Mapped[Note | None] = relationship("Note", key="note_id")


async def fill(db: AsyncDB, number: int) -> None:
    async with db.begin() as session:
        session.add_all([Note(id=n, text=f"text {n}", words=["w"] * (n % 3), stars=n % 5) for n in range(number)])


async def test_streams_of_documents(db: AsyncDB) -> None:
    """All of them in order, whatever the batch size, and none is tracked."""
    await fill(db, 25)
    async with db.session() as session:
        statement = select(Note).where(Note.id >= 5).order_by(Note.id.desc())
        found = [note async for note in session.stream_scalars(statement, batch_size=7)]
        assert list(range(24, 4, -1)) == [note.id for note in found]
        assert ["w"] * 2 == found[-1].words
        assert not any(note in session for note in found)
        found[0].text = "changed"
        assert [] == session.dirty
        again = await session.get_one(Note, 24)
        assert again is not found[0]
        assert "text 24" == again.text


async def test_streams_of_rows(db: AsyncDB) -> None:
    """Rows with names, single values, and nothing where nothing matches."""
    await fill(db, 10)
    async with db.session() as session:
        statement = select(Note.id, Note.stars).order_by(Note.id)
        rows = [row async for row in session.stream(statement, batch_size=4)]
        assert [(n, n % 5) for n in range(10)] == rows
        assert 4 == rows[9].stars
        texts = [text async for text in session.stream_scalars(select(Note.text).where(Note.stars == 4))]
        assert {"text 4", "text 9"} == set(texts)
        assert [] == [note async for note in session.stream_scalars(select(Note).where(Note.id < 0))]
        counted = [row async for row in session.stream(select(func.count(Note)).where(Note.id < 0))]
        assert [(0,)] == counted


async def streaming_peak(session: Any, statement: Any) -> int:
    """The most memory, in bytes, that Python holds at once while a statement is streamed, over what it held before."""
    gc.collect()
    tracemalloc.start()
    try:
        seen = 0
        async for _ in session.stream_scalars(statement, batch_size=200):
            seen += 1
        assert seen == await session.scalar(statement.columns(func.count()))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_streams_take_constant_memory(db: AsyncDB, real: bool, mongodb_uri: str) -> None:
    """Ten times as many documents take no more memory: neither objects nor rows are kept."""
    documents = [{"_id": n, "text": f"text {n}", "words": ["w"] * 5, "s": n % 5} for n in range(10_000)]
    if not real:  # the documents are in memory themselves there
        return
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        client[db.parts.data_backend.name]["notes_streamed"].insert_many(documents)
    del documents
    async with db.session() as session:
        for statement in (select(Note), select(Note.text)):
            await streaming_peak(session, statement.where(Note.id < 1_000))  # fills what is kept once
            few = await streaming_peak(session, statement.where(Note.id < 1_000))
            many = await streaming_peak(session, statement)
            assert many < few + 500_000


async def test_a_stream_sees_what_the_session_has_written(db: AsyncDB) -> None:
    """Where there are transactions, what was flushed before it."""
    await fill(db, 3)
    async with db.session() as session:
        (await session.get_one(Note, 1)).text = "new"
        texts = [text async for text in session.stream_scalars(select(Note.text).order_by(Note.id))]
        assert ["text 0", "new" if db.capabilities.transactions else "text 1", "text 2"] == texts


@pytest.mark.parametrize("kind", ["related", "objects", "rows"])
@pytest.mark.parametrize("causal", [False, True])
async def test_a_stream_of_a_closed_session(db: AsyncDB, kind: str, causal: bool) -> None:
    """It gives the rest of its batch; then it is refused, also where the session is in use again."""
    await fill(db, 6)
    async with db.begin() as session:
        session.add_all([Reply(id=n, note_id=n) for n in range(6)])
    for again in (False, True):
        session = db.session(causal_consistency=causal)
        replies = select(Reply).order_by(Reply.id)
        stream: Any = {
            "related": session.stream_scalars(replies.options(selectinload(Reply.note)), batch_size=2),
            "objects": session.stream_scalars(replies, batch_size=2),
            "rows": session.stream(select(Reply.id).order_by(Reply.id), batch_size=2),
        }[kind]
        await anext(stream)
        await session.close()
        if again:
            assert 6 == await session.count(select(Reply))
        await anext(stream)
        with pytest.raises(SessionError, match="session has been closed since this stream began"):
            await anext(stream)
        assert 6 == len([reply async for reply in session.stream_scalars(replies, batch_size=2)])
        await session.close()


async def test_partial_documents(db: AsyncDB) -> None:
    """Only what was asked for is there, changes are saved, and the rest of the document stays."""
    await fill(db, 3)
    async with db.session() as session:
        statement = select(Note).where(Note.id == 1).options(load_only(Note.text))
        note = (await session.scalars(statement)).one()
        assert (1, "text 1") == (note.id, note.text)
        with pytest.raises(NotLoadedError, match="stars"):
            note.stars  # noqa: B018
        note.text = "new"
        note.stars = 50
        await session.commit()
    async with db.session() as session:
        whole = await session.get_one(Note, 1)
        assert ("new", 50, ["w"]) == (whole.text, whole.stars, whole.words)


async def test_partial_documents_become_whole(db: AsyncDB) -> None:
    """Loading the document again completes the object."""
    await fill(db, 3)
    async with db.session() as session:
        note = (await session.scalars(select(Note).where(Note.id == 2).options(load_only(Note.text)))).one()
        again = (await session.scalars(select(Note).where(Note.id == 2))).one()
        assert note is again
        assert (["w"] * 2, 2) == (note.words, note.stars)


async def test_rows_with_partial_documents_and_values(db: AsyncDB) -> None:
    """`load_only` beside other columns, and in a stream."""
    await fill(db, 3)
    async with db.session() as session:
        statement = select(Note, Note.stars).options(load_only(Note.text)).order_by(Note.id)
        rows = (await session.execute(statement)).all()
        assert [("text 0", 0), ("text 1", 1), ("text 2", 2)] == [(note.text, stars) for note, stars in rows]
        with pytest.raises(NotLoadedError):
            rows[0][0].words  # noqa: B018
        statement = select(Note).options(load_only(Note.stars)).order_by(Note.id)
        streamed = [note async for note in session.stream_scalars(statement)]
        assert [0, 1, 2] == [note.stars for note in streamed]
        with pytest.raises(NotLoadedError):
            streamed[0].text  # noqa: B018


async def test_what_a_transaction_does_not_have(db: AsyncDB) -> None:
    """It is refused by name before it is sent, and the transaction goes on."""
    await fill(db, 3)
    both = select(Note.id).union_all(select(Note.stars)).order_by(Note.id)
    async with db.session() as session:
        if not db.capabilities.transactions:
            with pytest.raises(UnsupportedError, match=r"mongomock has no \$unionWith"):
                await session.execute(both)
            return
        assert [0, 0, 1, 1, 2, 2] == (await session.scalars(both)).all()
        session.add(Note(id=3, text="new"))
        with pytest.raises(
            UnsupportedError, match=r"a transaction has no \$unionWith; commit\(\) or rollback\(\) first"
        ):
            await session.execute(both)
        with pytest.raises(
            UnsupportedError, match=r"a transaction has no \$unionWith; commit\(\) or rollback\(\) first"
        ):
            [row async for row in session.stream(both)]
        assert 4 == await session.scalar(select(func.count(Note)))
        await session.commit()
    async with db.session() as session:
        assert [0, 0, 0, 1, 1, 2, 2, 3] == (await session.scalars(both)).all()


async def test_results(db: AsyncDB) -> None:
    """Partitions, mappings and the names of the columns."""
    await fill(db, 5)
    async with db.session() as session:
        result = await session.execute(select(Note.id, Note.text.label("shown")).order_by(Note.id))
        assert ("id", "shown") == result.keys()
        assert {"id": 0, "shown": "text 0"} == result.mappings()[0]
        assert [2, 2, 1] == [len(part) for part in result.partitions(2)]
