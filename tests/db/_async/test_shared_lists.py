"""One list given to several relationships: each has its own after a flush, over every backend."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    Document,
    Mapped,
    Registry,
    ValidationError,
    field,
    relationship,
    select,
    selectinload,
)
from superorm.compile.plan import Find

registry = Registry()


class Author(Document, registry=registry):
    __collection__ = "sharing_authors"
    id: Mapped[int] = field(primary_key=True)
    movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")
    edited: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="editor_id")


class Movie(Document, registry=registry):
    __collection__ = "sharing_movies"
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None)
    editor_id: Mapped[int | None] = field(default=None)


class Reel(Document, registry=registry):
    __collection__ = "sharing_reels"
    id: Mapped[int] = field(primary_key=True)
    scenes: Mapped[list[Scene]] = relationship(list["Scene"], remote_key="reel_id", cascade="all, delete-orphan")


class Scene(Document, registry=registry):
    __collection__ = "sharing_scenes"
    id: Mapped[int] = field(primary_key=True)
    reel_id: Mapped[int | None] = field(default=None)


async def fill(db: AsyncDB) -> None:
    """Author 1 with movies 1 and 2, authors 2 and 3 without any, and reel 1 with scenes 1 and 2, reel 2 without."""
    async with db.begin() as session:
        session.add_all([Author(id=1, movies=[Movie(id=1), Movie(id=2)]), Author(id=2), Author(id=3)])
        session.add_all([Reel(id=1, scenes=[Scene(id=1), Scene(id=2)]), Reel(id=2)])


async def stored(db: AsyncDB, collection: str = "sharing_movies", key: str = "author_id") -> dict[int, Any]:
    """The parents' keys of the documents in the database."""
    return {one["_id"]: one[key] for one in await db.parts.data_backend.read(Find(collection))}


async def all_authors(session: AsyncSession) -> list[Author]:
    """All of them, with their movies."""
    both = selectinload(Author.movies), selectinload(Author.edited)
    return (await session.scalars(select(Author).options(*both).order_by(Author.id))).all()


async def test_of_another_object(db: AsyncDB) -> None:
    """The other's children come to the object for good, and the lists are two from then on."""
    await fill(db)
    async with db.session() as session:
        first, second, _ = await all_authors(session)
        second.movies = first.movies
        for _ in range(3):
            await session.commit()
            assert {1: 2, 2: 2} == await stored(db)
            assert ([], [1, 2]) == (first.movies, sorted(movie.id for movie in second.movies))
        first.movies.append(Movie(id=3))
        await session.commit()
        assert 2 == len(second.movies)
    assert {1: 2, 2: 2, 3: 1} == await stored(db)


async def test_of_another_object_before_queries(db: AsyncDB) -> None:
    """The flush before a query, or one of something else, leaves them as they are too."""
    await fill(db)
    async with db.session() as session:
        first, second, third = await all_authors(session)
        second.movies = third.movies = first.movies
        third.movies = []
        await session.flush()
        assert 3 == await session.count(select(Author))
        session.add(Author(id=4))
        await session.commit()
    assert {1: 2, 2: 2} == await stored(db)


async def test_with_deletes_of_orphans(db: AsyncDB) -> None:
    """Nothing is deleted."""
    await fill(db)
    async with db.session() as session:
        first, second = await session.scalars(select(Reel).options(selectinload(Reel.scenes)).order_by(Reel.id))
        second.scenes = first.scenes
        for _ in range(3):
            await session.commit()
            assert {1: 2, 2: 2} == await stored(db, "sharing_scenes", "reel_id")
        assert ([], 2) == (first.scenes, len(second.scenes))


async def test_of_a_new_object(db: AsyncDB) -> None:
    """A new object may be given another's list."""
    await fill(db)
    async with db.session() as session:
        first, *_ = await all_authors(session)
        new = Author(id=4, movies=first.movies)
        session.add(new)
        for _ in range(3):
            await session.commit()
            assert {1: 4, 2: 4} == await stored(db)
        assert ([], 2) == (first.movies, len(new.movies))


