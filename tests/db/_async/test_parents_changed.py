"""Objects that get another parent: which word counts, and what is left of it after a rollback, over every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from superorm import (
    AsyncDB,
    AsyncSession,
    BackendError,
    Document,
    DuplicateKeyError,
    Embedded,
    Mapped,
    NotLoadedError,
    Registry,
    StaleDocumentError,
    ValidationError,
    field,
    listens_for,
    relationship,
    remove_listener,
    select,
    selectinload,
)
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete

Listen: TypeAlias = Callable[[type[Document], Callable[[Any, Any], None]], None]

registry = Registry()


class Author(Document, registry=registry):
    __collection__ = "changed_authors"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")


class Movie(Document, registry=registry):
    __collection__ = "changed_movies"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    author_id: Mapped[int | None] = field(default=None)
    author: Mapped[Author | None] = relationship(Author, key="author_id")


class Number(Embedded):
    year: Mapped[int]
    place: Mapped[str]


class Reel(Document, registry=registry):
    __collection__ = "changed_reels"
    id: Mapped[Number] = field(primary_key=True)
    scenes: Mapped[list[Scene]] = relationship(list["Scene"], remote_key="reel_id", cascade="all, delete-orphan")


class Scene(Document, registry=registry):
    __collection__ = "changed_scenes"
    id: Mapped[int] = field(primary_key=True)
    reel_id: Mapped[Number | None] = field(default=None)
    reel: Mapped[Reel | None] = relationship(Reel, key="reel_id")


WHOLE = selectinload(Author.movies)


async def fill(db: AsyncDB) -> None:
    """Author 1 with movie 1, author 2 without any, and a reel with scene 1."""
    async with db.begin() as session:
        session.add_all([Author(id=1), Author(id=2), Movie(id=1, author_id=1)])
        session.add(Reel(id=Number(year=1, place="a"), scenes=[Scene(id=1)]))


async def stored(db: AsyncDB, collection: str = "changed_movies", key: str = "author_id") -> dict[int, Any]:
    """The parents' keys of the documents in the database."""
    return {one["_id"]: one[key] for one in await db.parts.data_backend.read(Find(collection))}


async def two_authors(session: AsyncSession) -> tuple[Author, Author]:
    """Both, with their movies."""
    first, second = await session.scalars(select(Author).options(WHOLE).order_by(Author.id))
    return first, second


# What says nothing new


async def test_merged_and_removed(db: AsyncDB) -> None:
    """A merged reference to the same parent as before is no reason to stay in a list."""
    await fill(db)
    async with db.session() as other:
        given = await other.get_one(Movie, 1, options=[selectinload(Movie.author)])
    async with db.session() as session:
        author, _ = await two_authors(session)
        movie = await session.merge(given)
        assert (author.movies[0], author) == (movie, movie.author)
        assert [] == session.dirty
        author.movies.remove(movie)
        await session.commit()
        assert ([], None, None) == (author.movies, movie.author_id, movie.author)
    assert {1: None} == await stored(db)


async def test_merged_orphans(db: AsyncDB) -> None:
    """Nor does it keep an orphan."""
    await fill(db)
    async with db.session() as other:
        given = await other.get_one(Scene, 1, options=[selectinload(Scene.reel)])
    async with db.session() as session:
        reel = (await session.scalars(select(Reel).options(selectinload(Reel.scenes)))).one()
        reel.scenes.remove(await session.merge(given))
        await session.commit()
        assert [] == reel.scenes
    assert {} == await stored(db, "changed_scenes", "reel_id")


async def test_merged_and_given_a_key(db: AsyncDB) -> None:
    """Nor does it contradict a key that is set afterwards."""
    await fill(db)
    async with db.session() as other:
        given = await other.get_one(Movie, 1, options=[selectinload(Movie.author)])
    async with db.session() as session:
        first, second = await two_authors(session)
        movie = await session.merge(given)
        movie.author_id = 2
        await session.commit()
        assert ([], [movie]) == (first.movies, second.movies)
    assert {1: 2} == await stored(db)


