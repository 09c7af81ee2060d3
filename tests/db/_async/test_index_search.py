"""Searching by the name of a vector index, against brute force over the outputs as they are stored."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from superorm import (
    AsyncDB,
    AsyncSession,
    ComponentNotFoundError,
    Document,
    Listener,
    Mapped,
    Model,
    PredictionError,
    Select,
    StatementError,
    SuperormError,
    VectorError,
    VectorIndex,
    delete,
    field,
    func,
    score,
    select,
    update,
)
from superorm._async import index_search
from superorm._async.listeners import AsyncListeners
from superorm.vectors.request import SearchRequest
from tests.db.indexed import DIM, Film, LongFilm, Place, brute, encode, plain_database

COUNT = 120
QUERY = encode("what is looked for")


@pytest_asyncio.fixture
async def plain(db: AsyncDB, real: bool, mongodb_uri: str) -> Any:
    """The database without superorm; there are films, and an index of their texts."""
    await db.create_all(Film)
    async with db.begin() as session:
        session.add_all(
            [
                *(
                    Film(id=n, text=f"film {n}", year=n % 100, tags=["even"] if n % 2 == 0 else [])
                    for n in range(COUNT)
                ),
                *(LongFilm(id=COUNT + n, text=f"long {n}", year=n) for n in range(9)),
                Film(id=1000),
            ]
        )
    await db.add(Listener("plots", model=Model("encode", encode), select=select(Film), key=Film.text))
    await db.add(VectorIndex("by-plot", listener="plots"))
    database = plain_database(mongodb_uri, db.parts.data_backend.name, real=real)
    yield database
    if real:
        database.client.close()


async def found(db: AsyncDB, statement: Select[Any, Any]) -> list[tuple[Any, float]]:
    """Key and score of what a select of films and scores gives."""
    async with AsyncSession(db) as session:
        return [(film.id, value) for film, value in (await session.execute(statement)).all()]


def same(expected: list[tuple[Any, float]], given: list[tuple[Any, float]]) -> None:
    assert [key for key, _ in expected] == [key for key, _ in given]
    assert np.allclose([value for _, value in expected], [value for _, value in given], atol=1e-6)


def like(query: Any = QUERY, k: int = 7, **options: Any) -> Select[Any, Any]:
    return select(Film, score()).like(query, on="by-plot", k=k, **options)


async def test_vectors_texts_and_documents(db: AsyncDB, plain: Any) -> None:
    """Each finds the nearest; a document is itself left out."""
    same(brute(plain, QUERY, 7), await found(db, like()))
    same(brute(plain, QUERY, 7), await found(db, like(QUERY.tolist())))
    same(brute(plain, QUERY, 7), await found(db, like("what is looked for")))
    same(brute(plain, QUERY, 7), await found(db, like(exact=True, num_candidates=50)))
    same(brute(plain, QUERY, 500), await found(db, like(k=500)))
    async with AsyncSession(db) as session:
        film = await session.get_one(Film, 17)
    same(brute(plain, encode("film 17"), 5, leave_out=17), await found(db, like(film, k=5)))
    least = brute(plain, QUERY, 9)[4][1]
    expected = [one for one in brute(plain, QUERY, 9) if one[1] >= least - 1e-9]
    same(expected, await found(db, like(k=9, min_score=least - 1e-9)))
    await db.add(VectorIndex("dot", listener="plots", metric="dot", dim=DIM))
    await db.add(VectorIndex("euclidean", listener="plots", metric="euclidean", dim=DIM))
    for metric in ("dot", "euclidean"):
        statement = select(Film, score()).where(Film.year < 30).like(QUERY, on=metric, k=6)
        same(brute(plain, QUERY, 6, lambda one: one["year"] < 30, metric=metric), await found(db, statement))


async def test_conditions_before(db: AsyncDB, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few match, there are k whenever k match; more vectors are looked through where many match, none near."""
    for limit in (0, 1, 3, 30, 90, 100):
        await conditions_hold(db, plain, limit)
    monkeypatch.setattr(index_search, "_OVER", 1)
    looked: list[int] = []

    def request(**given: Any) -> SearchRequest:
        looked.append(given["k"])
        return SearchRequest(**given)

    monkeypatch.setattr(index_search, "SearchRequest", request)
    await conditions_hold(db, plain, 60)
    assert 7 == looked[0] < looked[1]
    looked.clear()
    monkeypatch.setattr(index_search, "_ATTEMPTS", 2)  # these are for what others change meanwhile
    far = [key for key, _ in brute(plain, QUERY, 1000)][-80:]
    statement = select(Film, score()).where(Film.id.in_(far)).like(QUERY, on="by-plot", k=1)
    assert far[:1] == [key for key, _ in await found(db, statement)]
    assert [1, 4, 16, 64] == looked


