"""Statements that write, over every backend, checked by reading with the backend itself."""

from __future__ import annotations

import pickle
from enum import Enum
from typing import Any

import numpy as np
import pytest
from bson import Code

from superorm import (
    AsyncDB,
    Document,
    DuplicateKeyError,
    Embedded,
    Index,
    Mapped,
    Model,
    PendingRollbackError,
    Registry,
    StatementError,
    UnsupportedError,
    ValidationError,
    WriteError,
    delete,
    field,
    func,
    insert,
    select,
    update,
    vector,
)
from superorm.compile.plan import Find
from tests.db.letters import Letters

registry = Registry()


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Imdb(Embedded):
    rating: Mapped[float] = field(default=0.0)
    votes: Mapped[int] = field(default=0)


def positive(instance: object, attribute: Any, value: int) -> None:
    if value < 0:
        raise ValueError("must not be negative")


class Film(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str]
    year: Mapped[int] = field(default=0, validator=positive)
    length: Mapped[int | None] = field(default=None)
    genres: Mapped[list[str]] = field(factory=list)
    plot: Mapped[str] = field(default="", name="p")
    mood: Mapped[Mood] = field(default=Mood.CALM)
    imdb: Mapped[Imdb | None] = field(default=None)
    meta: Mapped[dict[str, Any] | None] = field(default=None)
    slug: Mapped[str | None] = field(default=None, unique=True)


class Part(Embedded):
    n: Mapped[int] = field(default=0)
    ids: Mapped[set[int]] = field(factory=set)
    counts: Mapped[dict[str, int]] = field(factory=dict)


class Shelf(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0, name="nn")
    numbers: Mapped[list[int]] = field(factory=list)
    ids: Mapped[set[int]] = field(factory=set)
    other: Mapped[frozenset[int] | None] = field(default=None)
    parts: Mapped[list[Part]] = field(factory=list)
    table: Mapped[list[list[int]]] = field(factory=list)
    any: Mapped[Any] = field(default=None)


class Named(Document, registry=registry):
    __extra__ = "forbid"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(name="nm")
    ids: Mapped[set[int]] = field(factory=set)


class Pair(Document, registry=registry):
    __indexes__ = (Index("one", "two"),)
    id: Mapped[Any] = field(primary_key=True)
    one: Mapped[list[int] | None] = field(default=None)
    two: Mapped[list[int] | None] = field(default=None)


