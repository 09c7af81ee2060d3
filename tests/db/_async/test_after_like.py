"""What may follow ``like``: everything that may stand in a statement, over the k documents that it found."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    Document,
    Embedded,
    Mapped,
    NotLoadedError,
    Select,
    StatementError,
    UnsupportedError,
    aliased,
    case,
    field,
    func,
    joinedload,
    load_only,
    relationship,
    score,
    select,
    selectinload,
    vector,
)
from superorm.compile.plan import Find

QUERY = [1.0, 0.5, -0.25]
K = 8
START = datetime(2020, 1, 1, tzinfo=UTC)


class House(Document):
    __collection__ = "after_like_houses"
    id: Mapped[str] = field(primary_key=True)
    city: Mapped[str]


class Pair(Embedded):
    a: Mapped[int]
    b: Mapped[str]


class Print(Document):
    __collection__ = "after_like_prints"
    id: Mapped[Any] = field(primary_key=True)
    year: Mapped[int]
    tags: Mapped[list[str]]
    house_id: Mapped[str]
    made: Mapped[datetime]
    house: Mapped[House | None] = relationship("House", key="house_id")
    e: Mapped[np.ndarray] = vector(3)


class Poster(Print):
    paper: Mapped[str]


class Shot(Document):
    __collection__ = "after_like_shots"
    __discriminator__ = "__kind"
    id: Mapped[int] = field(primary_key=True)
    score: Mapped[int]
    e: Mapped[np.ndarray] = vector(3)


class Still(Shot):
    points: Mapped[int] = field(name="__score")


KEYS: list[Any] = [1, "$id", "$$ROOT", {"a": 1, "b": "x"}, 2.5, *range(10, 50)]
"""Of several types, some of which would be a path or an operator where no literal was expected."""


def rows() -> list[dict[str, Any]]:
    """The documents; each vector stands twice, so that there are ties."""
    chance = np.random.default_rng(11)
    half = chance.normal(size=(len(KEYS), 3)).astype(np.float32)
    return [
        {
            "id": key,
            "year": 1990 + n % 7,
            "tags": [f"t{n % 3}", f"t{n % 5}"][: n % 3],
            "house_id": f"h{n % 4}",  # of h3 there is no document
            "e": half[n // 2],
            "made": datetime(2020, 1, 1 + n % 28, tzinfo=UTC),
            "paper": "thick" if n % 4 == 1 else None,
        }
        for n, key in enumerate(KEYS)
    ]


def _order(key: Any) -> tuple[int, Any]:
    """Keys in the server's order: numbers, strings, documents."""
    return (1, key) if isinstance(key, (int, float)) else (2, key) if isinstance(key, str) else (3, repr(key))


def nearest(found: list[dict[str, Any]], k: int = K) -> list[dict[str, Any]]:
    """The k nearest of them with their scores, by brute force in double precision."""
    query = np.array(QUERY)
    for one in found:
        v = one["e"].astype(float)
        one["score"] = float((1 + v @ query / np.linalg.norm(v) / np.linalg.norm(query)) / 2)
    return sorted(found, key=lambda one: (-round(one["score"], 9), _order(one["id"])))[:k]


def like(statement: Select[Any, Any], k: int = K) -> Select[Any, Any]:
    return statement.like(QUERY, on=Print.e, k=k)


@pytest.fixture
async def prints(db: AsyncDB) -> list[dict[str, Any]]:
    """Stored documents; what they hold."""
    stored = rows()
    async with db.begin() as session:
        session.add_all(House(id=f"h{n}", city=f"city {n}") for n in range(3))
        for one in stored:
            given = {name: value for name, value in one.items() if name != "paper"}
            session.add(Poster(**given, paper=one["paper"]) if one["paper"] else Print(**given))
    return stored


async def answer(db: AsyncDB, statement: Any) -> list[Any]:
    async with db.session() as session:
        return (await session.execute(statement)).all()


