"""Relationships of objects that are merged, refreshed, expired, expunged, pickled and copied, over every backend."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from superorm import (
    AsyncDB,
    Document,
    Mapped,
    NoResultFound,
    NotLoadedError,
    Registry,
    Select,
    SessionError,
    ValidationError,
    field,
    joinedload,
    relationship,
    select,
    selectinload,
)
from superorm.unitofwork.writes import Delete, Update, UpdateOp

registry = Registry()


class Base(Document, registry=registry):
    __abstract__ = True

    author_id: Mapped[int | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")


class Author(Document, registry=registry):
    __collection__ = "states_authors"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")


class Movie(Base, registry=registry):
    __collection__ = "states_movies"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str] = field(default="")
    cuts: Mapped[list[Cut]] = relationship(list["Cut"], remote_key="movie_id", cascade="all, delete-orphan")


class Cut(Document, registry=registry):
    __collection__ = "states_cuts"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    movie_id: Mapped[int | None] = field(default=None)
    movie: Mapped[Movie | None] = relationship(Movie, key="movie_id", cascade="save-update")


WHOLE = selectinload(Author.movies)


async def fill(db: AsyncDB) -> None:
    """Author 1 with movies 1 and 2, author 2 with movie 3; movie 1 has cuts 1 and 2."""
    async with db.begin() as session:
        session.add_all([Author(id=1, name="A"), Author(id=2, name="B")])
        session.add_all([Movie(id=1, author_id=1), Movie(id=2, author_id=1), Movie(id=3, author_id=2)])
        session.add_all([Cut(id=1, movie_id=1), Cut(id=2, movie_id=1)])


async def stored(db: AsyncDB) -> dict[int, int | None]:
    """The authors of the movies, as they are in the database."""
    async with db.session() as session:
        rows = await session.execute(select(Movie.id, Movie.author_id).order_by(Movie.id))
        return {row[0]: row[1] for row in rows}


async def change(db: AsyncDB, collection: str, key: int, **values: Any) -> None:
    """Change a stored document behind the sessions' backs."""
    await db.parts.data_backend.write(Update(collection, [UpdateOp(q={"_id": key}, u={"$set": values})]))


async def whole(db: AsyncDB, key: int = 1) -> Author:
    """An author with movies, their authors and cuts, of a session that is closed."""
    async with db.session() as session:
        back = selectinload(Author.movies).selectinload(Movie.author)
        cuts = selectinload(Author.movies).selectinload(Movie.cuts).selectinload(Cut.movie)
        return await session.get_one(Author, key, options=[back, cuts])


def movie_of(author: Author, key: int) -> Movie:
    """The movie of this key in an author's list."""
    return next(movie for movie in author.movies if movie.id == key)


async def test_merge_follows_what_is_loaded(db: AsyncDB) -> None:
    """The session's objects take the place of those given, to the end of cycles; what is the same is no change."""
    await fill(db)
    given = await whole(db)
    async with db.session() as session:
        author = await session.merge(given)
        assert {1, 2} == {movie.id for movie in author.movies}
        assert not {id(movie) for movie in author.movies} & {id(movie) for movie in given.movies}
        assert all(movie in session and movie.author is author for movie in author.movies)
        assert all(cut in session for cut in movie_of(author, 1).cuts)
        assert [] == session.dirty
        assert not session.is_modified(author)
        assert all(movie.author is given for movie in given.movies)
        movie_of(given, 1).title = "merged"
        movie_of(given, 1).cuts[0].name = "cut"
        given.movies.append(Movie(id=9, title="new", author=given))
        assert author is await session.merge(given)
        assert movie_of(author, 9) is not movie_of(given, 9)
        await session.commit()
    assert {1: 1, 2: 1, 3: 2, 9: 1} == await stored(db)
    again = await whole(db)
    assert ("merged", "new") == (movie_of(again, 1).title, movie_of(again, 9).title)
    assert "cut" in {cut.name for cut in movie_of(again, 1).cuts}


async def test_merge_of_changed_relationships(db: AsyncDB) -> None:
    """What was put into relationships, and taken out of lists, outside of the session is so there."""
    await fill(db)
    first, second = await whole(db), await whole(db, 2)
    first.movies.remove(movie_of(first, 1))
    moved = movie_of(first, 2)
    moved.author = second
    first.movies.remove(moved)
    second.movies.append(moved)
    async with db.session() as session:
        one, two = await session.merge_all([first, second])
        assert {1, 2} <= {movie.id for movie in session.dirty if isinstance(movie, Movie)}
        await session.commit()
        assert ([], {2, 3}) == (one.movies, {movie.id for movie in two.movies})
    assert {1: None, 2: 2, 3: 2} == await stored(db)