async def conditions_hold(db: AsyncDB, plain: Any, limit: int) -> None:
    expected = brute(plain, QUERY, 7, lambda one: one["year"] < limit)
    statement = select(Film, score()).where(Film.year < limit).like(QUERY, on="by-plot", k=7)
    same(expected, await found(db, statement))
    statement = select(Film, score()).where(Film.year < limit, Film.tags.contains("even"))
    expected = brute(plain, QUERY, 7, lambda one: one["year"] < limit and "even" in one["tags"])
    same(expected, await found(db, statement.like(QUERY, on="by-plot", k=7)))


async def test_what_follows(db: AsyncDB, plain: Any) -> None:
    """The k are filtered, ordered, grouped, and cut as those of a search in a field, of a class below too."""
    nearest = brute(plain, QUERY, 30)
    years = {one["_id"]: one["year"] for one in plain["indexed_films"].find()}
    after = like(k=30).where(Film.year >= 40)
    same([one for one in nearest if years[one[0]] >= 40], await found(db, after))
    ordered = sorted(nearest, key=lambda one: (years[one[0]], one[0]))
    same(ordered[2:8], await found(db, like(k=30).order_by(Film.year, Film.id).offset(2).limit(6)))
    same(nearest[::-1], await found(db, like(k=30).order_by(score())))
    async with AsyncSession(db) as session:
        ids = (await session.scalars(select(Film.id).like(QUERY, on="by-plot", k=5))).all()
        assert [key for key, _ in nearest[:5]] == ids
        films = (await session.scalars(select(Film).where(Film.year > 1).like(QUERY, on="by-plot", k=5))).all()
        assert all(film.text == f"film {film.id}" or isinstance(film, LongFilm) for film in films)
        grouped = select(Film.tags.size(), func.count(), func.max(score())).like(QUERY, on="by-plot", k=30)
        tagged = {one["_id"]: len(one["tags"]) for one in plain["indexed_films"].find()}
        for size, count, best in (await session.execute(grouped.group_by(Film.tags.size()))).all():
            own = [value for key, value in nearest if tagged[key] == size]
            assert (len(own), pytest.approx(max(own))) == (count, best)
    below = select(LongFilm, score()).like(QUERY, on="by-plot", k=5)
    same(brute(plain, QUERY, 5, lambda one: one.get("_type") == "LongFilm"), await found(db, below))


async def test_after_each_commit(db: AsyncDB, plain: Any) -> None:
    """Changed, new and deleted documents are found by what they are now, whichever way they were written."""

    async def holds() -> None:
        same(brute(plain, QUERY, 8), await found(db, like(k=8)))
        same(
            brute(plain, QUERY, 8, lambda one: one["year"] < 20),
            await found(db, select(Film, score()).where(Film.year < 20).like(QUERY, on="by-plot", k=8)),
        )

    async with AsyncSession(db) as session:
        (await session.get_one(Film, 3)).text = "what is looked for"
        await session.commit()
        assert 3 == (await found(db, like(k=1)))[0][0]
        await holds()
        session.add(Film(id=2000, text="what is looked for", year=1))
        await session.commit()
        assert [3, 2000] == [key for key, _ in await found(db, like(k=2))]
        await holds()
        session.delete(await session.get_one(Film, 3))
        await session.commit()
        assert 2000 == (await found(db, like(k=1)))[0][0]
        await holds()
        (await session.get_one(Film, 2000)).text = None
        await session.commit()
        assert 2000 not in {key for key, _ in await found(db, like(k=500))}
        await session.execute(update(Film).where(Film.year < 9).values(text="what is looked for, or so"))
        await session.commit()
        await holds()
        await session.execute(delete(Film).where(Film.year.between(10, 15)))
        await session.commit()
        await holds()
        await session.bulk_insert([Film(id=3000 + n, text=f"bulk {n}", year=n) for n in range(150)])
        await session.commit()
        await holds()
    assert (await db.check(Film)).ok