async def test_of_two_new_objects(db: AsyncDB) -> None:
    """An empty list is two, one with children would give them two parents."""
    given: list[Movie] = []
    async with db.session() as session:
        one, two = Author(id=1, movies=given), Author(id=2, movies=given)
        session.add_all([one, two])
        await session.commit()
        one.movies.append(Movie(id=1))
        await session.commit()
        assert (1, []) == (len(one.movies), two.movies)
        given = [Movie(id=2)]
        session.add_all([Author(id=3, movies=given), Author(id=4, movies=given)])
        with pytest.raises(ValidationError, match=r"Movie 2 was added to Author .: movies, and Movie 2 was added to"):
            await session.commit()
    assert {1: 1} == await stored(db)


async def test_of_nothing(db: AsyncDB) -> None:
    """An empty list that two objects show, as one had it before, is two lists after the next flush as well."""
    await fill(db)
    async with db.session() as session:
        _, second, third = await all_authors(session)
        third.movies = second.movies
        await session.commit()
        second.movies.append(Movie(id=5))
        assert [] == third.movies
        for _ in range(3):
            await session.commit()
            assert {1: 1, 2: 1, 5: 2} == await stored(db)
            assert [] == session.dirty


async def test_of_two_relationships(db: AsyncDB) -> None:
    """One object's two relationships have a list each."""
    await fill(db)
    async with db.session() as session:
        first, *_ = await all_authors(session)
        first.edited = first.movies
        await session.commit()
        first.edited.pop()
        for _ in range(2):
            await session.commit()
            assert {1: 1, 2: 1} == await stored(db)
            assert [1, None] == sorted((await stored(db, key="editor_id")).values(), key=str)


async def test_kept_by_the_user(db: AsyncDB) -> None:
    """A list of one relationship alone stays the same list, with what is put into it later."""
    await fill(db)
    mine = [Movie(id=3)]
    async with db.session() as session:
        first, second, _ = await all_authors(session)
        second.movies = mine
        await session.commit()
        mine.append(Movie(id=4))
        await session.commit()
        assert mine is second.movies
        theirs = first.movies
        second.movies = theirs
        await session.commit()
        assert theirs is first.movies
        assert (2, []) == (len(second.movies), first.movies)
    assert {1: 2, 2: 2, 3: None, 4: None} == await stored(db)


@pytest.mark.parametrize("flushed", [True, False])
async def test_rolled_back(db: AsyncDB, flushed: bool, real: bool) -> None:
    """Each shows what it did, and the next commit leaves that so."""
    await fill(db)
    async with db.session() as session:
        first, second, _ = await all_authors(session)
        second.movies = first.movies
        if flushed and real:
            await session.flush()
        await session.rollback()
        assert ([1, 2], []) == (sorted(movie.id for movie in first.movies), second.movies)
        first.movies.append(Movie(id=3))
        await session.commit()
        assert [] == second.movies
    assert {1: 1, 2: 1, 3: 1} == await stored(db)


async def test_bulk_inserts(db: AsyncDB) -> None:
    """New objects that were given another's list are refused, with its children as they are."""
    await fill(db)
    async with db.session() as session:
        first, *_ = await all_authors(session)
        with pytest.raises(Exception, match=r"bulk_insert\(\) writes new objects only"):
            await session.bulk_insert([Author(id=4, movies=first.movies)])
    assert {1: 1, 2: 1} == await stored(db)


async def test_merged(db: AsyncDB) -> None:
    """A merge edits the list of its own object: neither that of another one which was given the same, nor the given."""
    await fill(db)
    async with db.session() as session:
        first, second, _ = await all_authors(session)
        second.movies = first.movies
        new = Movie(id=3)
        given = Author(id=2, movies=[*first.movies, new])
        await session.merge(given)
        assert new is given.movies[2]
        assert new not in session
        assert 3 not in {movie.id for movie in first.movies}
        assert {1, 2, 3} == {movie.id for movie in second.movies}
        await session.commit()
        assert [] == first.movies
    assert {1: 2, 2: 2, 3: 2} == await stored(db)


async def test_merged_with_a_list_of_the_session(db: AsyncDB) -> None:
    """An object from outside that was given such a list, and what is new in it, stay as they are."""
    await fill(db)
    async with db.session() as session:
        first, *_ = await all_authors(session)
        new = Movie(id=3)
        first.movies.append(new)
        given = Author(id=1)
        given.movies = first.movies
        await session.merge(given)
        assert new is given.movies[2]
        await session.commit()
        assert new is given.movies[2]
        assert {1, 2, 3} == {movie.id for movie in first.movies}
    assert {1: 1, 2: 1, 3: 1} == await stored(db)
