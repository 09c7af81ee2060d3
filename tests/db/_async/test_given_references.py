"""References to objects that are not in the session, and what leaves a parent by them, over every backend."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    SessionError,
    ValidationError,
    field,
    relationship,
    select,
    selectinload,
)
from superorm.compile.plan import Find

registry = Registry()


class Author(Document, registry=registry):
    __collection__ = "given_authors"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    boss_id: Mapped[int | None] = field(default=None)
    boss: Mapped[Author | None] = relationship("Author", key="boss_id")
    movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")


class Movie(Document, registry=registry):
    __collection__ = "given_movies"
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None)
    author: Mapped[Author | None] = relationship(Author, key="author_id")
    editor_id: Mapped[int | None] = field(default=None)
    editor: Mapped[Author | None] = relationship(Author, key="editor_id", cascade="merge")


class Reel(Document, registry=registry):
    __collection__ = "given_reels"
    id: Mapped[int] = field(primary_key=True)
    scenes: Mapped[list[Scene]] = relationship(list["Scene"], remote_key="reel_id", cascade="all, delete-orphan")


class Scene(Document, registry=registry):
    __collection__ = "given_scenes"
    id: Mapped[int] = field(primary_key=True)
    reel_id: Mapped[int | None] = field(default=None)
    reel: Mapped[Reel | None] = relationship(Reel, key="reel_id")


async def stored(db: AsyncDB, collection: str, name: str) -> dict[int, Any]:
    """A field of the documents in the database."""
    return {one["_id"]: one[name] for one in await db.parts.data_backend.read(Find(collection))}


# Objects of no session


async def detached(db: AsyncDB, key: int = 1) -> Author:
    """A stored author of no session, with his boss, both changed since."""
    async with db.session() as session:
        author = await session.get_one(Author, key, options=[selectinload(Author.boss)])
    author.name = "new"
    if author.boss is not None:
        author.boss.name = "new"
    return author


async def fill(db: AsyncDB) -> None:
    """Author 1, author 2 who is his boss, author 3 with movie 1, and movie 2 of nobody."""
    async with db.begin() as session:
        session.add_all([Author(id=1, boss_id=2), Author(id=2), Author(id=3)])
        session.add_all([Movie(id=1, author_id=3), Movie(id=2)])


@pytest.mark.parametrize("is_new", [True, False])
async def test_changed_outside(db: AsyncDB, is_new: bool) -> None:
    """What a reference was set to comes into the session, with what it refers to, and their changes are written."""
    await fill(db)
    author = await detached(db)
    async with db.session() as session:
        movie = Movie(id=3) if is_new else await session.get_one(Movie, 1)
        session.add(movie)
        movie.author = author
        await session.commit()
        assert author in session
        assert author.boss in session
        assert [] == session.dirty
        assert 1 == (await stored(db, "given_movies", "author_id"))[movie.id]
    assert {1: "new", 2: "new", 3: ""} == await stored(db, "given_authors", "name")


async def test_the_parent_of_before(db: AsyncDB) -> None:
    """So it does where the key stays the same."""
    await fill(db)
    author = await detached(db, 3)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1)
        movie.author = author
        await session.commit()
        assert author in session
    assert {1: "", 2: "", 3: "new"} == await stored(db, "given_authors", "name")


async def test_without_a_cascade(db: AsyncDB) -> None:
    """Without `save-update` only the key is taken."""
    await fill(db)
    author = await detached(db)
    async with db.session() as session, db.session() as other:
        movie = await session.get_one(Movie, 1)
        movie.editor = author
        await session.commit()
        assert author not in session
        movie.editor = await other.get_one(Author, 2)
        await session.commit()
    assert {1: "", 2: "", 3: ""} == await stored(db, "given_authors", "name")
    assert {1: 2, 2: None} == await stored(db, "given_movies", "editor_id")


async def test_held_elsewhere(db: AsyncDB) -> None:
    """An object of another session is refused, as `add` does, and so is another object of the session's document."""
    await fill(db)
    async with db.session() as session, db.session() as other:
        author = await other.get_one(Author, 1)
        movie = await session.get_one(Movie, 1)
        movie.author = author
        with pytest.raises(SessionError, match="Author 1 is in another session"):
            await session.commit()
        await session.rollback()
        other.expunge(author)
        await session.get_one(Author, 1)
        movie.author = author
        with pytest.raises(SessionError, match="Author 1 is in the session already, as another object"):
            await session.commit()
        await session.rollback()
        movie.author = author
        session.delete(movie)
        session.expunge(await session.get_one(Author, 1))
        await session.commit()
    assert {2: None} == await stored(db, "given_movies", "author_id")


async def test_bulk_inserts(db: AsyncDB) -> None:
    """New documents that others of the session, or of none, are referred to by."""
    await fill(db)
    outside = await detached(db)
    async with db.session() as session:
        await session.bulk_insert([Movie(id=3, author=await session.get_one(Author, 3)), Movie(id=4, author=outside)])
        await session.commit()
        assert outside not in session
    assert {1: 3, 2: None, 3: 3, 4: 1} == await stored(db, "given_movies", "author_id")


# Objects that come back by a list


async def scene(session: AsyncSession) -> tuple[Movie, Author, Author]:
    """Movie 1, expunged, with its author loaded, and authors 1 and 2 with their movies."""
    statement = select(Author).options(selectinload(Author.movies)).order_by(Author.id)
    first, second, _ = await session.scalars(statement)
    movie = await session.get_one(Movie, 1, options=[selectinload(Movie.author)])
    session.expunge(movie)
    return movie, first, second