async def test_what_a_transaction_has_changed(db: AsyncDB, plain: Any, real: bool) -> None:
    """A session finds its own changes before it commits; others do not, and nothing is left of a rollback."""
    if not real:
        return
    async with AsyncSession(db) as session:
        (await session.get_one(Film, 3)).text = "what is looked for"
        session.delete(await session.get_one(Film, brute(plain, QUERY, 1)[0][0]))
        session.add(Film(id=2000, text="what is looked for", year=5))
        await session.flush()
        own = [(film.id, value) for film, value in (await session.execute(like(k=4))).all()]
        before = brute(plain, QUERY, 4)
        same([(3, 1.0), (2000, 1.0), *before[1:3]], own)
        statement = select(Film.id).where(Film.year == 5).like("what is looked for", on="by-plot", k=1)
        assert [2000] == (await session.scalars(statement)).all()
        film = await session.get_one(Film, 2000)
        assert 3 == (await session.scalars(select(Film.id).like(film, on="by-plot", k=1))).one()
        same(before, await found(db, like(k=4)))
        await session.rollback()
        same(before, [(film.id, value) for film, value in (await session.execute(like(k=4))).all()])


async def test_changes_that_nobody_has_computed(db: AsyncDB, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded as changed when the search looks is ranked by the models, not by the old vectors."""
    nearest = [key for key, _ in brute(plain, QUERY, 3)]
    with monkeypatch.context() as dying:
        dying.setattr(AsyncListeners, "follow", _nothing)
        async with db.begin() as session:
            (await session.get_one(Film, nearest[0])).text = "far away"
            session.delete(await session.get_one(Film, nearest[1]))
            session.add(Film(id=2000, text="what is looked for", year=99))
        dying.setattr(AsyncListeners, "catch_up", _nothing)
        texts = {one["_id"]: one["t"] for one in plain["indexed_films"].find({"t": {"$ne": None}})}
        for statement in (like(k=6), select(Film, score()).where(Film.year > 50).like(QUERY, on="by-plot", k=6)):
            for key, value in await found(db, statement):
                v = encode(texts[key]).astype("f8")
                cosine = v @ QUERY.astype("f8") / np.linalg.norm(v) / np.linalg.norm(QUERY.astype("f8"))
                assert pytest.approx((1 + cosine) / 2, abs=1e-6) == value
        given = [key for key, _ in await found(db, like(k=2))]
        assert [2000, nearest[2]] == given
        async with AsyncSession(db) as session:
            film = await session.get_one(Film, 2000)
        assert nearest[2] == (await found(db, like(film, k=1)))[0][0]
        stored = plain["_superorm_outputs"].find_one({"_id.key": 2000})
        assert stored is None
    same([(2000, 1.0)], await found(db, like(k=1)))
    assert plain["_superorm_outputs"].find_one({"_id.key": 2000}) is not None


async def _nothing(*_: object, **__: object) -> None:
    pass


async def test_a_change_that_cannot_be_computed(db: AsyncDB, plain: Any) -> None:
    """Whoever searches gets the model's error, until the document is mended."""
    async with db.begin() as session:
        (await session.get_one(Film, 4)).text = "bad"
    with pytest.raises(PredictionError, match=r"listener 'plots' version 0 has no output for Film 4"):
        await found(db, like())
    async with db.begin() as session:
        (await session.get_one(Film, 4)).text = "good"
    same(brute(plain, QUERY, 7), await found(db, like()))


async def test_a_chain(db: AsyncDB, plain: Any) -> None:
    """Texts go through all the models; outputs that are None are not found."""

    def turned(vector: Any) -> Any:
        return None if vector[0] > 0 else [-float(number) for number in vector]

    await db.add(Listener("turned", model=Model("turned", turned), listener="plots"))
    await db.add(VectorIndex("by-turned", listener="turned"))
    text = next(f"text {n}" for n in range(50) if encode(f"text {n}")[0] < 0)
    expected = brute(plain, -encode(text), 7, listener="turned")
    assert 7 == len(expected)
    same(expected, await found(db, select(Film, score()).like(text, on="by-turned", k=7)))
    everything = await found(db, select(Film, score()).like(text, on="by-turned", k=500))
    assert {key for key, _ in everything} == {key for key, _ in brute(plain, QUERY, 500, listener="turned")}
    assert len(everything) < COUNT
    none = next(f"text {n}" for n in range(50) if encode(f"text {n}")[0] > 0)
    with pytest.raises(VectorError, match="gives None"):
        await found(db, select(Film, score()).like(none, on="by-turned"))
    async with db.begin() as session:
        (await session.get_one(Film, 4)).text = text
    assert 4 == (await found(db, select(Film, score()).like(text, on="by-turned", k=1)))[0][0]


async def test_a_model_of_queries(db: AsyncDB, plain: Any) -> None:
    """Documents are encoded from one field, and searched by what another model makes of something else."""

    def of_year(year: int) -> np.ndarray:
        return encode(f"the year {year}")

    def of_words(words: str) -> np.ndarray:
        return of_year(int(words.split()[-1]))

    await db.add(Listener("years", model=Model("of_year", of_year), select=select(Film), key=Film.year))
    await db.add(VectorIndex("by-year", listener="years"))
    with pytest.raises(StatementError, match=r"made from Film.year; .* VectorIndex\(..., model=...\)"):
        await found(db, select(Film, score()).like("in 40", on="by-year"))
    assert 40 == (await found(db, select(Film, score()).like(40, on="by-year", k=1)))[0][0]
    await db.add(VectorIndex("by-words", listener="years", model=Model("of_words", of_words)))
    expected = brute(plain, of_year(40), 4, listener="years")
    same(expected, await found(db, select(Film, score()).like("it was in 40", on="by-words", k=4)))
    loaded = await db.load("vector_index", "by-words")
    assert isinstance(loaded.model, Model)
    assert "of_words" == loaded.model.name


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Probe(Document):
    """What models are given as lists, as arrays, and as what is not stored as it is."""

    __collection__ = "indexed_probes"

    id: Mapped[int] = field(primary_key=True)
    words: Mapped[list[str]] = field(factory=list)
    numbers: Mapped[list[float]] = field(factory=list)
    grid: Mapped[np.ndarray | None] = field(default=None)
    level: Mapped[Level] = field(default=Level.LOW)
    at: Mapped[datetime] = field(default=datetime(2020, 1, 1, tzinfo=UTC))
    weight: Mapped[float] = field(default=0.0)


def of_list(values: list[Any]) -> np.ndarray:
    assert type(values) is list
    return encode(" ".join(map(str, values)))


def of_grid(grid: np.ndarray) -> np.ndarray:
    assert grid.shape == (2, 4)
    return encode(str(grid.tolist()))


def of_level(level: Level) -> np.ndarray:
    return encode(level.value)


def of_time(time: datetime) -> np.ndarray:
    assert time.microsecond % 1000 == 0
    assert time.utcoffset() == timedelta(0)
    return encode(str(time.timestamp()))


def of_weight(weight: float) -> np.ndarray:
    assert type(weight) is float
    return encode(str(weight))


async def test_models_that_take_lists_and_other_values(db: AsyncDB) -> None:
    """They are given what is searched for as they are given the documents' values; a vector is one all the same."""
    time = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    here = time.astimezone(timezone(timedelta(hours=3)))
    grid = np.arange(8.0).reshape(2, 4)
    await db.create_all(Probe)
    async with db.begin() as session:
        session.add_all([Probe(id=n, words=[f"w{n}"], numbers=[float(n)] * (1 + n), weight=n) for n in range(8)])
        session.add(
            Probe(id=100, words=["a", "b"], numbers=[1.0, 2.0], grid=grid, level=Level.HIGH, at=time, weight=7.5)
        )
        session.add(
            Probe(
                id=101,
                words=["z"] * DIM,
                numbers=[3.0] * DIM,
                grid=grid + 1,
                at=datetime(2021, 1, 1, tzinfo=UTC),
                weight=9,
            )
        )
    fields: list[tuple[Any, Any, Any, Any]] = [
        (Probe.words, of_list, ["a", "b"], "a b"),
        (Probe.numbers, of_list, [1, 2], "1.0 2.0"),
        (Probe.grid, of_grid, grid, str(grid.tolist())),
        (Probe.level, of_level, Level.HIGH, "high"),
        (Probe.at, of_time, here, str(time.replace(microsecond=123000).timestamp())),
        (Probe.weight, of_weight, 9, "9.0"),
    ]
    for key, function, query, text in fields:
        name = key._path
        await db.add(Listener(name, model=Model(name, function), select=select(Probe), key=key))
        await db.add(VectorIndex(f"by-{name}", listener=name))
        async with AsyncSession(db) as session:
            for given in (query, encode(text), [*encode(text).tolist()]):
                statement = select(Probe, score()).like(given, on=f"by-{name}", k=1)
                ((probe, value),) = (await session.execute(statement)).all()
                assert (101 if key is Probe.weight else 100) == probe.id
                assert pytest.approx(1, abs=1e-6) == value
    async with AsyncSession(db) as session:  # as many numbers as the index has dimensions
        found = await session.execute(select(Probe, score()).like([3.0] * DIM, on="by-numbers", k=1))
        assert (await session.get_one(Probe, 101)).numbers == [3.0] * DIM
        assert found.all()[0][1] < 0.999
    await db.add(VectorIndex("by-pair", listener="words", model=Model("pair", of_list, fingerprint="pair")))
    async with AsyncSession(db) as session:
        probe = (await session.scalars(select(Probe).like(["a", "b"], on="by-pair", k=1))).one()
        assert 100 == probe.id
        with pytest.raises(VectorError, match=r"the query has shape \(2,\), but the index has 6"):
            await session.execute(select(Probe).like([1.0, 2.0], on="by-pair", k=1))


BAD: list[tuple[Any, type[SuperormError], str]] = [
    ([1.0, 2.0], VectorError, r"'by-plot' version 0: the query has shape \(2,\), but the index has 6"),
    ([0.0] * DIM, VectorError, "a zero vector"),
    ([float("nan")] * DIM, VectorError, "'by-plot' version 0: the query vector is not finite"),
    (["x"] * DIM, VectorError, "no vector of real numbers"),
    ("", VectorError, "blank"),
    (" \n", VectorError, "blank"),
    (7, StatementError, "made from Film.text; give a value of its type"),
    (None, StatementError, "like.. got NoneType None"),
    (Place(id=1), StatementError, "got a Place; give a Film"),
    (Film(id=5000, text="new"), VectorError, "Film 5000 has no output in the vector_index 'by-plot' version 0"),
    (Film(id=1000), VectorError, "Film 1000 has no output"),
    ("bad", PredictionError, "a bad text"),
]


async def test_bad_input(db: AsyncDB, plain: Any) -> None:
    """Each is refused by name: queries, the name of no index, of other documents, and of one that was removed."""
    for query, error, message in BAD:
        with pytest.raises(error, match=message):
            await found(db, like(query))
    with pytest.raises(ComponentNotFoundError, match="no vector_index 'nowhere': there are 'by-plot'"):
        await found(db, select(Film, score()).like("x", on="nowhere"))
    with pytest.raises(StatementError, match="is of documents of Film, not of Place"):
        await found(db, select(Place, score()).like("x", on="by-plot"))
    for on in ("", 7, Place.text):
        with pytest.raises(StatementError, match=r"takes a vector field of Film, not .*; or the name of a vector"):
            select(Film).like("x", on=on)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await db.remove("vector_index", "by-plot")
    with pytest.raises(ComponentNotFoundError, match="no vector_index 'by-plot'"):
        await found(db, like())


async def test_statements_as_data(db: AsyncDB, plain: Any) -> None:
    """They show the index's name, are stored, and pickled."""
    statement = select(Film, score()).where(Film.year < 30).like("some words", on="by-plot", k=3)
    assert {"$like": {"query": "some words", "index": "by-plot", "k": 3}} == statement.pipeline()[1]
    stored = statement.to_dict()
    copies: list[Callable[[], Select[Any, Any]]] = [
        lambda: Select.from_dict(stored),
        lambda: pickle.loads(pickle.dumps(statement)),
    ]
    for copy in copies:
        assert stored == copy().to_dict()
        same(await found(db, statement), await found(db, copy()))
    explained = await db.explain(statement)
    assert "vector_index 'by-plot' version 0" == (explained.details or {})["searched"]
    assert "by-plot" in str(explained)
    assert any("indexed_films" == read.collection for read in explained.reads)
