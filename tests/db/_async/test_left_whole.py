"""What a call that fails, or is misused, leaves as it was, and what its message shows; over every backend."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Embedded,
    Mapped,
    NoResultFound,
    Registry,
    SessionError,
    SuperormError,
    ValidationError,
    field,
    joinedload,
    listens_for,
    relationship,
    remove_listener,
    select,
    selectinload,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Update, UpdateOp

registry = Registry()


class Singer(Document, registry=registry):
    __collection__ = "whole_singers"

    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    songs: Mapped[list[Song]] = relationship(list["Song"], remote_key="singer_id")


class Label(Document, registry=registry):
    __collection__ = "whole_labels"

    id: Mapped[int] = field(primary_key=True)


class Part(Embedded):
    bars: Mapped[int] = field(default=0)


class Song(Document, registry=registry):
    __collection__ = "whole_songs"

    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    part: Mapped[Part | None] = field(default=None)
    singer_id: Mapped[int | None] = field(default=None)
    singer: Mapped[Singer | None] = relationship("Singer", key="singer_id")
    label_id: Mapped[int | None] = field(default=None)
    label: Mapped[Label | None] = relationship("Label", key="label_id")


class Tune(Song, registry=registry):
    bars: Mapped[int] = field(default=0)


class Mute:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def stored(db: AsyncDB, collection: str = "whole_songs") -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(collection, sort=[("_id", 1)]))


async def change(db: AsyncDB, collection: str, key: int, **values: Any) -> None:
    """Change a document behind the sessions' backs."""
    await db.parts.data_backend.write(Update(collection, [UpdateOp(q={"_id": key}, u={"$set": values})]))