async def test_merge_of_orphans(db: AsyncDB) -> None:
    """What a list with delete-orphan lost outside of the session is deleted."""
    await fill(db)
    given = await whole(db)
    movie = movie_of(given, 1)
    movie.cuts[:] = [cut for cut in movie.cuts if cut.id == 2]
    async with db.session() as session:
        await session.merge(movie)
        await session.commit()
        assert [2] == [cut.id for cut in await session.scalars(select(Cut))]


async def test_merge_keeps_what_is_not_loaded(db: AsyncDB) -> None:
    """Nothing is read of what the given object did not load, and a new object's empty list says nothing."""
    await fill(db)
    async with db.session() as other:
        given = await other.get_one(Author, 1)
        movie = await other.get_one(Movie, 1)
    async with db.session() as session:
        author = await session.merge(given)
        with pytest.raises(NotLoadedError):
            _ = author.movies
        assert await session.merge(Author(id=1, name="new")) is author
        with pytest.raises(NotLoadedError):
            _ = (await session.merge(movie)).author
        merged = await session.merge(Movie(id=2, author=Author(id=2, name="B")))
        await session.commit()
        assert merged.author is await session.get(Author, 2)
    assert {1: 1, 2: 2, 3: 2} == await stored(db)


async def test_merge_into_loaded_objects(db: AsyncDB) -> None:
    """Objects of the session stay as they are where given ones refer to them; their lists follow."""
    await fill(db)
    given = await whole(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[WHOLE])
        shown = author.movies
        mine = movie_of(author, 1)
        mine.title = "mine"
        new = Movie(id=8, author=author)
        await session.merge(new)
        assert "mine" == mine.title
        await session.commit()
        assert author.movies is shown
        assert {1, 2, 8} == {movie.id for movie in shown}
        await session.merge(given)  # whose list has no movie 8
        await session.commit()
        assert {1, 2} == {movie.id for movie in shown}
    assert {1: 1, 2: 1, 3: 2, 8: None} == await stored(db)


async def test_merge_without_the_cascade(db: AsyncDB) -> None:
    """A relationship whose cascade has no merge stays out of it."""
    await fill(db)
    given = movie_of(await whole(db), 1).cuts[0]
    assert given.movie is not None
    given.movie.title = "lost"
    async with db.session() as session:
        cut = await session.merge(given)
        with pytest.raises(NotLoadedError):
            _ = cut.movie
        await session.commit()
        assert "" == (await session.get_one(Movie, 1)).title


async def test_merge_of_unpickled_graphs(db: AsyncDB) -> None:
    """They keep what they had loaded and what was changed in it; the merged ones are rolled back as any."""
    await fill(db)
    given = await whole(db)
    movie_of(given, 1).title = "changed"
    for again in (pickle.loads(pickle.dumps(given)), copy.deepcopy(given)):
        assert again is not given
        assert again.movies[0].author is again
        assert "changed" == movie_of(again, 1).title
        assert repr(given) == repr(again)
        async with db.session() as session:
            author = await session.merge(again)
            assert "changed" == movie_of(author, 1).title
            again.movies.clear()
            await session.merge(again)
            assert [] == author.movies
            await session.rollback()
            assert {1, 2} == {movie.id for movie in author.movies}
            assert "" == movie_of(author, 1).title
    assert {1: 1, 2: 1, 3: 2} == await stored(db)


async def test_copies(db: AsyncDB) -> None:
    """A copy of an object shows the same objects, and what is written of the one leaves the other alone."""
    await fill(db)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1, options=[selectinload(Movie.author)])
        twin = copy.copy(movie)
        assert twin.author is movie.author
        assert repr(movie) == repr(twin)
        movie.author = await session.get_one(Author, 2)
        await session.commit()
        assert twin.author is not movie.author
        assert 1 == twin.author_id
        movie = await session.merge(twin)
        await session.commit()
        assert movie.author is not None
        assert 1 == movie.author.id
    assert 1 == (await stored(db))[1]