class Counted(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    name: Mapped[str] = field(default="?")
    version: Mapped[int] = field(version=True)


class Dish(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None)
    kcal: Mapped[int] = field(default=0)
    vec: Mapped[np.ndarray | None] = vector(26, source="text", model="letters")


class Animal(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="")


class Dog(Animal, registry=registry):
    tricks: Mapped[int] = field(default=0)
    face: Mapped[np.ndarray | None] = vector(26, source="name", model="letters")


async def stored(db: AsyncDB, collection: str = "film") -> list[dict[str, Any]]:
    """The documents as the backend holds them."""
    return await db.parts.data_backend.read(Find(collection, sort=[("_id", 1)]))


async def fill(db: AsyncDB) -> None:
    async with db.begin() as session:
        session.add_all(
            [
                Film(id=1, title="Heat", year=1995, genres=["Crime"], imdb=Imdb(rating=8.3, votes=7), length=170),
                Film(id=2, title="Alien", year=1979, plot="space"),
                Film(id=3, title="Metropolis", year=1927, mood=Mood.WILD),
            ]
        )


async def commit(db: AsyncDB, statement: Any) -> Any:
    async with db.begin() as session:
        return await session.execute(statement)


# insert


async def test_insert_dicts_and_objects(db: AsyncDB) -> None:
    """Dicts become objects, so defaults apply; objects are stored as they are; all in order."""
    film = Film(id=7, title="Seven", mood=Mood.WILD)
    done = await commit(
        db, insert(Film).values([{"id": 1, "title": "Heat", "plot": "x"}, film]).values(id=2, title="$t")
    )
    assert [1, 7, 2] == done.inserted_keys
    assert 3 == done.rowcount
    found = await stored(db)
    assert [(1, "Heat", "x", "calm"), (2, "$t", "", "calm"), (7, "Seven", "", "wild")] == [
        (one["_id"], one["title"], one["p"], one["mood"]) for one in found
    ]
    assert [] == found[0]["genres"]


async def test_insert_checks_first(db: AsyncDB) -> None:
    """Unknown, missing and wrong values are named before anything is written."""
    with pytest.raises(StatementError, match="Film has no 'yaer'; there are id, title, year"):
        insert(Film).values(id=1, title="x", yaer=3)
    with pytest.raises(StatementError, match="title is an expression"):
        insert(Film).values(id=1, title=Film.plot)
    async with db.session() as session:
        with pytest.raises(ValidationError, match="title"):
            await session.execute(insert(Film).values(id=1))
        with pytest.raises(ValidationError, match="must not be negative"):
            await session.execute(insert(Film).values(id=1, title="x", year=-1))
        with pytest.raises(ValidationError, match="meta"):
            await session.execute(
                insert(Film).values([{"id": 1, "title": "x"}, {"id": 2, "title": "y", "meta": {"$inc": 1}}])
            )
    assert [] == await stored(db)


async def test_insert_of_a_duplicate_key(db: AsyncDB) -> None:
    """The error names class and key, and the session has to be rolled back."""
    await fill(db)
    async with db.session() as session:
        with pytest.raises(DuplicateKeyError, match="Film") as caught:
            await session.execute(insert(Film).values(id=2, title="again"))
        assert (Film, 2) == (caught.value.document_class, caught.value.key)
        with pytest.raises(PendingRollbackError):
            await session.execute(select(Film))
        await session.rollback()
        assert 3 == len((await session.scalars(select(Film))).all())


async def test_insert_returning(db: AsyncDB) -> None:
    """Rows in the order of the values; objects are those of the session."""
    async with db.begin() as session:
        films = insert(Film).values([{"id": 3, "title": "c"}, {"id": 1, "title": "a"}])
        rows = (await session.execute(films.returning(Film.id, Film.title, Film.genres))).all()
        assert [(3, "c", []), (1, "a", [])] == rows
        assert ("c", 3) == (rows[0].title, rows[0].id)  # type: ignore[attr-defined]
        one = (await session.scalars(insert(Film).values(id=5, title="e").returning(Film))).one()
        assert one is await session.get(Film, 5)


async def test_insert_is_not_committed_by_itself(db: AsyncDB, real: bool) -> None:
    """In a transaction a rollback undoes it."""
    async with db.session() as session:
        await session.execute(insert(Film).values(id=1, title="x"))
    assert (0 if real else 1) == len(await stored(db))


async def test_upsert_by_key(db: AsyncDB) -> None:
    """What is there gets the given values only, what is new the defaults too."""
    await fill(db)
    rows: list[dict[str, Any]] = [{"id": 2, "title": "Aliens"}, {"id": 9, "title": "New"}, {"id": 9, "title": "Newer"}]
    done = await commit(db, insert(Film).values(rows).upsert())
    assert ([9], 2, 3) == (done.upserted_keys, done.matched, done.rowcount)
    by_key = {one["_id"]: one for one in await stored(db)}
    assert ("Aliens", 1979, "space") == (by_key[2]["title"], by_key[2]["year"], by_key[2]["p"])
    assert ("Newer", 0, [], "calm") == (by_key[9]["title"], by_key[9]["year"], by_key[9]["genres"], by_key[9]["mood"])


async def test_upsert_by_other_fields(db: AsyncDB) -> None:
    """Fields identify the documents; the session's objects and the returned rows show what is there."""
    async with db.begin() as session:
        session.add(Film(id=1, title="Heat", slug="heat", year=1995))
    async with db.begin() as session:
        heat = await session.get_one(Film, 1)
        rows = [{"id": 8, "title": "New", "slug": "new"}, {"id": 5, "title": "Heat!", "slug": "heat"}]
        statement = insert(Film).values(rows).upsert(Film.slug).returning(Film.id, Film.title)
        assert [(8, "New"), (1, "Heat!")] == (await session.execute(statement)).all()
        assert ("Heat!", 1995) == (heat.title, heat.year)
    assert [(1, "Heat!", 1995), (8, "New", 0)] == [(one["_id"], one["title"], one["year"]) for one in await stored(db)]
    with pytest.raises(ValidationError, match="slug to identify"):
        await commit(db, insert(Film).values(id=1, title="x").upsert(Film.slug))


async def test_upsert_counts_versions(db: AsyncDB) -> None:
    """New documents begin at 1, others are counted on."""
    for expected in 1, 2:
        await commit(db, insert(Counted).values(id="a", n=5).upsert())
        (found,) = await stored(db, "counted")
        assert {"_id": "a", "n": 5, "name": "?", "version": expected} == found


async def test_bulk_insert(db: AsyncDB) -> None:
    """The objects are stored and not tracked."""
    async with db.session() as session:
        films = [Film(id=n, title=str(n)) for n in range(50)]
        done = await session.bulk_insert(films)
        assert list(range(50)) == done.inserted_keys
        assert films[0] not in session
        await session.commit()
    assert 50 == len(await stored(db))


async def test_large_inserts(db: AsyncDB, real: bool) -> None:
    """What does not fit into one message is sent in several, as the first write of a transaction and later."""
    if not real:
        return
    async with db.begin() as session:
        for start in 0, 40:
            await session.bulk_insert([Film(id=start + n, title="x" * 2**20) for n in range(40)])
    async with db.session() as session:
        assert 80 == await session.count(select(Film))


@pytest.mark.parametrize("title", ["\ud800", "x" * 2**24])
async def test_a_document_that_cannot_be_stored(db: AsyncDB, title: str) -> None:
    """It is named, nothing is stored, and after a rollback the session goes on."""
    async with db.session() as session:
        with pytest.raises(ValidationError, match="title") as caught:
            await session.bulk_insert([Film(id=1, title="a"), Film(id=2, title=title)])
        assert 2 == caught.value.key
        await session.rollback()
        assert [] == await stored(db)
        await session.bulk_insert([Film(id=1, title="a")])
        await session.commit()
    assert 1 == len(await stored(db))


@pytest.mark.parametrize("name", ["\ud800", "x" * 2**24])
async def test_a_scalar_that_cannot_be_stored(db: AsyncDB, name: str) -> None:
    """The same where all fields are scalars, also behind so many that not each is measured."""
    async with db.session() as session:
        for count in 1, 100:
            wrong = Counted(id="wrong", name=name)
            with pytest.raises(ValidationError, match="Counted: document 'wrong', field 'name'") as caught:
                await session.bulk_insert([*(Counted(id=str(n)) for n in range(count)), wrong])
            assert (Counted, "wrong", "name") == (caught.value.document_class, caught.value.key, caught.value.field)
            await session.rollback()
        assert [] == await stored(db, "counted")
        await session.execute(insert(Counted).values([Counted(id="a"), Counted(id="b")]))
        await session.commit()
    assert ["a", "b"] == [one["_id"] for one in await stored(db, "counted")]


async def test_a_document_that_nests_too_deep(db: AsyncDB) -> None:
    """A document of 100 levels is stored, one of more refused; a server would take it."""
    meta: dict[str, Any] = {}
    for _ in range(99):
        meta = {"a": meta}
    async with db.session() as session:
        await session.bulk_insert([Film(id=1, title="x", meta=meta)])
        await session.commit()
        with pytest.raises(ValidationError, match="100 levels"):
            await session.bulk_insert([Film(id=2, title="x"), Film(id=3, title="x", meta={"a": meta})])
    assert [1] == [one["_id"] for one in await stored(db)]


# update


async def test_update_literals(db: AsyncDB) -> None:
    """Values are stored as the fields store them, in the documents that match."""
    await fill(db)
    done = await commit(db, update(Film).where(Film.year < 1990).values(year=3, plot="$title", mood=Mood.WILD))
    assert (2, 2, 2) == (done.matched, done.modified, done.rowcount)
    found = await stored(db)
    assert [1995, 3, 3] == [one["year"] for one in found]
    assert ["", "$title", "$title"] == [one["p"] for one in found]
    assert ["calm", "wild", "wild"] == [one["mood"] for one in found]


async def test_update_expressions(db: AsyncDB) -> None:
    """Expressions see the document as it was; arithmetic on null gives null."""
    await fill(db)
    statement = (
        update(Film).all().set(Film.year.to(Film.year + 1), Film.length.to(Film.year - 1900), Film.title.to("$p"))
    )
    await commit(db, statement)
    found = await stored(db)
    assert [(1996, 95), (1980, 79), (1928, 27)] == [(one["year"], one["length"]) for one in found]
    assert {"$p"} == {one["title"] for one in found}
    await commit(db, update(Film).where(Film.id == 2).values(length=None))
    await commit(db, update(Film).all().set(Film.length.inc(5)))
    assert [100, None, 32] == [one["length"] for one in await stored(db)]


async def test_update_of_parts_and_lists(db: AsyncDB, real: bool) -> None:
    """Lists, embedded documents and dicts, in one statement with an expression and without."""
    await fill(db)
    changes = [Film.genres.push("x", "$y"), Film.meta.to({"k": "$title"})]
    await commit(db, update(Film).all().set(*changes))
    await commit(db, update(Film).where(Film.imdb != None).set(Film.imdb.votes.to(9), Film.genres.pull("x")))  # noqa: E711
    found = await stored(db)
    assert [["Crime", "$y"], ["x", "$y"], ["x", "$y"]] == [one["genres"] for one in found]
    assert {"rating": 8.3, "votes": 9} == found[0]["imdb"]
    assert {"k": "$title"} == found[0]["meta"]
    await commit(db, update(Film).where(Film.id == 1).set(Film.genres[0].to("first"), Film.meta["k"].to(3)))
    assert (["first", "$y"], {"k": 3}) == ((found := await stored(db))[0]["genres"], found[0]["meta"])
    mixed = update(Film).where(Film.id == 1).set(Film.year.inc(1), Film.genres.push("z"), Film.imdb.votes.inc(1))
    if not real:
        with pytest.raises(UnsupportedError, match="mongomock"):
            await commit(db, mixed)
        return
    await commit(db, mixed)
    (heat, *_) = await stored(db)
    assert (1996, ["first", "$y", "z"], 10) == (heat["year"], heat["genres"], heat["imdb"]["votes"])


async def shelves(db: AsyncDB) -> None:
    async with db.begin() as session:
        parts = [Part(n=1, ids={1, 5}), Part(n=2)]
        session.add(Shelf(id=1, n=7, numbers=[1, 2, 3], ids={4}, parts=parts, table=[[1, 2], [3]]))
        session.add(Shelf(id=2, numbers=[7]))


async def test_elements_by_position_with_expressions(db: AsyncDB) -> None:
    """They see the document as it was; documents without the elements stay as they are."""
    await shelves(db)
    (_, short) = await stored(db, "shelf")
    assert 1 == (await commit(db, update(Shelf).all().set(Shelf.numbers[1].inc(5)))).matched
    changes = [Shelf.numbers[2].to(Shelf.numbers[0] + Shelf.n), Shelf.numbers[0].to(100), Shelf.n.inc(1)]
    async with db.begin() as session:
        shelf = await session.get_one(Shelf, 1)
        assert 1 == (await session.execute(update(Shelf).all().set(*changes))).matched
        assert ([100, 7, 8], 8) == (shelf.numbers, shelf.n)
    assert [([100, 7, 8], 8), ([7], 0)] == [(one["numbers"], one["nn"]) for one in await stored(db, "shelf")]
    with pytest.raises(WriteError, match="Shelf"):
        await commit(db, update(Shelf).all().set(Shelf.numbers[0].inc(2**63 - 1)))
    assert short == (await stored(db, "shelf"))[1]


async def test_below_elements_with_expressions(db: AsyncDB, real: bool) -> None:
    """Parts of elements, elements of elements, and keys of dicts that are numbers."""
    await shelves(db)
    changes = [
        Shelf.parts[1].n.inc(3),
        Shelf.parts[0].n.to(Shelf.n + 1),
        Shelf.parts[0].ids.add_to_set(2),
        Shelf.parts[1].counts["1"].to(Shelf.n),
        Shelf.table[0][1].inc(1),
        Shelf.table[1].push(9),
    ]
    if not real:
        with pytest.raises(UnsupportedError, match="mongomock has no"):
            await commit(db, update(Shelf).all().set(*changes))
        return
    assert 1 == (await commit(db, update(Shelf).all().set(*changes))).matched
    first, second = await stored(db, "shelf")
    parts = [{"n": 8, "ids": [1, 2, 5], "counts": {}}, {"n": 5, "ids": [], "counts": {"1": 7}}]
    assert (parts, [[1, 3], [3, 9]]) == (first["parts"], first["table"])
    assert ([], []) == (second["parts"], second["table"])
    await commit(db, update(Shelf).all().set(Shelf.parts[0].n.unset(), Shelf.parts[1].ids.pull(1), Shelf.n.inc(1)))
    first, second = await stored(db, "shelf")
    assert [{"ids": [1, 2, 5], "counts": {}}, parts[1]] == first["parts"]
    assert (8, 1, [], [7]) == (first["nn"], second["nn"], second["parts"], second["numbers"])
    with pytest.raises(StatementError, match=r"^any is changed as a list and as a document; use two statements"):
        await commit(db, update(Shelf).all().set(Shelf.any[0].to(1), Shelf.any["x"].to(Shelf.n)))


async def test_lists_into_sets(db: AsyncDB, real: bool) -> None:
    """A list that an expression gives to a set is stored as one, each value once and in order; sets take no push."""
    await shelves(db)
    with pytest.raises(StatementError, match=r"Shelf\.ids cannot be assigned: .* use add_to_set"):
        await commit(db, update(Shelf).all().set(Shelf.ids.push(1)))  # type: ignore[misc]
    await commit(db, update(Shelf).where(Shelf.id == 1).set(Shelf.numbers.to([5, 5, 3]), Shelf.ids.to({9, 8})))
    await commit(db, update(Shelf).all().set(Shelf.other.to(Shelf.ids)))  # type: ignore[arg-type]
    assert [[8, 9], []] == [one["other"] for one in await stored(db, "shelf")]
    statement = (
        update(Shelf)
        .all()
        .set(
            Shelf.ids.to(Shelf.numbers),  # type: ignore[arg-type]
            Shelf.other.to(func.concat_arrays(Shelf.ids, [7, 9])),  # type: ignore[arg-type]
        )
    )
    if not real:
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$reduce"):
            await commit(db, statement)
        return
    await commit(db, statement)
    found = await stored(db, "shelf")
    assert [([3, 5], [7, 8, 9]), ([7], [7, 9])] == [(one["ids"], one["other"]) for one in found]
    async with db.session() as session:
        shelf = await session.get_one(Shelf, 1)
        assert [1] == (await session.scalars(select(Shelf.id).where(Shelf.ids == shelf.ids))).all()


async def test_below_null_is_an_error(db: AsyncDB) -> None:
    """An embedded document that is null is not made one silently, in either form."""
    await fill(db)
    with pytest.raises(WriteError, match="Film"):
        await commit(db, update(Film).where(Film.id == 2).set(Film.imdb.votes.to(1)))
    with pytest.raises((WriteError, UnsupportedError)):
        await commit(db, update(Film).where(Film.id == 2).set(Film.imdb.votes.to(1), Film.year.inc(1)))
    found = await stored(db)
    assert (None, 1979) == (found[1]["imdb"], found[1]["year"])


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: update(Film).values(year=3), StatementError, r"has no where\(\); add .all\(\)"),
    (lambda: update(Film).where(Film.id == 1), StatementError, "changes nothing"),
    (lambda: update(Film).all().values(id=3), StatementError, "the key of a document cannot change"),
    (lambda: update(Counted).all().values(version=3), StatementError, "counts the version itself"),
    (lambda: update(Dish).all().values(vec=None), StatementError, "it is computed; change text"),
    (lambda: update(Film).all().values(nope=3), StatementError, "Film has no 'nope'; there are id, title"),
    (lambda: update(Film).all().values(length="3"), ValidationError, "Film.length cannot be stored: expected int"),
    (lambda: update(Film).all().values(year=-3), ValidationError, "must not be negative"),
    (lambda: update(Film).all().set(Film.genres.push(3)), ValidationError, "element of Film.genres"),  # type: ignore[arg-type]
    (lambda: update(Film).all().set(Film.imdb.rating.to("x")), ValidationError, "Film.imdb.rating"),
    (lambda: update(Film).all().values(meta={"$inc": 1}), ValidationError, r"\$inc"),
    (lambda: update(Film).all().values(imdb={"$inc": 1}), ValidationError, "Film.imdb"),
    (lambda: update(Film).all().values(title={"$ne": None}), ValidationError, "Film.title"),
    (lambda: update(Film).all().values(title="\ud800"), ValidationError, "Film.title"),
    (lambda: update(Film).all().values(year=2**63), ValidationError, "Film.year"),
    (lambda: update(Film).all().set(Film.meta["a"].to({"$x": 1})), ValidationError, r"\$x"),
    (lambda: update(Film).all().set(Film.imdb.to(None), Film.imdb.votes.to(1)), StatementError, "changed twice"),
    (lambda: update(Film).all().set(Film.year.to(1), Film.year.inc(1)), StatementError, "changed twice"),
    (lambda: update(Film).all().set(Counted.n.to(1)), StatementError, "Film"),  # type: ignore[arg-type]
    (lambda: update(Film).where(Film.id == 1).all().values(year=1), StatementError, "both where"),
    (lambda: delete(Film), StatementError, r"has no where\(\); add .all\(\)"),
    (lambda: delete(Film).all().returning(func.count()), StatementError, "over several"),
]


