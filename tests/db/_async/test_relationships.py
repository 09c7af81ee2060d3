"""Relationships over each kind of DB: loading them, and what flushes make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bson import ObjectId

from superorm import (
    AsyncDB,
    Document,
    Load,
    Mapped,
    NotLoadedError,
    Registry,
    SessionError,
    UnsupportedError,
    ValidationError,
    field,
    func,
    joinedload,
    relationship,
    select,
    selectinload,
    vector,
)

registry = Registry()


class Author(Document, registry=registry):
    __collection__ = "related_authors"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")
    movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")


class Studio(Document, registry=registry):
    __collection__ = "related_studios"
    name: Mapped[str]
    boss_id: Mapped[int | None] = field(default=None)
    boss: Mapped[Author | None] = relationship(Author, key="boss_id")


class Movie(Document, registry=registry):
    __collection__ = "related_movies"
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None, name="a")
    author: Mapped[Author | None] = relationship("Author", key="author_id")
    studio_id: Mapped[ObjectId | None] = field(default=None)
    studio: Mapped[Studio | None] = relationship("Studio", key="studio_id")


class Film(Movie, registry=registry):
    length: Mapped[int] = field(default=0)
    cuts: Mapped[list[Cut]] = relationship(list["Cut"], remote_key="film_id", cascade="all, delete-orphan")


class Cut(Document, registry=registry):
    __collection__ = "related_cuts"
    id: Mapped[int] = field(primary_key=True)
    film_id: Mapped[int]
    film: Mapped[Film | None] = relationship("Film", key="film_id")


class Node(Document, registry=registry):
    __collection__ = "related_nodes"
    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(default=None)
    parent: Mapped[Node | None] = relationship("Node", key="parent_id")
    children: Mapped[list[Node]] = relationship(list["Node"], remote_key="parent_id", cascade="all")


class Shot(Document, registry=registry):
    __collection__ = "related_shots"
    id: Mapped[int] = field(primary_key=True)
    author_id: Mapped[int | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")
    place: Mapped[np.ndarray | None] = vector(2, metric="euclidean")


BOTH = pytest.mark.parametrize("load", [selectinload, joinedload])


async def fill(db: AsyncDB) -> None:
    """Two authors with two movies and one, a movie without, and a studio for the first two movies."""
    async with db.begin() as session:
        studio = Studio(name="S", boss_id=2)
        session.add_all([studio, Author(id=1, name="A"), Author(id=2, name="B"), Author(id=3, name="C")])
        session.add_all([Movie(id=1, author_id=1, studio_id=studio.id), Film(id=2, author_id=1, studio_id=studio.id)])
        session.add_all([Movie(id=3, author_id=2), Movie(id=4)])


async def stored(db: AsyncDB) -> dict[int, int | None]:
    """The authors of the movies, as they are in the database."""
    async with db.session() as session:
        rows = await session.execute(select(Movie.id, Movie.author_id).order_by(Movie.id))
        return {row[0]: row[1] for row in rows}


async def reads(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The reads that are sent from now on."""
    sent: list[Any] = []
    backend: Any = type((await db.open()).data_backend)
    read = backend.read

    async def recorded(self: Any, plan: Any, **keywords: Any) -> Any:
        sent.append(plan)
        return await read(self, plan, **keywords)

    monkeypatch.setattr(backend, "read", recorded)
    return sent