async def test_long_chains(db: AsyncDB) -> None:
    """A merge of a chain longer than Python's stack."""

    class Link(Document, registry=Registry()):
        __collection__ = "states_links"
        id: Mapped[int] = field(primary_key=True)
        next_id: Mapped[int | None] = field(default=None)
        next: Mapped[Link | None] = relationship("Link", key="next_id", cascade="all")

    start = None
    for key in range(3000):
        start = Link(id=key, next=start)
    assert start is not None
    async with db.session() as session:
        await session.merge(start)
        assert 3000 == len(session.new)


async def test_refresh_of_relationships(db: AsyncDB) -> None:
    """Those that are named are read again with their keys, others of a whole object are not loaded afterwards."""
    await fill(db)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1)
        author, other = await session.get_one(Author, 2), await session.get_one(Author, 1)
        movie.title = "mine"
        movie.author_id = 7
        await change(db, "states_movies", 1, author_id=2)
        await session.refresh(movie, ["author"])
        assert movie.author is author
        assert (2, "mine") == (movie.author_id, movie.title)
        await session.refresh_all([author, other], ["movies", "name"])
        assert [2] == [one.id for one in other.movies]
        assert {1, 3} == {one.id for one in author.movies}
        author.movies.clear()
        author.name = "mine"
        await session.refresh(author, ["movies"])
        assert ({1, 3}, "mine") == ({one.id for one in author.movies}, author.name)
        await session.refresh(author)
        with pytest.raises(NotLoadedError, match="selectinload"):
            _ = author.movies
        session.expire(movie)
        await session.refresh(movie, ["author"])
        assert movie.author is author
        with pytest.raises(NotLoadedError):
            _ = movie.title
        await db.parts.data_backend.write(Delete("states_authors", [{"_id": 2}]))
        with pytest.raises(NoResultFound):
            await session.refresh(author, ["movies"])


async def test_expired_relationships(db: AsyncDB) -> None:
    """They are not loaded any more, what was changed in them is lost, and everything else stays."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[WHOLE.selectinload(Movie.author)])
        movie = movie_of(author, 1)
        movie.author = await session.get_one(Author, 2)
        author.movies.clear()
        author.name = "kept"
        session.expire(movie, ["author"])
        session.expire(author, ["movies"])
        assert (Author, 1, "kept") == (type(author), movie.author_id, author.name)
        for touch in (lambda: movie.author, lambda: author.movies):
            with pytest.raises(NotLoadedError, match="selectinload"):
                touch()
        assert "kept" in repr(author)
        assert [author] == session.dirty
        await session.commit()
        await session.get(Author, 1, options=[WHOLE])
        assert {1, 2} == {one.id for one in author.movies}
    assert {1: 1, 2: 1, 3: 2} == await stored(db)


async def test_cascades_of_expire_and_expunge(db: AsyncDB) -> None:
    """With `all` what is loaded is expired and expunged too, else it stays."""
    await fill(db)
    async with db.session() as session:
        options = [WHOLE.selectinload(Movie.cuts), WHOLE.selectinload(Movie.author)]
        author = await session.get_one(Author, 1, options=options)
        movie = movie_of(author, 1)
        cuts = list(movie.cuts)
        session.expire(movie)
        with pytest.raises(NotLoadedError, match="name was not loaded, or has expired"):
            _ = cuts[0].name
        assert "A" == author.name
        await session.get(Movie, 1, options=[selectinload(Movie.cuts), selectinload(Movie.author)])
        cuts[0].name = "lost"
        await session.refresh(movie)
        await session.refresh(movie, ["cuts", "author"])
        assert ["", ""] == [cut.name for cut in cuts]
        session.expunge(movie)
        assert not [one for one in (movie, *cuts) if one in session]
        assert author in session
        assert movie.author is author
        session.expunge(author)
        assert movie_of(author, 2) in session
        movie_of(author, 2).title = "written"
        await session.commit()
        assert "written" == (await session.get_one(Movie, 2)).title


async def test_what_relationships_change(db: AsyncDB) -> None:
    """It is known before the flush: of the object itself, and of those whose keys it sets."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[joinedload(Author.movies).selectinload(Movie.author)])
        other = await session.get_one(Author, 2)
        first, second = movie_of(author, 1), movie_of(author, 2)
        first.author = other
        assert [first] == session.dirty
        assert session.is_modified(first)
        assert not session.is_modified(second)
        assert not session.is_modified(author)
        first.author = author
        assert [] == session.dirty
        author.movies.remove(second)
        assert {id(author), id(second)} == {id(one) for one in session.dirty}
        assert session.is_modified(second)
        author.movies.append(second)
        assert [] == session.dirty
        author.movies.reverse()
        assert [] == session.dirty
        author.movies.append(Movie(id=9))
        assert session.is_modified(author)
        author.movies = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        assert [author] == session.dirty
        with pytest.raises(ValidationError):
            await session.flush()
        await session.rollback()
        assert [] == session.dirty
        first.author = None
        session.delete(first)
        assert [] == session.dirty
        session.add(first)
        assert [first] == session.dirty
        await session.commit()
        assert not session.is_modified(first)
    assert {1: None, 2: 1, 3: 2} == await stored(db)