async def test_refusals(db: AsyncDB) -> None:
    """What cannot be is refused before anything is sent, and the session goes on."""
    await fill(db)
    before = await stored(db)
    async with db.session() as session:
        for make, error, match in REFUSED:
            with pytest.raises(error, match=match):
                await session.execute(make())
        assert before == await stored(db)
        assert 3 == len((await session.scalars(select(Film))).all())


async def test_update_shows_in_the_sessions_objects(db: AsyncDB, real: bool) -> None:
    """Objects of documents that match show the new values, the others theirs; a rollback takes them back."""
    await fill(db)
    async with db.session() as session:
        films = (await session.scalars(select(Film).order_by(Film.id))).all()
        assert [] == films[1].genres
        await session.execute(update(Film).where(Film.year < 1990).values(year=1, genres=["g"]))
        assert [1995, 1, 1] == [film.year for film in films]
        assert [["Crime"], ["g"], ["g"]] == [film.genres for film in films]
        await session.rollback()
        if real:
            assert [1995, 1979, 1927] == [film.year for film in films]
            assert [] == films[1].genres
    if real:
        assert [1995, 1979, 1927] == [one["year"] for one in await stored(db)]


async def test_changes_are_flushed_first_or_kept(db: AsyncDB, real: bool) -> None:
    """In a transaction a change is flushed first; else it stays in the object until the commit."""
    await fill(db)
    async with db.session() as session:
        heat = await session.get_one(Film, 1)
        heat.title, heat.year = "Heat!", 1
        done = await session.execute(update(Film).where(Film.year == 1).values(plot="new"))
        assert (1 if real else 0) == done.matched
        await session.execute(update(Film).where(Film.id == 1).values(length=5, title="other"))
        assert ("other" if real else "Heat!", 5) == (heat.title, heat.length)
        await session.commit()
    (found, *_) = await stored(db)
    assert (heat.title, heat.year, 5) == (found["title"], found["year"], found["length"])