@BOTH
async def test_many_to_one(db: AsyncDB, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object for one author, None without a key, in one more read or none."""
    await fill(db)
    sent = await reads(db, monkeypatch)
    async with db.session() as session:
        statement = select(Movie).options(load(Movie.author)).order_by(Movie.id)
        first, film, third, fourth = (await session.scalars(statement)).all()
        assert (2 if load is selectinload else 1) == len(sent)
        assert first.author is not None
        assert first.author is film.author
        assert "A" == first.author.name
        assert isinstance(film, Film)
        assert (2, None) == (third.author and third.author.id, fourth.author)
        assert first.author is await session.get(Author, 1)
        assert [] == session.dirty
        await session.commit()
        assert "A" == first.author.name


@BOTH
async def test_lists_and_chains(db: AsyncDB, load: Any) -> None:
    """The lists hold the session's objects, and the chain goes on from them."""
    await fill(db)
    async with db.session() as session:
        loading: Load[Author, Author] = load(Author.movies).selectinload(Movie.studio).selectinload(Studio.boss)
        authors = (await session.scalars(select(Author).options(loading).order_by(Author.id))).all()
        assert [[1, 2], [3], []] == [sorted(movie.id for movie in author.movies) for author in authors]
        studios = {movie.studio.name if movie.studio else None for author in authors for movie in author.movies}
        assert {"S", None} == studios
        movie = next(movie for movie in authors[0].movies if movie.id == 1)
        assert movie.studio is not None
        assert movie.studio.boss is authors[1]
        assert movie is await session.get(Movie, 1)


@BOTH
async def test_joined_chains(db: AsyncDB, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level of a joined chain is in the pipeline of the read before it."""
    await fill(db)
    sent = await reads(db, monkeypatch)
    async with db.session() as session:
        statement = select(Author).options(load(Author.movies).joinedload(Movie.studio).joinedload(Studio.boss))
        authors = {author.id: author for author in await session.scalars(statement)}
        assert (2 if load is selectinload else 1) == len(sent)
        (movie,) = [movie for movie in authors[1].movies if movie.id == 1]
        assert movie.studio is not None
        assert movie.studio.boss is authors[2]
        assert [None] == [movie.studio for movie in authors[2].movies]


@BOTH
async def test_subclasses(db: AsyncDB, load: Any) -> None:
    """A relationship of a subclass is loaded where there is one, and a target's other classes are left out."""
    async with db.begin() as session:
        session.add_all([Film(id=1), Movie(id=2), Cut(id=7, film_id=1), Cut(id=8, film_id=2)])
    async with db.session() as session:
        movies = (await session.scalars(select(Movie).options(load(Film.cuts)).order_by(Movie.id))).all()
        assert isinstance(movies[0], Film)
        assert [7] == [cut.id for cut in movies[0].cuts]
        assert not hasattr(movies[1], "cuts")
    async with db.session() as session:
        cuts = (await session.scalars(select(Cut).options(load(Cut.film)).order_by(Cut.id))).all()
        assert [1, None] == [cut.film and cut.film.id for cut in cuts]


@BOTH
async def test_rows_and_streams(db: AsyncDB, load: Any) -> None:
    """Documents in rows and in streams have them too; those of streams are not tracked."""
    await fill(db)
    async with db.session() as session:
        statement = select(Movie, func.add(Movie.id, 10)).options(load(Movie.author)).order_by(Movie.id)
        rows = (await session.execute(statement)).all()
        assert [(1, 11), (1, 12), (2, 13), (None, 14)] == [(row[0].author and row[0].author.id, row[1]) for row in rows]
    async with db.session() as session:
        statement2 = select(Movie).options(load(Movie.author)).order_by(Movie.id)
        found = [movie async for movie in session.stream_scalars(statement2, batch_size=3)]
        assert [1, 1, 2, None] == [movie.author and movie.author.id for movie in found]
        assert found[0].author is found[1].author
        assert found[0].author not in session
        assert found[0] not in session
        rows2 = [row async for row in session.stream(statement2, batch_size=1)]
        assert [1, 1, 2, None] == [row[0].author and row[0].author.id for row in rows2]
        session.add(found[0])
        assert found[0] in session


@BOTH
async def test_get_with_options(db: AsyncDB, load: Any) -> None:
    """Whether the object is in the session already or not."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[load(Author.movies)])
        assert {1, 2} == {movie.id for movie in author.movies}
        movie = await session.get_one(Movie, 3)
        again = await session.get(Movie, 3, options=[load(Movie.author)])
        assert again is movie
        assert movie.author is not None
        assert 2 == movie.author.id
        assert await session.get(Movie, 99, options=[load(Movie.author)]) is None


async def test_what_is_not_loaded(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Touching it raises an error that names the option, and reads nothing."""
    await fill(db)
    async with db.session() as session:
        movie, author = await session.get_one(Movie, 1), await session.get_one(Author, 1)
        alone = await session.get_one(Movie, 4)
        sent = await reads(db, monkeypatch)
        with pytest.raises(NotLoadedError, match=r"selectinload\(Movie.author\)"):
            _ = movie.author
        with pytest.raises(NotLoadedError, match=r"selectinload\(Author.movies\)"):
            author.movies.append(movie)
        with pytest.raises(NotLoadedError, match=r"selectinload\(Movie.studio\)"):
            assert movie.studio is None
        assert alone.author is None
        assert [] == sent


async def test_keys_in_chunks(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many keys take several reads."""
    await fill(db)
    monkeypatch.setattr("superorm.unitofwork.encode._KEY_BYTES", 50)
    sent = await reads(db, monkeypatch)
    async with db.session() as session:
        statement = select(Author).options(selectinload(Author.movies)).order_by(Author.id)
        authors = (await session.scalars(statement)).all()
        assert [2, 1, 0] == [len(author.movies) for author in authors]
        assert 4 == len(sent)


async def test_new_objects(db: AsyncDB) -> None:
    """They begin with an empty list, new ones that they refer to are added, and the keys are set."""
    async with db.session() as session:
        author = Author(id=1)
        assert [] == author.movies
        movie = Movie(id=1, author=author, studio=Studio(name="S", boss=Author(id=2)))
        author.movies.append(Movie(id=2))
        session.add(movie)
        await session.commit()
        assert 1 == movie.author_id
        assert {1, 2} == {one.id for one in author.movies}
        assert movie.studio is not None
        assert (movie.studio.id, 2) == (movie.studio_id, movie.studio.boss_id)
    assert {1: 1, 2: 1} == await stored(db)


async def test_assignments(db: AsyncDB) -> None:
    """Another object or None sets the key; the lists of both sides follow."""
    await fill(db)
    async with db.session() as session:
        both = selectinload(Author.movies).selectinload(Movie.author)
        authors = {one.id: one for one in await session.scalars(select(Author).options(both))}
        movies = {movie.id: movie for author in authors.values() for movie in author.movies}
        movies[1].author = authors[2]
        movies[3].author = None
        movies[2].author_id = 3
        await session.flush()
        assert (2, None, 3) == (movies[1].author_id, movies[3].author_id, movies[2].author_id)
        assert [[], [1], [2]] == [[movie.id for movie in authors[key].movies] for key in (1, 2, 3)]
        with pytest.raises(NotLoadedError):
            _ = movies[2].author
        await session.commit()
    assert {1: 2, 2: 3, 3: None, 4: None} == await stored(db)


async def test_lists_set_keys(db: AsyncDB) -> None:
    """What came to a list, what left it, and what went from one to another."""
    await fill(db)
    async with db.session() as session:
        statement = select(Author).options(selectinload(Author.movies).selectinload(Movie.author))
        authors = {one.id: one for one in await session.scalars(statement)}
        first, second = sorted(authors[1].movies, key=lambda movie: movie.id)
        authors[1].movies.remove(first)
        authors[2].movies.append(first)
        authors[1].movies.remove(second)
        authors[3].movies = [Movie(id=9)]
        await session.commit()
        assert first.author is authors[2]
        assert second.author is None
        assert [] == session.dirty
    assert {1: 2, 2: None, 3: 2, 4: None, 9: 3} == await stored(db)


async def test_contradictions(db: AsyncDB) -> None:
    """Two changes of one key are refused, with both named; one change twice is none."""
    await fill(db)
    async with db.session() as session:
        statement = select(Author).options(selectinload(Author.movies).selectinload(Movie.author))
        authors = {one.id: one for one in await session.scalars(statement)}
        (movie,) = authors[2].movies
        movie.author, movie.author_id = authors[1], 3
        with pytest.raises(ValidationError, match=r"Movie 3: author was set to Author 1, and author_id to 3"):
            await session.flush()
        await session.rollback()
        assert (2, authors[2]) == (movie.author_id, movie.author)
        movie.author = authors[1]
        authors[3].movies.append(movie)
        with pytest.raises(ValidationError, match="added to Author 3: movies, and Movie 3: author was set to Author 1"):
            await session.flush()
        await session.rollback()
        movie.author, movie.author_id = authors[1], 1
        authors[1].movies.append(movie)
        await session.commit()
        assert 3 == len(authors[1].movies)
    assert 1 == (await stored(db))[3]


async def test_refused_values(db: AsyncDB) -> None:
    """What is none of the class, and a list that was not loaded."""
    await fill(db)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1)
        movie.author = Studio(name="S")  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ValidationError, match="author is Author or None, not Studio"):
            await session.flush()
        await session.rollback()
        with pytest.raises(NotLoadedError):
            _ = movie.author
        author = await session.get_one(Author, 1)
        author.movies = []
        with pytest.raises(ValidationError, match="replaced without being loaded"):
            await session.flush()
        await session.rollback()
        session.delete(author)
        movie.author = author
        with pytest.raises(ValidationError, match="was set to Author 1, which is deleted"):
            await session.flush()


async def test_rollback(db: AsyncDB) -> None:
    """Relationships show what they did when last loaded or committed, flushed in between or not."""
    await fill(db)
    async with db.session() as session:
        statement = select(Author).options(selectinload(Author.movies).selectinload(Movie.author))
        authors = {one.id: one for one in await session.scalars(statement)}
        first, second = sorted(authors[1].movies, key=lambda movie: movie.id)
        shown, new = authors[1].movies, Movie(id=9)
        for flush in (False, True):
            first.author = authors[2]
            authors[1].movies[:] = [new]
            second.author_id = 3
            if flush and db.capabilities.transactions:
                await session.flush()
            await session.rollback()
            assert authors[1].movies is shown
            assert {1, 2} == {movie.id for movie in shown}
            assert [3] == [movie.id for movie in authors[2].movies]
            assert (authors[1], authors[1], 1) == (first.author, second.author, second.author_id)
            assert new not in session
            assert [] == session.dirty
        await session.commit()
    assert {1: 1, 2: 1, 3: 2, 4: None} == await stored(db)


async def test_loaded_in_a_transaction_that_is_rolled_back(db: AsyncDB) -> None:
    """What was loaded of it is not loaded afterwards."""
    await fill(db)
    if not db.capabilities.transactions:
        return
    async with db.session() as session:
        author = await session.get_one(Author, 3)
        session.add(Movie(id=9, author_id=3))
        await session.get_one(Author, 3, options=[selectinload(Author.movies)])
        assert [9] == [movie.id for movie in author.movies]
        await session.rollback()
        with pytest.raises(NotLoadedError):
            _ = author.movies


async def test_already_loaded(db: AsyncDB) -> None:
    """What is there, with what was changed, stays as it is."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1)
        author.name = "changed"
        movie = await session.get_one(Movie, 1, options=[joinedload(Movie.author)])
        assert movie.author is author
        assert "changed" == author.name
        movie.author = None
        statement = select(Movie).where(Movie.id == 1).options(selectinload(Movie.author))
        await session.scalars(statement)
        assert movie.author is None
        await session.commit()
    assert (await stored(db))[1] is None


async def test_a_reference_to_nothing(db: AsyncDB) -> None:
    """It is loaded as None, and the key stays."""
    async with db.begin() as session:
        session.add(Movie(id=1, author_id=77))
    async with db.session() as session:
        movie = await session.get_one(Movie, 1, options=[selectinload(Movie.author)])
        assert movie.author is None
        await session.flush()
        assert [] == session.dirty
        assert (77, None) == (movie.author_id, movie.author)


async def test_deleting_a_parent_lets_go_of_its_children(db: AsyncDB) -> None:
    """Without a cascade their keys become None, loaded or not."""
    await fill(db)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1)
        session.delete(await session.get_one(Author, 1))
        await session.commit()
        assert movie.author_id is None
    assert {1: None, 2: None, 3: 2, 4: None} == await stored(db)


async def test_cascades_of_deletes(db: AsyncDB) -> None:
    """Children and their children go too, loaded or not, but those that were taken elsewhere."""
    async with db.begin() as session:
        session.add_all([Node(id=n, parent_id=n // 2 or None) for n in (9, 5, 4, 3, 2, 1)])
    async with db.session() as session:
        node = await session.get_one(Node, 5)
        node.parent_id = 3
        session.delete(await session.get_one(Node, 2))
        await session.commit()
        assert {1, 3, 5} == {one.id for one in await session.scalars(select(Node))}
    async with db.session() as session:
        parent = await session.get_one(Node, 3, options=[selectinload(Node.children)])
        parent.children.append(Node(id=6))
        session.delete(parent)
        await session.commit()
        assert {1} == {one.id for one in await session.scalars(select(Node))}


async def test_orphans(db: AsyncDB) -> None:
    """What leaves the list is deleted, what goes to another is not; new ones are not added after all."""
    async with db.begin() as session:
        session.add_all([Film(id=1), Film(id=2), *[Cut(id=n, film_id=1) for n in (1, 2, 3)]])
    async with db.session() as session:
        films = (await session.scalars(select(Film).options(selectinload(Film.cuts)).order_by(Film.id))).all()
        first, second, third = sorted(films[0].cuts, key=lambda cut: cut.id)
        films[0].cuts.remove(first)
        films[1].cuts.append(second)
        films[0].cuts.remove(second)
        await session.commit()
        assert [third] == films[0].cuts
        assert first not in session
    async with db.session() as session:
        rows = (await session.execute(select(Cut.id, Cut.film_id).order_by(Cut.id))).all()
        assert [(2, 2), (3, 1)] == rows
        session.delete(await session.get_one(Film, 1))
        await session.commit()
        assert [2] == [cut.id for cut in await session.scalars(select(Cut))]


async def test_keys_that_cannot_be_none(db: AsyncDB) -> None:
    """Taking them away is refused, with advice."""

    class Leaf(Document, registry=Registry()):
        __collection__ = "related_leaves"
        id: Mapped[int] = field(primary_key=True)
        tree_id: Mapped[int]

    class Tree(Document, registry=Registry()):
        __collection__ = "related_trees"
        id: Mapped[int] = field(primary_key=True)
        leaves: Mapped[list[Leaf]] = relationship(list[Leaf], remote_key="tree_id")

    async with db.begin() as session:
        session.add_all([Tree(id=1), Leaf(id=5, tree_id=1)])
    async with db.session() as session:
        session.delete(await session.get_one(Tree, 1))
        with pytest.raises(ValidationError, match="Leaf 5: tree_id cannot be None"):
            await session.commit()


async def test_order_of_writes(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Referred classes and objects are inserted first and deleted last."""
    sent: list[Any] = []
    backend: Any = type((await db.open()).data_backend)
    write = backend.write

    async def recorded(self: Any, plan: Any, **keywords: Any) -> Any:
        sent.append(plan)
        return await write(self, plan, **keywords)

    monkeypatch.setattr(backend, "write", recorded)
    async with db.session() as session:
        session.add_all([Cut(id=1, film_id=1), Film(id=1, author_id=1), Author(id=1)])
        session.add_all([Node(id=1, parent_id=2), Node(id=2, parent_id=3), Node(id=3)])
        await session.commit()
        names = [plan.collection for plan in sent if plan.collection.startswith("related_")]
        assert ["related_authors", "related_movies", "related_cuts", "related_nodes"] == names
        assert [3, 2, 1] == [
            document["_id"] for plan in sent if "nodes" in plan.collection for document in plan.documents
        ]
        sent.clear()
        for cls, key in ((Author, 1), (Film, 1), (Cut, 1), (Node, 3), (Node, 1), (Node, 2)):
            session.delete(await session.get_one(cls, key))
        await session.commit()
        deletes = [plan for plan in sent if hasattr(plan, "filters")]
        names = [plan.collection for plan in deletes]
        assert ["related_nodes", "related_cuts", "related_movies", "related_authors"] == names
        assert [1, 2, 3] == [filter["_id"] for filter in deletes[0].filters]


async def test_vector_searches(db: AsyncDB) -> None:
    """The other documents are read after the search; there is nothing to join with."""
    async with db.begin() as session:
        session.add_all([Author(id=1), Shot(id=1, author_id=1, place=np.zeros(2)), Shot(id=2, place=np.array([3, 4]))])
    async with db.session() as session:
        statement = select(Shot).like([0, 0], k=2)
        found = (await session.scalars(statement.options(selectinload(Shot.author)))).all()
        assert [1, None] == [shot.author and shot.author.id for shot in found]
        with pytest.raises(UnsupportedError, match=r"selectinload\(Shot.author\)"):
            await session.scalars(statement.options(joinedload(Shot.author)))


async def test_expired_objects(db: AsyncDB) -> None:
    """Their relationships are not loaded any more."""
    await fill(db)
    async with db.session() as session:
        movie = await session.get_one(Movie, 1, options=[selectinload(Movie.author)])
        session.expire(movie)
        with pytest.raises(NotLoadedError):
            _ = movie.author
        await session.refresh(movie)
        with pytest.raises(NotLoadedError, match="selectinload"):
            _ = movie.author


@pytest.mark.parametrize("attributes", [None, ["author_id"]])
async def test_lists_of_expired_objects(db: AsyncDB, attributes: list[str] | None) -> None:
    """One whose key has expired stays in its list until it is taken out or given another key; both are written."""
    await fill(db)
    statement = select(Author).options(selectinload(Author.movies)).order_by(Author.id)
    async with db.session() as session:
        first, second, third = (await session.scalars(statement)).all()
        one, two = sorted(first.movies, key=lambda movie: movie.id)
        for movie in (one, two):
            session.expire(movie, attributes)
        first.movies.append(Movie(id=5))
        await session.flush()
        assert [1, 2, 5] == sorted(vars(movie)["id"] for movie in first.movies)
        first.movies.remove(one)
        two.author_id = 2
        await session.flush()
        assert ([5], [2, 3]) == ([movie.id for movie in first.movies], sorted(movie.id for movie in second.movies))
        session.expire(two, attributes)
        two.author_id = 3
        third.movies.append(two)
        await session.commit()
        two.author_id = 1
        second.movies.append(two)
        with pytest.raises(ValidationError, match="change one of them only"):
            await session.commit()
    assert {1: None, 2: 3, 3: 2, 4: None, 5: 1} == await stored(db)


@BOTH
@pytest.mark.parametrize("attributes", [None, ["author_id"]])
async def test_chains_below_expired_objects(db: AsyncDB, load: Any, attributes: list[str] | None) -> None:
    """One that has expired is read again for the sake of a chain that goes on from a list which was loaded before."""
    await fill(db)
    async with db.session() as session:
        author = await session.get_one(Author, 1, options=[selectinload(Author.movies)])
        first, second = sorted(author.movies, key=lambda movie: movie.id)
        session.expire(first, attributes)
        chain = selectinload(Author.movies)
        assert author is await session.get_one(Author, 1, options=[getattr(chain, load.__name__)(Movie.author)])
        assert (author, author, 1) == (first.author, second.author, first.author_id)
        assert {id(first), id(second)} == set(map(id, author.movies))


async def test_expired_orphans(db: AsyncDB) -> None:
    """What leaves a list is deleted, also where its key has expired."""
    async with db.begin() as session:
        session.add_all([Film(id=1), *[Cut(id=n, film_id=1) for n in (1, 2)]])
    async with db.session() as session:
        film = await session.get_one(Film, 1, options=[selectinload(Film.cuts)])
        (gone,) = [cut for cut in film.cuts if cut.id == 1]
        session.expire(gone)
        film.cuts.remove(gone)
        await session.commit()
        assert [2] == [cut.id for cut in await session.scalars(select(Cut))]


async def test_equal_objects(db: AsyncDB) -> None:
    """Lists are told apart by their objects, not by what these take for equal."""

    class Page(Document, registry=Registry()):
        __collection__ = "related_pages"
        id: Mapped[int] = field(primary_key=True)
        text: Mapped[str] = field(default="")
        book_id: Mapped[int | None] = field(default=None)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Page) and self.text == other.text

        __hash__ = Document.__hash__

    class Book(Document, registry=Registry()):
        __collection__ = "related_books"
        id: Mapped[int] = field(primary_key=True)
        pages: Mapped[list[Page]] = relationship(list[Page], remote_key="book_id")

    async with db.begin() as session:
        session.add_all([Book(id=1), Page(id=1, book_id=1), Page(id=2)])
    async with db.session() as session:
        book = await session.get_one(Book, 1, options=[selectinload(Book.pages)])
        book.pages[0] = await session.get_one(Page, 2)
        await session.commit()
    async with db.session() as session:
        rows = (await session.execute(select(Page.id, Page.book_id).order_by(Page.id))).all()
        assert [(1, None), (2, 1)] == rows


async def test_bulk_inserts(db: AsyncDB) -> None:
    """They write what new objects refer to, and nothing else."""
    await fill(db)
    async with db.session() as session:
        await session.bulk_insert([Movie(id=7, author=Author(id=7)), Author(id=8, movies=[Movie(id=8)])])
        await session.commit()
        assert 8 not in {author.id for author in session.new}
    async with db.session() as session:
        movie = await session.get_one(Movie, 3)
        with pytest.raises(SessionError, match="Movie 3 is stored"):
            await session.bulk_insert([Author(id=9, movies=[movie])])
    assert {1: 1, 2: 1, 3: 2, 4: None, 7: 7, 8: 8} == await stored(db)