async def test_abstract_classes(db: AsyncDB) -> None:
    """Their relationships are those of the classes that derive from them."""
    await fill(db)
    for load in (selectinload, joinedload):
        async with db.session() as session:
            movies = await session.scalars(select(Movie).options(load(Base.author)).order_by(Movie.id))
            assert [1, 1, 2] == [movie.author and movie.author.id for movie in movies]
        async with db.session() as session:
            chain = load(Author.movies).selectinload(Base.author)
            author = await session.get_one(Author, 1, options=[chain])
            assert [author, author] == [movie.author for movie in author.movies]
        async with db.session() as session:
            back = await session.get_one(Movie, 3, options=[load(Base.author).selectinload(Author.movies)])
            assert back.author is not None
            assert [back] == back.author.movies


async def test_add_takes_in_what_is_shown(db: AsyncDB) -> None:
    """A stored object comes into a session with what its relationships show; or with nothing, where one cannot."""
    await fill(db)
    async with db.session() as before:
        cuts = selectinload(Author.movies).selectinload(Movie.cuts)
        given = pickle.loads(pickle.dumps(await before.get_one(Author, 1, options=[cuts])))
    async with db.session() as other, db.session() as session:
        held = movie_of(given, 2)
        other.add(held)
        with pytest.raises(SessionError, match="another session"):
            session.add(given)
        assert not any(one in session for one in (given, *given.movies))
        other.expunge(held)
        session.add_all([given])
        assert all(one in session for one in (given, *given.movies, *movie_of(given, 1).cuts))
        movie_of(given, 1).title = "changed"
        given.movies.remove(held)
        await session.commit()
        assert "changed" == await session.scalar(select(Movie.title).where(Movie.id == 1))
    assert {1: 1, 2: None, 3: 2} == await stored(db)


class Watched(list[Any]):
    """A list that counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        self.times += 1
        return super().__iter__()


async def test_lists_that_are_loaded_already(db: AsyncDB) -> None:
    """A query that loads them again goes through none of them for that, unless objects may lack something."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[WHOLE])
        author.movies = watched = Watched(author.movies)

        async def times(statement: Select[Any, Any]) -> int:
            watched.times = 0
            await session.scalars(statement)
            return watched.times

        assert await times(select(Author)) == await times(select(Author).options(WHOLE))
        session.expire(watched[0])
        assert await times(select(Author)) < await times(select(Author).options(WHOLE))
        assert author.movies is watched
        assert 1 == watched[0].author_id


async def test_merge_of_a_key_that_cannot_be(db: AsyncDB) -> None:
    """It is refused before anything is changed."""
    await fill(db)
    async with db.session() as session:
        first = await session.get_one(Movie, 1)
        bad: Any = Movie(id=2, title="changed", author=None)
        bad.author = Author(id=2)
        bad.author_id = object()
        with pytest.raises(ValidationError, match="Movie 2: author_id cannot be stored"):
            await session.merge_all([Movie(id=1, title="changed"), bad])
        assert "" == first.title
        assert [] == session.new


async def test_lists_that_hold_another_class(db: AsyncDB) -> None:
    """The error names the place in the list, and what stands there."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[WHOLE])
        wrong: Any = [*author.movies, Cut(id=7)]
        author.movies = wrong
        with pytest.raises(ValidationError, match=r"Author 1: movies\[2\] is Movie, not Cut\(id=7") as caught:
            await session.flush()
        assert (Author, 1, "movies") == (caught.value.document_class, caught.value.key, caught.value.field)