async def test_update_returning(db: AsyncDB) -> None:
    """The rows are those of the documents after the update."""
    await fill(db)
    async with db.begin() as session:
        statement = update(Film).where(Film.year > 1950).set(Film.year.inc(1)).returning(Film.id, Film.year)
        assert {(1, 1996), (2, 1980)} == set((await session.execute(statement)).all())
        films = (await session.scalars(update(Film).where(Film.id == 3).values(title="M").returning(Film))).all()
        assert [("M", 3)] == [(film.title, film.id) for film in films]
        nothing = update(Film).where(Film.id == 99).values(year=1).returning(Film)
        assert [] == (await session.execute(nothing)).all()


async def test_update_counts_versions(db: AsyncDB) -> None:
    """A version goes on by one, from a missing one as from 0, in both forms."""
    async with db.begin() as session:
        session.add_all([Counted(id="a"), Counted(id="b")])
    backend = db.parts.data_backend
    from superorm.unitofwork.writes import Update, UpdateOp

    await backend.write(Update("counted", [UpdateOp(q={"_id": "b"}, u={"$unset": {"version": ""}})]))
    async with db.begin() as session:
        a = await session.get_one(Counted, "a")
        await session.execute(update(Counted).all().values(name="x"))
        assert (2, "x") == (a.version, a.name)
        a.n = 7
    assert [3, 1] == [one["version"] for one in await stored(db, "counted")]
    await commit(db, update(Counted).all().set(Counted.n.inc(1)))
    assert [(4, 8), (2, 1)] == [(one["version"], one["n"]) for one in await stored(db, "counted")]