def close(expected: list[tuple[Any, ...]], found: list[Any]) -> None:
    """The same rows in the same order; scores may differ in the last digits."""
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert one == pytest.approx(tuple(other), abs=1e-6)


async def test_by_score(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Conditions on the score, with others; an order by it and by fields; expressions of it, under labels."""
    near = nearest(prints)
    least = near[3]["score"] - 1e-7  # of a tie
    statement = like(select(Print.id, score().label("s"), (score() * 2 - 1).label("cosine"))).where(
        score() >= least, (score() < 0.999) | (Print.year > 0)
    )
    close([(one["id"], one["score"], 2 * one["score"] - 1) for one in near[:4]], await answer(db, statement))
    statement = like(select(Print.id)).order_by(Print.year.desc(), score(), Print.id).offset(1).limit(4)
    ordered = sorted(near, key=lambda one: (-one["year"], round(one["score"], 9), _order(one["id"])))
    assert [one["id"] for one in ordered[1:5]] == [row.id for row in await answer(db, statement)]
    labelled = score().label("s")
    statement = like(select(Print.id, labelled)).order_by(labelled, Print.id.desc())
    found = await answer(db, statement)
    assert [row.s for row in found] == sorted(row.s for row in found)
    assert {one["id"] if not isinstance(one["id"], dict) else "d" for one in near} == {
        row.id if not isinstance(row.id, dict) else "d" for row in found
    }


async def test_documents_are_whole(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Objects beside the score have their own fields only, and change nothing when they are flushed."""
    near = nearest(prints)
    async with db.session() as session:
        statement = like(select(Print, score().label("s"), Print.year)).where(score() > 0)
        found = (await session.execute(statement)).all()
        close([(one["score"], one["year"]) for one in near], [row[1:] for row in found])
        for one, (document, *_) in zip(near, found, strict=True):
            assert one["id"] == document.id
            assert one["made"] == document.made
            assert np.array_equal(one["e"], document.e)
            assert isinstance(document, Poster) is (one["paper"] is not None)
        assert not session.dirty
        found[0][0].year += 1
        await session.commit()
        stored = (await session.scalars(select(Print).where(Print.id == near[0]["id"]))).one()
        assert near[0]["year"] + 1 == stored.year
    raw = await db.parts.data_backend.read(Find("after_like_prints"))
    assert {"_id", "year", "tags", "house_id", "made", "e"} == set().union(*raw) - {"_type", "paper"}


async def test_keys_beside_those_of_subclasses(db: AsyncDB) -> None:
    """What is computed beside a document takes no key of a class that it may be of, nor the one that names it."""
    async with db.begin() as session:
        session.add(Still(id=1, score=3, points=5, e=np.array(QUERY)))
    async with db.session() as session:
        statement = select(Shot, score(), (Shot.score + 1).label("kind")).like(QUERY, k=1)
        ((still, similarity, kind),) = (await session.execute(statement)).all()
        assert isinstance(still, Still)
        assert [5, 3, pytest.approx(1.0), 4] == [still.points, still.score, similarity, kind]


async def test_columns_of_one_name(db: AsyncDB) -> None:
    """They are told apart, whether a pipeline follows or not."""
    async with db.begin() as session:
        session.add(Shot(id=1, score=3, e=np.array(QUERY)))
    async with db.session() as session:
        plain = select(Shot.score, score(), Shot.id, Shot.id).like(QUERY, k=1)
        for statement in plain, plain.where(score() > 0):
            (found,) = (await session.execute(statement)).mappings().all()
            assert {"score": 3, "score_2": pytest.approx(1.0), "id": 1, "id_2": 1} == found


async def test_groups(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """The k documents grouped, with accumulators over their scores; accumulators over all, and over none."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in nearest(prints):
        groups[one["house_id"]].append(one)
    statement = (
        like(select(Print.house_id, func.count().label("n"), func.max(score()).label("best")))
        .group_by(Print.house_id)
        .having(func.count() > 1)
        .order_by(Print.house_id)
    )
    expected = [
        (house, len(group), max(one["score"] for one in group))
        for house, group in sorted(groups.items())
        if len(group) > 1
    ]
    close(expected, await answer(db, statement))
    everything = select(func.count().label("n"), func.avg(score()).label("s")).select_from(Print)
    mean = float(np.mean([one["score"] for one in nearest(prints)]))
    close([(K, mean)], await answer(db, like(everything)))
    nothing = everything.where(Print.year > 3000)
    assert [(0, None)] == [tuple(row) for row in await answer(db, like(nothing))]
    assert [] == await answer(db, like(select(Print, score().label("s")).where(Print.year > 3000)))
    statement = like(select(Print.year)).distinct().order_by(Print.year)
    assert sorted({one["year"] for one in nearest(prints)}) == [row.year for row in await answer(db, statement)]


async def test_the_filter_chooses_what_is_searched(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Before the search among all documents, after it among the k."""
    some = [one for one in prints if one["year"] >= 1994]
    statement = like(select(Print.id, score().label("s")).where(Print.year >= 1994))
    close([(one["id"], one["score"]) for one in nearest(some)], await answer(db, statement))
    posters = [one for one in prints if one["paper"]]
    statement = select(Poster.id, score().label("s")).like(QUERY, on=Poster.e, k=3).where(score() > 0)
    close([(one["id"], one["score"]) for one in nearest(posters, 3)], await answer(db, statement))


async def test_joins_and_lists(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Joined classes, unwound lists, a case, rows of rows, facets, chance."""
    near = nearest(prints)
    statement = like(select(Print.id, House.city, score().label("s"))).join(Print.house)
    joined = [(one["id"], f"city {one['house_id'][1]}", one["score"]) for one in near if one["house_id"] != "h3"]
    close(joined, await answer(db, statement))
    statement = like(select(Print.id, Print.tags.item().label("tag"), score().label("s"))).unwind(Print.tags)
    close([(one["id"], tag, one["score"]) for one in near for tag in one["tags"]], await answer(db, statement))
    kind = case((score() > near[3]["score"] - 1e-7, "near"), else_="far").label("kind")
    statement = like(select(Print.id, kind))
    assert ["near"] * 4 + ["far"] * (K - 4) == [row.kind for row in await answer(db, statement)]
    statement = like(select(Print.id, Print.year)).limit(5).then().where(Print.year > 1992)
    assert [one["id"] for one in near[:5] if one["year"] > 1992] == [row.id for row in await answer(db, statement)]
    statement = like(select(Print)).facet(
        n=select(func.count().label("n")).select_from(Print),
        best=select(Print.id, score().label("s")).limit(2),
    )
    ((counts, best),) = await answer(db, statement)
    assert [K] == counts
    close([(one["id"], one["score"]) for one in near[:2]], best)
    statement = like(select(Print.id, score().label("s"))).sample(3)
    chosen = await answer(db, statement)
    assert 3 == len(chosen)
    assert {repr(row.id) for row in chosen} <= {repr(one["id"]) for one in near}


async def test_options(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Partial documents, and relationships."""
    near = nearest(prints)
    async with db.session() as session:
        found = (await session.scalars(like(select(Print)).options(load_only(Print.year)))).all()
        assert [(one["id"], one["year"]) for one in near] == [(document.id, document.year) for document in found]
        with pytest.raises(NotLoadedError, match="tags was not loaded"):
            _ = found[0].tags
    async with db.session() as session:
        statement = like(select(Print)).where(score() > 0).options(selectinload(Print.house))
        found = (await session.scalars(statement)).all()
        expected = [None if one["house_id"] == "h3" else f"city {one['house_id'][1]}" for one in near]
        assert expected == [None if one.house is None else one.house.city for one in found]
        with pytest.raises(UnsupportedError, match=r"joinedload\(Print.house\) cannot stand here"):
            await session.scalars(like(select(Print)).options(joinedload(Print.house)))


async def test_own_changes_count(db: AsyncDB, prints: list[dict[str, Any]], real: bool) -> None:
    """In a session what it flushed is found and grouped; another session sees it after the commit."""
    async with db.session() as session:
        session.add(Print(id=1000, year=3000, tags=[], house_id="h0", made=START, e=np.array(QUERY, np.float32)))
        statement = like(select(Print.id, Print.year, score().label("s")), k=1)
        if real:  # without transactions there is no autoflush
            close([(1000, 3000, 1.0)], (await session.execute(statement)).all())
            assert [1000] != [row.id for row in await answer(db, statement)]
        await session.commit()
    close([(1000, 3000, 1.0)], await answer(db, statement))


async def test_streams(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """Rows and objects of a stream."""
    near = nearest(prints)
    async with db.session() as session:
        statement = like(select(Print.id, score().label("s")))
        close([(one["id"], one["score"]) for one in near], [row async for row in session.stream(statement)])
        documents = like(select(Print)).where(score() > 0)
        assert [one["id"] for one in near] == [one.id async for one in session.stream_scalars(documents)]


@pytest.mark.parametrize("grouped", [False, True])
async def test_keys_that_are_too_large_together(db: AsyncDB, real: bool, grouped: bool) -> None:
    """A server takes no statement that names them all: that is said, with how many there are."""
    keys = [letter * (6 << 20) for letter in "abc"]
    for key in keys:
        async with db.begin() as session:
            session.add(Print(id=key, year=1, tags=[], house_id="h0", made=START, e=np.array(QUERY, np.float32)))
    plain = like(select(Print.year), k=3).where(Print.year == 1)
    after = like(select(Print.year, func.count()), k=3).group_by(Print.year) if grouped else plain
    assert [(1,)] == [tuple(row) for row in await answer(db, like(select(Print.year), k=1))]
    if not real:  # nothing is sent
        assert {1} == {row[0] for row in await answer(db, after)}
        return
    with pytest.raises(StatementError, match=r"keys of the 3 documents that like\(\) found .* 16 MiB, .* a smaller k"):
        await answer(db, after)


async def test_explain_names_both(db: AsyncDB, prints: list[dict[str, Any]]) -> None:
    """The search's strategy, and the pipeline that followed, last."""
    explanation = await db.explain(like(select(Print.year, func.count().label("n"))).group_by(Print.year))
    assert explanation.engine is not None
    last = explanation.reads[-1]
    assert "$group" in str(last)
    assert K == len(last.pipeline[0]["$match"]["_id"]["$in"])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        (select(Print).sample(2).like(QUERY), UnsupportedError, r"sample\(\) before \.like"),
        (select(Print).unwind(Print.tags).like(QUERY), UnsupportedError, r"unwind\(\) before \.like"),
        (select(Print).limit(3).like(QUERY), UnsupportedError, r"order_by, offset and limit before \.like"),
        (select(Print).join(Print.house).like(QUERY), UnsupportedError, r"joins, groups and distinct before \.like"),
        (
            select(House.id).union_all(select(Print.house_id).like(QUERY)),
            UnsupportedError,
            r"\.like\(\.\.\.\) stands in a statement of its own yet",
        ),
        (select(aliased(Print, "p")).like(QUERY), UnsupportedError, "on a class itself, not on an alias"),
        (like(select(Print.id)).group_by(Print.year), StatementError, r"Print\.id is not in the grouped rows"),
        (
            like(select(Print.year, score())).group_by(Print.year),
            StatementError,
            r"score\(\) can be .*; of grouped rows func\.max\(score\(\)\) can",
        ),
    ],
)
async def test_what_cannot_stand_there(db: AsyncDB, statement: Any, error: type[Exception], message: str) -> None:
    """It is refused by name, before anything is searched."""
    with pytest.raises(error, match=message):
        await answer(db, statement)


def test_a_statement_without_a_class() -> None:
    """Accumulators do not tell what is searched."""
    with pytest.raises(StatementError, match=r"does not tell its class; add \.select_from\(Print\)"):
        select(func.count()).like(QUERY, on=Print.e)