async def test_merged_without_its_parent(db: AsyncDB) -> None:
    """A reference to a parent that is gone shows None; merging it leaves the key as it is."""
    await fill(db)
    await db.parts.data_backend.write(Delete("changed_authors", [{"_id": 1}]))
    async with db.session() as other:
        given = await other.get_one(Movie, 1, options=[selectinload(Movie.author)])
        assert given.author is None
    async with db.session() as session:
        movie = await session.merge(given)
        assert movie.author is None
        await session.commit()
    assert {1: 1} == await stored(db)


async def test_merged_and_rolled_back(db: AsyncDB) -> None:
    """What a merge let an object show is not shown after a rollback."""
    await fill(db)
    async with db.session() as other:
        given = await other.get_one(Movie, 1, options=[selectinload(Movie.author)])
    async with db.session() as session:
        movie = await session.get_one(Movie, 1)
        assert movie is await session.merge(given)
        await session.rollback()
        with pytest.raises(NotLoadedError, match="Movie 1: author was not loaded"):
            assert movie.author


@pytest.mark.parametrize("loaded", [True, False])
async def test_removed_and_set_to_the_same(db: AsyncDB, loaded: bool) -> None:
    """What leaves a list leaves it, also where its reference is set to what it was; list and key agree."""
    await fill(db)
    async with db.session() as session:
        author, _ = await two_authors(session)
        (movie,) = author.movies
        if loaded:
            await session.refresh(movie, ["author"])
        author.movies.remove(movie)
        movie.author = author
        await session.commit()
        assert ([], None, None) == (author.movies, movie.author_id, movie.author)
    assert {1: None} == await stored(db)


async def test_contradictions(db: AsyncDB) -> None:
    """Two parents at once are refused as before."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        (movie,) = first.movies
        movie.author_id, movie.author = 2, first
        with pytest.raises(ValidationError, match="author was set to Author 1, and author_id to 2"):
            await session.flush()
        await session.rollback()
        first.movies.remove(movie)
        second.movies.append(movie)
        movie.author = first
        await session.commit()
        assert ([], [movie]) == (first.movies, second.movies)
    assert {1: 2} == await stored(db)


# New objects after a rollback


@pytest.mark.parametrize("by", ["reference", "list", "deletion"])
@pytest.mark.parametrize("fails", [True, False])
async def test_new_objects_change_parent(db: AsyncDB, by: str, fails: bool) -> None:
    """A new object has the key again that the user gave it, so that it can get another parent."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        movie = Movie(id=2)
        if by == "reference":
            movie.author = first
        elif by == "list":
            first.movies.append(movie)
        else:
            movie.author_id = 1
            session.delete(first)
        session.add(movie)
        if fails or not db.capabilities.transactions:
            wrong: Any = 5
            session.add(Movie(id=3, title=wrong))
            with pytest.raises(ValidationError, match="title"):
                await session.flush()
        else:
            await session.flush()
            assert (None if by == "deletion" else 1) == movie.author_id
        await session.rollback()
        assert (1 if by == "deletion" else None) == movie.author_id
        assert movie not in session
        assert [1] == [one.id for one in first.movies]
        session.add(movie)
        if by == "reference":
            movie.author = second
        elif by == "list":
            second.movies.append(movie)
        else:
            movie.author_id = 2
        await session.commit()
        assert ([1], [2]) == ([one.id for one in first.movies], [one.id for one in second.movies])
    assert {1: 1, 2: 2} == await stored(db)