@pytest.mark.parametrize("computes", [False, True])
async def test_update_upsert(db: AsyncDB, computes: bool) -> None:
    """A document is made of the conditions, the defaults and the changes; computed ones see the defaults."""
    change = Counted.n.inc(2) if computes else Counted.n.to(2)
    statement = update(Counted).where(Counted.id == "k").set(change).upsert()
    first = await commit(db, statement)
    assert (0, ["k"]) == (first.matched, first.upserted_keys)
    assert [{"_id": "k", "n": 2, "name": "?", "version": 1}] == await stored(db, "counted")
    second = await commit(db, statement)
    assert (1, []) == (second.matched, list(second.upserted_keys))
    expected = {"_id": "k", "n": 4 if computes else 2, "name": "?", "version": 2}
    assert [expected] == await stored(db, "counted")
    with pytest.raises(StatementError, match="needs a value for title"):
        await commit(db, update(Film).where(Film.id == 4).values(year=3).upsert())


@pytest.mark.parametrize("computes", [False, True])
async def test_upsert_with_several_conditions_on_a_field(db: AsyncDB, computes: bool) -> None:
    """The new document has the value that one of them says with ``==``, and meets them all."""
    where = Counted.id == "k", Counted.n < 5, Counted.n < 7, Counted.n == 3, Counted.n > 0
    change = Counted.name.to(func.concat("a", "b") if computes else "ab")
    for _ in range(2):
        await commit(db, update(Counted).where(*where).set(change).upsert())
    assert [{"_id": "k", "n": 3, "name": "ab", "version": 2}] == await stored(db, "counted")