async def test_back_with_another_reference(db: AsyncDB) -> None:
    """An expunged object that a list takes in is refused where its own reference says something else."""
    await fill(db)
    async with db.session() as session:
        movie, first, second = await scene(session)
        movie.author = first
        second.movies.append(movie)
        with pytest.raises(ValidationError, match="change one of them only") as caught:
            await session.commit()
        assert "Movie 1 was added to Author 2: movies" in str(caught.value)
        assert "Movie 1: author was set to Author 1" in str(caught.value)
        await session.rollback()
        await session.commit()
    assert {1: 3, 2: None} == await stored(db, "given_movies", "author_id")


@pytest.mark.parametrize("same", [True, False])
async def test_back_with_the_same_reference(db: AsyncDB, same: bool) -> None:
    """Where that says the same, or None, the list counts, and the next commit changes nothing."""
    await fill(db)
    async with db.session() as session:
        movie, _, second = await scene(session)
        movie.author = second if same else None
        second.movies.append(movie)
        for _ in range(3):
            await session.commit()
            assert {1: 2, 2: None} == await stored(db, "given_movies", "author_id")
            assert (second, [movie]) == (movie.author, second.movies)


async def test_from_outside(db: AsyncDB) -> None:
    """One that was loaded elsewhere brings what it refers to along, but not the parent that it leaves."""
    await fill(db)
    async with db.session() as other:
        options = selectinload(Movie.author), selectinload(Movie.editor)
        movie = await other.get_one(Movie, 1, options=options)
        movie.editor = await other.get_one(Author, 1, options=[selectinload(Author.boss)])
        await other.commit()
    assert movie.author is not None
    movie.author.name = "left"
    async with db.session() as session:
        third, second = (
            await session.get_one(Author, 3),
            await session.get_one(Author, 2, options=[selectinload(Author.movies)]),
        )
        second.movies.append(movie)
        await session.commit()
        assert (second, "") == (movie.author, third.name)
        assert movie in session
        assert movie.editor not in session
    assert {1: "", 2: "", 3: ""} == await stored(db, "given_authors", "name")
    assert {1: 2, 2: None} == await stored(db, "given_movies", "author_id")


# Orphans


async def reel_of(session: AsyncSession) -> tuple[Reel, Reel, dict[int, Scene]]:
    """Reel 1 with scenes 1 to 4 and an empty reel 2, everything loaded."""
    session.add_all([Reel(id=1, scenes=[Scene(id=key) for key in range(1, 5)]), Reel(id=2)])
    await session.commit()
    session.expunge_all()
    statement = select(Reel).options(selectinload(Reel.scenes).selectinload(Scene.reel)).order_by(Reel.id)
    first, second = await session.scalars(statement)
    return first, second, {one.id: one for one in first.scenes}


async def test_orphans(db: AsyncDB) -> None:
    """What leaves its parent by the list or by the reference is deleted; with a key of None alone it stays."""
    async with db.session() as session:
        reel, _, scenes = await reel_of(session)
        reel.scenes.remove(scenes[1])
        scenes[2].reel = None
        scenes[3].reel_id = None
        for _ in range(2):
            await session.commit()
            assert {3: None, 4: 1} == await stored(db, "given_scenes", "reel_id")
            assert [scenes[4]] == reel.scenes
        assert [True, True, False] == [scenes[key] not in session for key in (1, 2, 3)]


async def test_orphans_by_both(db: AsyncDB) -> None:
    """A key that is None too, or the list too, changes nothing of it."""
    async with db.session() as session:
        reel, _, scenes = await reel_of(session)
        reel.scenes.remove(scenes[1])
        scenes[1].reel = None
        scenes[2].reel = None
        scenes[2].reel_id = None
        reel.scenes.remove(scenes[3])
        scenes[3].reel_id = None
        await session.commit()
        assert [scenes[4]] == reel.scenes
    assert {4: 1} == await stored(db, "given_scenes", "reel_id")


async def test_orphans_that_go_elsewhere(db: AsyncDB) -> None:
    """What another parent takes stays; one that the key alone names is a contradiction."""
    async with db.session() as session:
        first, second, scenes = await reel_of(session)
        scenes[1].reel = None
        second.scenes.append(scenes[1])
        scenes[2].reel = second
        await session.commit()
        assert (second, second) == (scenes[1].reel, scenes[2].reel)
        scenes[3].reel = None
        scenes[3].reel_id = 2
        with pytest.raises(ValidationError, match="Scene 3: reel was set to None, and reel_id to 2"):
            await session.commit()
        await session.rollback()
        scenes[3].reel = None
        session.delete(first)
        await session.commit()
    assert {1: 2, 2: 2} == await stored(db, "given_scenes", "reel_id")


async def test_orphans_of_what_is_known(db: AsyncDB) -> None:
    """A reference that was not loaded is one of the parent that is in the session, where it is."""
    async with db.session() as session:
        await reel_of(session)
        session.expunge_all()
        one = await session.get_one(Scene, 1)
        one.reel = None
        await session.commit()
        assert (None, None) == (one.reel, one.reel_id)
        await session.get_one(Reel, 1)
        other = await session.get_one(Scene, 2)
        other.reel = None
        await session.commit()
        assert other not in session
    assert {1: None, 3: 1, 4: 1} == await stored(db, "given_scenes", "reel_id")


async def test_orphans_that_are_rolled_back(db: AsyncDB, real: bool) -> None:
    """They show their parents again."""
    async with db.session() as session:
        reel, _, scenes = await reel_of(session)
        scenes[1].reel = None
        if real:
            await session.flush()
            assert scenes[1] not in session
        await session.rollback()
        assert (reel, 1) == (scenes[1].reel, scenes[1].reel_id)
        assert 4 == len(reel.scenes)
        await session.commit()
    assert dict.fromkeys(range(1, 5), 1) == await stored(db, "given_scenes", "reel_id")