async def fill(db: AsyncDB) -> None:
    """Singer 1 with songs 1 and 2, singer 2 with song 3; songs 1 to 3 are of labels 1 to 3."""
    async with db.begin() as session:
        session.add_all([Singer(id=1, name="A"), Singer(id=2, name="B"), *(Label(id=n) for n in (1, 2, 3))])
        session.add_all([Song(id=n, title=str(n), singer_id=1 + n // 3, label_id=n) for n in (1, 2, 3)])


@pytest.mark.parametrize("given", ["generator", "lock"])
async def test_a_merge_of_what_cannot_be_copied(db: AsyncDB, given: str) -> None:
    """It names class, key and field, and changes nothing: neither that object nor those merged with it."""
    await fill(db)
    before = await stored(db)
    value: Any = (tag for tag in "ab") if given == "generator" else threading.Lock()
    async with db.session() as session:
        songs = (await session.scalars(select(Song).order_by(Song.id))).all()
        wrong, fine = Song(id=1, title="other"), Song(id=2, title="other")
        wrong.tags = value
        for merged in ([wrong], [fine, wrong], [Song(id=9), fine, wrong]):
            with pytest.raises(ValidationError, match=r"Song 1: tags .* cannot be copied.*cannot pickle") as caught:
                await session.merge_all(merged)
            assert (Song, 1, "tags") == (caught.value.document_class, caught.value.key, caught.value.field)
            assert ["1", "2", "3"] == [song.title for song in songs]
            assert [] == [*session.new, *session.dirty]
        with pytest.raises(ValidationError, match="Song 1: tags"):
            await session.merge(wrong)
        await session.commit()
        new = Song(id=9)
        new.tags = value
        with pytest.raises(ValidationError, match="Song 9: tags"):
            await session.merge(new)
        assert [] == session.new
        await session.commit()
    assert before == await stored(db)


async def test_a_merge_of_what_cannot_be_a_key(db: AsyncDB) -> None:
    """A key that a relationship is found by is looked at before anything is changed."""
    await fill(db)
    async with db.session() as session:
        song = await session.get_one(Song, 1)
        wrong = Song(id=1, title="other", singer=Singer(id=2, name="other"))
        wrong.singer_id = object()  # type: ignore[assignment]
        with pytest.raises(ValidationError, match="singer_id"):
            await session.merge(wrong)
        assert ("1", "B") == (song.title, (await session.get_one(Singer, 2)).name)
        assert not session.is_modified(song)


@pytest.mark.parametrize("joined", [False, True])
async def test_a_chain_through_an_expired_object(db: AsyncDB, joined: bool) -> None:
    """What has expired below is read again, by queries and by ``get``, in the place that it has."""
    await fill(db)
    load: Any = joinedload if joined else selectinload
    chain = load(Singer.songs).selectinload(Song.label)
    async with db.session() as session:
        singer = await session.get_one(Singer, 1, options=[selectinload(Singer.songs)])
        first, second = singer.songs
        for attributes in (None, ["label_id"], ["title"]):
            session.expire(first, attributes)
            await change(db, "whole_songs", 1, title="newer")
            found = (await session.scalars(select(Singer).where(Singer.id == 1).options(chain))).one()
            assert found is singer
            assert [first, second] == singer.songs
            assert [1, 2] == [song.label and song.label.id for song in singer.songs]
            assert ("newer" if attributes != ["label_id"] else first.title, "2") == (first.title, second.title)
            session.expire(first, attributes)
            assert singer is await session.get(Singer, 1, options=[chain])
            assert 1 == first.label_id
            session.expire(first, attributes)
            await session.scalars(select(Singer).options(load(Singer.songs)))
            assert ("newer", 1) == (first.title, first.label_id)
        assert not session.dirty


@pytest.mark.parametrize("joined", [False, True])
async def test_a_chain_through_an_expired_parent(db: AsyncDB, joined: bool) -> None:
    """The same where one object is referred to."""
    await fill(db)
    load: Any = joinedload if joined else selectinload
    async with db.session() as session:
        song = await session.get_one(Song, 3, options=[selectinload(Song.singer)])
        singer = song.singer
        assert singer is not None
        session.expire(singer)
        await change(db, "whole_singers", 2, name="newer")
        await session.scalars(select(Song).options(load(Song.singer).selectinload(Singer.songs)))
        assert ("newer", [3]) == (singer.name, [one.id for one in singer.songs])


async def test_a_chain_through_an_object_that_is_gone(db: AsyncDB) -> None:
    """The others are loaded all the same."""
    await fill(db)
    async with db.session() as session:
        singer = await session.get_one(Singer, 1, options=[selectinload(Singer.songs)])
        first, second = singer.songs
        session.expire(first)
        async with db.begin() as other:
            other.delete(await other.get_one(Song, 1))
        await session.scalars(select(Singer).options(selectinload(Singer.songs).selectinload(Song.label)))
        assert second.label is not None
        assert 2 == second.label.id
        with pytest.raises(NoResultFound, match="no longer in the database"):
            await session.refresh(first)


@pytest.mark.parametrize("joined", [False, True])
async def test_joined_below_what_was_loaded_before(db: AsyncDB, joined: bool) -> None:
    """Of objects with which nothing was joined, the relationship is read; it does not show that there is none."""
    await fill(db)
    load: Any = joinedload if joined else selectinload
    async with db.session() as session:
        await session.get_one(Singer, 2, options=[selectinload(Singer.songs)])
        statement = select(Singer).order_by(Singer.id).options(load(Singer.songs).joinedload(Song.label))
        singers = (await session.scalars(statement)).all()
        labels = {song.id: song.label and song.label.id for singer in singers for song in singer.songs}
        assert {1: 1, 2: 2, 3: 3} == labels


async def test_an_object_without_an_attribute_in_messages(db: AsyncDB) -> None:
    """Messages show what is there of an object with a deleted attribute; none of them is an `AttributeError`."""
    async with db.session() as session:
        song = Song(id=1, title="x", part=Part(bars=1))
        session.add(song)
        await session.commit()
        assert song.part is not None
        del song.title, song.part.bars
        assert f"Song(id=1, tags=[], part={Part.__qualname__}(), singer_id=None, label_id=None)" == repr(song)
        wrong: Any = song
        calls: list[Any] = [
            lambda: session.execute(wrong),
            lambda: session.get(Song, wrong),
            lambda: session.get(Song, 1, options=wrong),
            lambda: session.refresh(song, [wrong]),
            lambda: session.merge_all(wrong),
            lambda: session.bulk_insert(wrong),
            lambda: session.flush(progress=wrong),
            lambda: session.scalars(select(Song).where(Song.title == wrong)),
        ]
        for call in calls:
            with pytest.raises(SuperormError):
                await call()
        for refuse in (session.add_all, lambda given: session.expire(song, given)):
            with pytest.raises(SessionError, match=r"not Song\(id=1, tags"):
                refuse(wrong)
        session.add(Song(id=2, singer=wrong))
        with pytest.raises(ValidationError, match=r"singer is Singer or None, not Song\(id=1, tags"):
            await session.commit()
        await session.rollback()


async def test_a_value_that_cannot_be_shown(db: AsyncDB) -> None:
    """Messages name its class."""
    mute: Any = Mute()
    async with db.session() as session:
        with pytest.raises(SessionError, match="not Mute <Mute, whose repr fails with RuntimeError>"):
            session.add(mute)
        with pytest.raises(ValidationError, match=r"Mute, whose .* cannot be its id"):
            await session.get(Song, mute)
        for song in (Song(id=1, title=mute), Song(id=mute), Song(id=1, singer=mute)):
            session.add(song)
            with pytest.raises(ValidationError, match="Mute"):
                await session.flush()
            await session.rollback()
        session.add(Song(id=1))
        await session.commit()
    assert [1] == [document["_id"] for document in await stored(db)]


@pytest.mark.parametrize("given", [None, 3, "x", [print]])
async def test_run_of_what_cannot_be_called(db: AsyncDB, given: Any) -> None:
    """It is refused before a session is made."""
    with pytest.raises(SessionError, match=r"db.run\(\) takes a function of a session, not"):
        await db.run(given)


@pytest.mark.parametrize("event", ["load", "refresh"])
@pytest.mark.parametrize("call", ["commit", "rollback", "close"])
async def test_listeners_for_loading_end_nothing(db: AsyncDB, event: Any, call: str) -> None:
    """They are refused by name to commit, roll back and close the session; what it holds stays as it was."""
    await fill(db)

    async def listener(session: AsyncSession, song: Song) -> None:
        await getattr(session, call)()

    listens_for(Song, event)(listener)
    refused = rf"{call}\(\) cannot be called by a listener while the session loads"
    try:
        async with db.session() as session:
            label = Label(id=9)
            session.add(label)
            if event == "refresh":
                song = (await session.scalars(select(Song).where(Song.id == 1))).one()
                with pytest.raises(SessionError, match=refused):
                    await session.refresh(song)
            else:
                reads: list[Any] = [
                    lambda: session.scalars(select(Song)),
                    lambda: session.get(Song, 1),
                    lambda: session.merge(Song(id=2)),
                    lambda: session.get(Singer, 2, options=[selectinload(Singer.songs)]),
                ]
                for read in reads:
                    with pytest.raises(SessionError, match=refused):
                        await read()
                    session.expunge_all()
                    session.add(label)
            assert label in session
            remove_listener(Song, event, listener)
            await session.commit()
            listens_for(Song, event)(listener)
        if event == "load":
            async with db.session() as session:
                with pytest.raises(SessionError, match=refused):
                    assert [] == [song async for song in session.stream_scalars(select(Song), batch_size=1)]
    finally:
        remove_listener(Song, event, listener)
    assert [1, 2, 3, 9] == [document["_id"] for document in await stored(db, "whole_labels")]


async def test_refreshing_what_became_another_class(db: AsyncDB) -> None:
    """The message says that the document is there, as what."""
    async with db.session() as session:
        session.add(tune := Tune(id=1, title="x"))
        await session.commit()
        await change(db, "whole_songs", 1, _type="Song")
        with pytest.raises(
            NoResultFound, match=r"Tune 1 is in the database as another class by now: its _type is 'Song'"
        ):
            await session.refresh(tune)
        assert tune in session


@pytest.mark.parametrize("conflicting", [False, True])
async def test_two_runs_change_different_fields(db: AsyncDB, conflicting: bool) -> None:
    """Both win, whether the second one's write conflicts with the first one's or comes after it."""
    async with db.begin() as session:
        session.add(Song(id=1))
    calls: list[str] = []

    async def retitle(session: AsyncSession) -> None:
        (await session.get_one(Song, 1)).title = "theirs"

    async def retag(session: AsyncSession) -> None:
        calls.append("tags")
        if conflicting:  # the transaction begins, where there are any
            session.add(Singer(id=len(calls)))
            await session.flush()
        song = await session.get_one(Song, 1)
        if len(calls) == 1:
            await db.run(retitle)
        song.tags = ["mine"]

    await db.run(retag)
    assert 1 + (conflicting and db.capabilities.transactions) == len(calls)
    (found,) = await stored(db)
    assert ("theirs", ["mine"]) == (found["title"], found["tags"])