async def test_add_to_set_takes_a_value_that_is_given_twice_once(db: AsyncDB) -> None:
    """As often as it is given, and whether the list holds others or not."""
    async with db.begin() as session:
        session.add_all([Film(id=1, title="a", genres=["x"]), Film(id=2, title="b")])
    await commit(db, update(Film).all().set(Film.genres.add_to_set("y", "x", "y")))
    assert [["x", "y"], ["y", "x"]] == [one["genres"] for one in await stored(db)]


# delete


async def test_delete(db: AsyncDB, real: bool) -> None:
    """The documents go, their objects leave the session; a rollback takes them back."""
    await fill(db)
    async with db.session() as session:
        heat, alien = await session.get_one(Film, 1), await session.get_one(Film, 2)
        done = await session.execute(delete(Film).where(Film.year < 1990))
        assert (2, 2) == (done.matched, done.rowcount)
        assert alien not in session
        assert heat in session
        assert await session.get(Film, 2) is None
        await session.rollback()
        if real:
            assert alien in session
            assert alien is await session.get(Film, 2)
    assert ([1, 2, 3] if real else [1]) == [one["_id"] for one in await stored(db)]
    await commit(db, delete(Film).all())
    assert [] == await stored(db)


async def test_delete_returning(db: AsyncDB) -> None:
    """The rows are those of the documents as they were."""
    await fill(db)
    async with db.begin() as session:
        rows = (await session.execute(delete(Film).where(Film.year < 1990).returning(Film.title, Film))).all()
        assert {"Alien", "Metropolis"} == {title for title, _ in rows}
        assert ["Alien", "Metropolis"] == sorted(film.title for _, film in rows)
        assert all(film not in session for _, film in rows)
    assert [1] == [one["_id"] for one in await stored(db)]


async def test_inheritance(db: AsyncDB) -> None:
    """A statement on a class leaves documents of others alone; one on the base class reaches all."""
    await db.add(Model("letters", Letters()))
    rows = [Animal(id=1, name="cat"), Dog(id=2, name="rex"), Dog(id=3, name="ace")]
    await commit(db, insert(Animal).values(rows))
    await commit(db, update(Dog).all().values(tricks=1))
    await commit(db, update(Animal).all().values(name="all"))
    found = await stored(db, "animal")
    assert [None, 1, 1] == [one.get("tricks") for one in found]
    assert ["all"] * 3 == [one["name"] for one in found]
    async with db.session() as session:
        assert {2, 3} == {dog.id for dog in await session.scalars(select(Dog).like("all", k=5))}
        await session.execute(delete(Animal).where(Animal.id == 2))
        await session.commit()
        assert {3} == {dog.id for dog in await session.scalars(select(Dog).like("all", k=5))}
    await commit(db, delete(Dog).all())
    assert [1] == [one["_id"] for one in await stored(db, "animal")]


# vectors


async def nearest(db: AsyncDB, text: str, k: int = 2) -> list[tuple[int, str | None]]:
    async with db.session() as session:
        return [(dish.id, dish.text) for dish in await session.scalars(select(Dish).like(text, k=k))]