async def test_new_objects_that_moved(db: AsyncDB, real: bool) -> None:
    """What flushes and loads made of a new object's relationships is taken back, what the user set stays."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        one, two, three = Movie(id=2, author=first), Movie(id=3, author=first), Movie(id=4)
        session.add_all([one, two, three])
        if not real:
            return  # nothing could be undone
        await session.flush()
        second.movies.append(one)  # so that `one.author` follows
        two.author = second
        second.movies.append(three)
        await session.flush()
        await session.refresh(three, ["author"])
        assert [second, second, second] == [one.author, two.author, three.author]
        two.author_id = 1
        await session.rollback()
        assert [None, 1, None] == [one.author_id, two.author_id, three.author_id]
        assert [first, second, None] == [one.author, two.author, three.author]
        two.author_id = None
        first.movies.append(three)
        session.add_all([one, two])
        await session.commit()
        assert {one, three} <= set(first.movies)
    assert {1: 1, 2: 1, 3: 2, 4: 1} == await stored(db)


async def test_lists_of_new_objects(db: AsyncDB, real: bool) -> None:
    """A new object's list loses what a flush put into it."""
    await fill(db)
    async with db.session() as session:
        first, _ = await two_authors(session)
        (movie,) = first.movies
        author = Author(id=3, movies=[Movie(id=2)])
        session.add(author)
        if not real:
            return
        movie.author = author
        await session.flush()
        assert [2, 1] == [one.id for one in author.movies]
        await session.rollback()
        assert [2] == [one.id for one in author.movies]
        assert [movie] == first.movies
        session.add(author)
        await session.commit()
    assert {1: 1, 2: 3} == await stored(db)


@pytest.mark.parametrize("how", ["expire", "expire_all", "refresh", "reload"])
async def test_new_objects_that_expired(db: AsyncDB, real: bool, how: str) -> None:
    """A new object shows again what the user gave it, also where that has expired."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        author, movie = Author(id=3, movies=[Movie(id=2)]), Movie(id=3, author=first)
        (child,) = author.movies
        session.add_all([author, movie])
        if not real:
            return
        await session.flush()
        for one in author, movie:
            if how == "expire":
                session.expire(one)
            elif how == "expire_all":
                session.expire_all()
            else:
                await session.refresh(one)
        if how == "reload":
            await session.refresh(author, ["movies"])
            await session.refresh(movie, ["author"])
            assert [child] == author.movies
        assert (how == "reload") == ("movies" in vars(author)) == ("author" in vars(movie))
        await session.rollback()
        assert ([child], first, None) == (author.movies, movie.author, movie.author_id)
        movie.author = second
        session.add_all([author, movie])
        await session.commit()
    assert {1: 1, 2: 3, 3: 2} == await stored(db)


async def test_keys_that_expired(db: AsyncDB, real: bool) -> None:
    """The same of a key that a flush set after it had expired."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        movie = Movie(id=2, title="two")
        session.add(movie)
        if not real:
            return
        await session.flush()
        session.expire(movie)
        first.movies.append(movie)
        await session.flush()
        await session.rollback()
        assert ("two", None) == (movie.title, movie.author_id)
        second.movies.append(movie)
        await session.commit()
    assert {1: 1, 2: 2} == await stored(db)