@pytest.mark.parametrize("compute", ["insert", "bulk", "upsert"])
async def test_inserted_documents_are_found(db: AsyncDB, compute: str) -> None:
    """Vectors are computed and searched, whatever inserts them."""
    await db.add(Model("letters", Letters()))
    rows = [{"id": 1, "text": "soup"}, {"id": 2, "text": "bread"}, {"id": 3}]
    async with db.begin() as session:
        if compute == "bulk":
            await session.bulk_insert([Dish(**row) for row in rows])  # type: ignore[arg-type]
        else:
            statement = insert(Dish).values(rows)
            await session.execute(statement.upsert() if compute == "upsert" else statement)
    assert [(1, "soup"), (2, "bread")] == await nearest(db, "soup")
    assert [(2, "bread"), (1, "soup")] == await nearest(db, "bread")
    if compute == "upsert":
        await commit(db, insert(Dish).values([{"id": 1, "text": "tea"}, {"id": 4, "text": "ice"}, {"id": 2}]).upsert())
        assert [(1, "tea")] == await nearest(db, "tea", 1)
        assert [(4, "ice")] == await nearest(db, "ice", 1)
        assert [(2, "bread")] == await nearest(db, "bread", 1)


async def test_updated_and_deleted_documents(db: AsyncDB, real: bool) -> None:
    """An updated text is found by its new text, within the transaction too; a deleted document never comes back."""
    await db.add(Model("letters", Letters()))
    await commit(db, insert(Dish).values([{"id": n, "text": text} for n, text in enumerate(["soup", "bread", "tea"])]))
    assert [(0, "soup")] == await nearest(db, "soup", 1)
    async with db.session() as session:
        dish = await session.get_one(Dish, 0)
        await session.execute(update(Dish).where(Dish.id == 0).values(text="ice"))
        assert "ice" == dish.text
        assert np.array_equal(Letters().encode(["ice"])[0], dish.vec)
        assert [0] == [one.id for one in await session.scalars(select(Dish).like("ice", k=1))]
        await session.commit()
    assert [(0, "ice")] == await nearest(db, "ice", 1)
    await commit(db, update(Dish).where(Dish.id == 1).set(Dish.text.to(func.concat("b", Dish.text)), Dish.kcal.inc(1)))
    (_, second, _) = await stored(db, "dish")
    assert ("bbread", 1) == (second["text"], second["kcal"])
    assert (1, "bbread") == (await nearest(db, "bbread", 1))[0]
    await commit(db, update(Dish).where(Dish.id == 2).values(text=None))
    assert {0, 1} == {key for key, _ in await nearest(db, "tea", 5)}
    await commit(db, delete(Dish).where(Dish.id == 0))
    assert [1] == [key for key, _ in await nearest(db, "ice", 5)]
    if real:
        async with db.session() as session:
            await session.execute(update(Dish).where(Dish.id == 1).values(text="salad"))
            await session.rollback()
        assert [(1, "bbread")] == await nearest(db, "salad", 5)
    report = await db.check(Dish)
    assert report.ok, report.problems


async def test_upserted_by_an_update_is_found(db: AsyncDB) -> None:
    """The vector of a document that an update inserts is computed too."""
    await db.add(Model("letters", Letters()))
    for _ in range(2):
        await commit(db, update(Dish).where(Dish.id == 1).values(text="soup").upsert())
        assert [(1, "soup")] == await nearest(db, "soup")
    await commit(db, update(Dish).where(Dish.id == 2).set(Dish.text.to("tea"), Dish.kcal.inc(1)).upsert())
    assert [(2, "tea")] == await nearest(db, "tea", 1)


# merge_into


async def test_merge_into(db: AsyncDB, real: bool) -> None:
    """Rows are written by their stored names; the key is labelled."""
    await fill(db)
    statement = select(Film.title.label("_id"), Film.plot, (Film.year + 1).label("next")).merge_into("titles")
    if not real:
        with pytest.raises(UnsupportedError, match=r"mongomock has no \$merge"):
            await commit(db, statement)
        return
    await commit(db, statement)
    expected = [("Alien", "space", 1980), ("Heat", "", 1996), ("Metropolis", "", 1928)]
    assert expected == [(one["_id"], one["p"], one["next"]) for one in await stored(db, "titles")]
    with pytest.raises(StatementError, match=r"no column is called \'_id\'"):
        await commit(db, select(Film.title).merge_into("titles"))
    async with db.session() as session:
        await session.execute(insert(Film).values(id=9, title="x"))
        with pytest.raises(UnsupportedError, match="in transactions"):
            await session.execute(statement)
        await session.commit()
        await session.execute(statement)
    assert 4 == len(await stored(db, "titles"))