async def test_bulk_insert(db: AsyncDB) -> None:
    """The same of objects that `bulk_insert` was given."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)
        movie = Movie(id=1, author=first)
        with pytest.raises(DuplicateKeyError):
            await session.bulk_insert([movie])
        await session.rollback()
        assert movie.author_id is None
        movie.id, movie.author = 2, second
        await session.bulk_insert([movie])
        await session.commit()
        assert 2 == movie.author_id
    assert {1: 1, 2: 2} == await stored(db)


async def test_another_attempt(db: AsyncDB, real: bool) -> None:
    """An object that outlives an attempt of `run` gets the parent of the next one."""
    await fill(db)
    movie = Movie(id=2)
    attempts = 0

    async def work(session: AsyncSession) -> None:
        nonlocal attempts
        attempts += 1
        movie.author = await session.get_one(Author, attempts)
        session.add(movie)
        if not real:
            return
        await session.flush()
        if attempts == 1:
            raise StaleDocumentError("again")

    await db.run(work)
    assert (2 if real else 1) == movie.author_id == attempts


async def test_objects_of_another_session(db: AsyncDB, real: bool) -> None:
    """What another session has taken over stays as it is there."""
    await fill(db)
    async with db.session() as session, db.session() as other:
        first, second = await two_authors(session)
        (movie,) = first.movies
        movie.author = second
        if not real:
            return
        await session.flush()
        session.expunge(movie)
        movie.author = third = Author(id=3)
        other.add(movie)
        await session.rollback()
        assert third is movie.author
        assert ([], []) == ([one for one in first.movies if one is not movie], second.movies)


# What is not known to be stored


async def test_unknown_results(db: AsyncDB, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit of which nobody knows whether it took place, changed relationships are not loaded any more."""
    await fill(db)
    commit = AsyncClientSession.commit_transaction

    async def lost(self: AsyncClientSession) -> None:
        await commit(self)
        raise OperationFailure("lost", 50, {"errorLabels": ["UnknownTransactionCommitResult"], "code": 50})

    async with db.session() as session:
        first, second = await two_authors(session)
        (movie,) = first.movies
        await session.refresh(movie, ["author"])
        if not real:
            return  # where there are no transactions
        movie.author = second
        second.movies.append(Movie(id=2))
        with monkeypatch.context() as patch:
            patch.setattr(AsyncClientSession, "commit_transaction", lost)
            with pytest.raises(BackendError, match="not known"):
                await session.commit()
        await session.rollback()
        assert {1: 2, 2: 2} == await stored(db)
        for author in first, second:
            with pytest.raises(NotLoadedError, match="movies was not loaded"):
                assert author.movies
        with pytest.raises(NotLoadedError, match="author was not loaded"):
            assert movie.author
        await session.scalars(select(Author).options(WHOLE.selectinload(Movie.author)))
        assert ([], [1, 2]) == (first.movies, sorted(one.id for one in second.movies))
        assert second is movie.author
        movie.title = "kept"
        await session.commit()
    assert {1: 2, 2: 2} == await stored(db)


# Keys that can be changed in place


async def test_compound_keys(db: AsyncDB) -> None:
    """A child holds a copy of its parent's key."""
    await fill(db)
    async with db.session() as session:
        reel = Reel(id=Number(year=2, place="b"))
        scenes = [Scene(id=2, reel=reel), Scene(id=3)]
        session.add_all(scenes)
        reel.scenes.append(scenes[1])
        await session.commit()
        for scene in scenes:
            assert scene.reel_id is not None
            scene.reel_id.place = "a"
            scene.reel_id.year = 1
        await session.commit()
        assert Number(year=2, place="b") == reel.id
        assert [] == reel.scenes
    there = {"year": 1, "place": "a"}
    assert {1: there, 2: there, 3: there} == await stored(db, "changed_scenes", "reel_id")


async def test_compound_keys_of_merged_objects(db: AsyncDB) -> None:
    """The same where a merge sets the key."""
    await fill(db)
    async with db.session() as session:
        reel = (await session.scalars(select(Reel))).one()
        scene = await session.merge(Scene(id=1, reel=Reel(id=Number(year=1, place="a"))))
        assert reel is scene.reel
        assert scene.reel_id is not None
        assert scene.reel_id is not reel.id
        scene.reel_id.place = "b"
        scene.reel_id = None
        await session.rollback()
        assert Number(year=1, place="a") == reel.id