async def test_merge_into_a_class(db: AsyncDB, real: bool) -> None:
    """Computed vectors follow, versions go on, and the session's objects show it."""
    if not real:
        return
    await db.add(Model("letters", Letters()))
    await fill(db)
    await commit(db, insert(Dish).values(id=1, text="soup", kcal=5))
    async with db.session() as session:
        dish = await session.get_one(Dish, 1)
        await session.execute(select(Film.id, func.lower(Film.title).label("text")).merge_into(Dish))
        assert ("heat", 5) == (dish.text, dish.kcal)
    assert [(2, "alien")] == await nearest(db, "alien", 1)
    assert [(1, "heat")] == await nearest(db, "heat", 1)
    grouped = select(Film.mood.label("_id"), func.count().label("n")).group_by(Film.mood)
    for version in 1, 2:
        await commit(db, grouped.merge_into(Counted))
        by_key = {one["_id"]: one for one in await stored(db, "counted")}
        assert {"_id": "calm", "n": 2, "version": version} == by_key["calm"]


async def test_merge_into_a_class_by_attributes(db: AsyncDB, real: bool) -> None:
    """Labels are attributes, lists become sets, and what a document cannot be read with is refused first."""
    await fill(db)
    refused = [
        (select(Film.id, Film.year.label("name")), r"Named\.name holds str, and 'nm' is int"),
        (select(Film.title.label("_id"), Film.title.label("name")), r"Named\.id holds int, and '_id' is str"),
        (select(Film.id, Film.title.label("name"), Film.title), "Named has no field for 'title'"),
    ]
    for wrong, match in refused:
        with pytest.raises(StatementError, match=match):
            await commit(db, wrong.merge_into(Named))
    with pytest.raises(StatementError, match=r"no column is Named\.name"):
        await commit(db, select(Film.id).merge_into(Named, when_matched="replace"))
    if not real:
        return
    twice = func.concat_arrays([9], [2, 9]).label("ids")
    await commit(db, select(Film.id, Film.title.label("name"), twice).merge_into(Named))
    found = await stored(db, "named")
    assert [{"_id": 1, "nm": "Heat", "ids": [2, 9]}, {"_id": 2, "nm": "Alien", "ids": [2, 9]}] == found[:2]
    own = select(Named.id, func.concat(Named.name, "!").label("name")).where(Named.id == 2).merge_into(Named)
    await commit(db, own)
    await commit(db, select(Film.id, func.concat_arrays([3], [1]).label("ids")).merge_into(Named))
    assert {"_id": 2, "nm": "Alien!", "ids": [1, 3]} == (await stored(db, "named"))[1]
    async with db.session() as session:
        assert ["Heat", "Alien!", "Metropolis"] == [one.name for one in await session.scalars(select(Named))]


# What backends refuse


async def test_a_key_that_exists_is_named(db: AsyncDB) -> None:
    """Where an upsert by another field would insert it."""
    await fill(db)
    with pytest.raises(DuplicateKeyError, match="a document with _id=1 exists already") as raised:
        await commit(db, insert(Film).values(id=1, title="zz").upsert(Film.title))
    assert 1 == raised.value.key


async def test_keys_of_code(db: AsyncDB) -> None:
    """JavaScript is another key than the text, and with a scope than without."""
    keys = ["x", Code("x"), Code("x", {"n": 1})]
    async with db.begin() as session:
        session.add_all([Pair(id=key, one=[number]) for number, key in enumerate(keys)])
    async with db.session() as session:
        for number, key in enumerate(keys):
            assert [number] == (await session.get_one(Pair, key)).one
        assert [[0], [1], [2]] == (await session.scalars(select(Pair.one).order_by(Pair.id))).all()


async def test_lists_side_by_side_in_an_index(db: AsyncDB) -> None:
    """One of the fields of an index may hold a list, not two."""
    await db.create_all(Pair)
    await commit(db, insert(Pair).values([{"id": 1, "one": [1, 2]}, {"id": 2, "two": []}]))
    with pytest.raises(WriteError, match="parallel arrays"):
        await commit(db, insert(Pair).values(id=3, one=[1], two=[]))
    assert [1, 2] == [one["_id"] for one in await stored(db, "pair")]


async def test_names_of_collections_that_are_too_long(db: AsyncDB) -> None:
    """They have 255 bytes with the database's name, which is not known where the class is declared."""

    class Long(Document, registry=Registry()):
        __collection__ = "a" * 253
        n: Mapped[int] = field(default=0)

    with pytest.raises(WriteError, match="a" * 253):
        await db.create_all(Long)
    with pytest.raises(WriteError, match="a" * 253):
        await commit(db, insert(Long).values(n=1))


# The statements themselves


def test_statements_are_values() -> None:
    """They pickle, print, and each call makes a new one."""
    base = update(Film).where(Film.year < 1950)
    longer = base.values(year=3)
    assert "{'$set': {'year': 3}}" in str(longer)
    with pytest.raises(StatementError, match="changes nothing"):
        str(base)
    for statement in longer, delete(Film).all(), insert(Film).values(id=1, title="x").upsert(Film.slug):
        assert str(statement) == str(pickle.loads(pickle.dumps(statement)))
    assert "<update(Film)>" == repr(longer)
    rows: list[dict[str, Any]] = [{"id": 1, "title": "x", "genres": ["a"]}]
    statement = insert(Film).values(rows)
    rows[0]["genres"].append("b")
    assert "'b'" not in str(statement)