# What listeners change


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Listens for what is about to be inserted, until the end of the test."""
    added: list[tuple[type[Document], Callable[[Any, Any], None]]] = []

    def add(cls: type[Document], function: Callable[[Any, Any], None]) -> None:
        listens_for(cls, "before_insert")(function)
        added.append((cls, function))

    yield add
    for cls, function in added:
        remove_listener(cls, "before_insert", function)


async def test_listener_sets_another_parent(db: AsyncDB, listen: Listen) -> None:
    """The key that a flush set for one parent does not contradict the parent that a listener sets then."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)

        def set_second(_: object, movie: Movie) -> None:
            movie.author = second

        listen(Movie, set_second)
        movies = [Movie(id=2, author=first), Movie(id=3)]
        session.add_all(movies)
        await session.commit()
        assert [second, second] == [one.author for one in movies]
        assert [2, 2] == [one.author_id for one in movies]
        assert ([1], [2, 3]) == ([one.id for one in first.movies], [one.id for one in second.movies])
    assert {1: 1, 2: 2, 3: 2} == await stored(db)


async def test_listener_moves_to_another_list(db: AsyncDB, listen: Listen) -> None:
    """The same for lists: what a listener takes from the list it came to, and what it adds to another."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)

        def move(_: object, movie: Movie) -> None:
            first.movies.remove(movie)
            if movie.id == 2:
                second.movies.append(movie)

        listen(Movie, move)
        first.movies += [Movie(id=2), Movie(id=3)]
        await session.commit()
        assert ([1], [2]) == ([one.id for one in first.movies], [one.id for one in second.movies])
    assert {1: 1, 2: 2, 3: None} == await stored(db)


async def test_listener_contradicts_the_user(db: AsyncDB, listen: Listen) -> None:
    """A key that the user set still contradicts the parent that a listener sets, also after an earlier flush."""
    await fill(db)
    async with db.session() as session:
        first, second = await two_authors(session)

        def set_second(_: object, movie: Movie) -> None:
            movie.author = second

        listen(Movie, set_second)
        session.add(Movie(id=2, author_id=1))
        with pytest.raises(ValidationError, match=r"author was set to Author 2, and author_id to 1"):
            await session.commit()
        await session.rollback()
        movie = await session.get_one(Movie, 1)
        movie.author = second
        await session.flush()
        movie.author_id = 1
        await session.flush()
        movie.author, movie.author_id = first, 2
        with pytest.raises(ValidationError, match=r"author was set to Author 1, and author_id to 2"):
            await session.flush()


async def test_listener_gives_the_parent_its_key(db: AsyncDB, listen: Listen) -> None:
    """A key that a listener assigns to a new parent reaches the references to it, and the objects in its lists."""
    await fill(db)
    keys = iter((50, 51, 52))

    def number(_: object, author: Author) -> None:
        author.id = next(keys)

    listen(Author, number)
    async with db.session() as session:
        old = await session.get_one(Movie, 1)
        old.author = Author(id=0)
        await session.commit()
        new = Movie(id=2, author=Author(id=0))
        session.add(new)
        await session.commit()
        author = Author(id=0, movies=[Movie(id=3), Movie(id=4)])
        session.add(author)
        await session.commit()
        assert old.author is not None
        assert new.author is not None
        assert (50, 51, 52) == (old.author.id, new.author.id, author.id)
        assert [3, 4] == [one.id for one in author.movies]
        assert [50, 51, 52, 52] == [one.author_id for one in (old, new, *author.movies)]
    assert {1: 50, 2: 51, 3: 52, 4: 52} == await stored(db)


async def test_listeners_give_keys_to_both(db: AsyncDB, listen: Listen) -> None:
    """A key that a listener sets instead of that of a new parent counts, whatever key the parent gets."""
    await fill(db)

    def number(_: object, author: Author) -> None:
        author.id = 50

    def point(_: object, movie: Movie) -> None:
        movie.author_id = 2

    listen(Author, number)
    listen(Movie, point)
    async with db.session() as session:
        author = Author(id=0, movies=[Movie(id=2)])
        session.add_all([author, Movie(id=3, author=author)])
        await session.commit()
        assert [] == author.movies
    assert {1: 1, 2: 2, 3: 2} == await stored(db)
