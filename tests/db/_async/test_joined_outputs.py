"""The outputs of listeners in selects, against the documents and plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    ComponentNotFoundError,
    Dataset,
    Document,
    Listener,
    Mapped,
    Model,
    Select,
    StatementError,
    aliased,
    delete,
    field,
    func,
    outputs,
    score,
    select,
    update,
    vector,
)
from superorm._async.listeners import AsyncListeners
from superorm.compile.output_lookups import with_versions
from superorm.compile.plan import Aggregate, Find

TEXTS = ["", "a", "bcd", "ef", "ghijk", "lm", None]
LENGTHS = {key: len(text) for key, text in enumerate(TEXTS) if text is not None}

length = outputs("lengths")


class Tale(Document):
    """A document with outputs."""

    __collection__ = "joined_tales"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None)
    place: Mapped[np.ndarray | None] = vector(2)


class Remark(Document):
    """One that refers to it."""

    __collection__ = "joined_remarks"

    id: Mapped[int] = field(primary_key=True)
    tale_id: Mapped[int]


def facts(text: str) -> dict[str, Any]:
    return {"first": text[:1], "letters": [*text], "vowels": {"count": sum(one in "aeiou" for one in text)}}


def spread(text: str) -> np.ndarray:
    return np.arange(len(text), dtype=np.float32)


async def fill(db: AsyncDB) -> None:
    """Tales, remarks on them, and three listeners."""
    await db.create_all(Tale, Remark)
    async with db.begin() as session:
        places = [np.array([1.0, n], np.float32) for n in range(len(TEXTS))]
        session.add_all([Tale(id=n, text=text, place=places[n]) for n, text in enumerate(TEXTS)])
        session.add_all([Remark(id=n, tale_id=n // 2) for n in range(20)])
    await db.add(Listener("lengths", model=Model("length", len), select=select(Tale), key=Tale.text))
    await db.add(Listener("facts", model=Model("facts", facts), select=select(Tale), key=Tale.text))
    await db.add(Listener("a $pread.of/texts", model=Model("spread", spread), select=select(Tale), key=Tale.text))


async def rows(db: AsyncDB, statement: Any) -> list[tuple[Any, ...]]:
    """What a statement gives, as plain tuples."""
    async with AsyncSession(db) as session:
        return [tuple(row) for row in (await session.execute(statement)).all()]


async def test_outputs_beside_documents(db: AsyncDB) -> None:
    """Each document has its own, by key; where there is none it is None."""
    await fill(db)
    found = await rows(db, select(Tale, length).order_by(Tale.id))
    assert [(n, LENGTHS.get(n)) for n in range(len(TEXTS))] == [(tale.id, output) for tale, output in found]
    assert all(tale.text == TEXTS[tale.id] for tale, _ in found)
    async with AsyncSession(db) as session:
        (row, *_) = (await session.execute(select(Tale.id, length, outputs("facts")["first"]))).all()
        assert (0, 0, "") == (row.id, row.lengths, row.first)
        streamed = [tuple(row) async for row in session.stream(select(Tale.id, length).where(length > 2))]
        assert {(2, 3), (4, 5)} == set(streamed)


async def test_conditions_and_orders(db: AsyncDB) -> None:
    """They may be about outputs, and about parts of them."""
    await fill(db)
    longest = select(Tale.id).where(length >= 1, Tale.id > 1).order_by(length.desc(), Tale.id)
    wanted = sorted((key for key, one in LENGTHS.items() if one >= 1 and key > 1), key=lambda key: (-LENGTHS[key], key))
    assert wanted == [key for (key,) in await rows(db, longest)]
    assert wanted[1:3] == [key for (key,) in await rows(db, longest.offset(1).limit(2))]
    assert [(6,)] == await rows(db, select(Tale.id).where(length.is_(None)))
    fact = outputs("facts")
    with_vowel = select(Tale.id).where(fact["vowels"]["count"] > 0, fact["first"].in_(["a", "b", "e"]))
    assert {1, 3} == {key for (key,) in await rows(db, with_vowel)}
    assert {3, 5} == {key for (key,) in await rows(db, select(Tale.id).where(func.size(fact["letters"]) == 2))}
    both = select(Tale.id, length).where((length == 5) | (fact["first"] == "a"))
    assert {(4, 5), (1, 1)} == set(await rows(db, both))


async def test_groups_and_further_blocks(db: AsyncDB) -> None:
    """Outputs can be grouped by, accumulated, unwound, and named by a label."""
    await fill(db)
    groups = select(length.label("n"), func.count().label("many")).select_from(Tale).group_by(length)
    assert {(None, 1), (0, 1), (1, 1), (2, 2), (3, 1), (5, 1)} == set(await rows(db, groups))
    assert [(sum(LENGTHS.values()),)] == await rows(db, select(func.sum(length)).select_from(Tale))
    letters = outputs("facts")["letters"].label("letter")
    unwound = select(letters).select_from(Tale).where(Tale.id.in_([2, 3])).unwind(letters)
    assert [*"bcdef"] == sorted(letter for (letter,) in await rows(db, unwound))
    after = select(Tale.id, length.label("n")).order_by(Tale.id).limit(4).then().where(length > 1)
    assert [(2, 3), (3, 2)] == await rows(db, after)


async def test_arrays_come_back_as_they_were(db: AsyncDB) -> None:
    """The listener's name is no field path; beside documents and fields, and twice, outputs are arrays."""
    await fill(db)
    array = outputs("a $pread.of/texts")
    for entities in ((Tale, array), (Tale.id, array), (Tale.id, array, Tale.text, array.label("again"))):
        for row in await rows(db, select(*entities).order_by(Tale.id)):
            key = row[0].id if isinstance(row[0], Tale) else row[0]
            if TEXTS[key] is None:
                assert row[1] is None
                continue
            for output in (row[1], row[-1]) if len(row) == 4 else (row[1],):
                assert output.dtype == np.float32
                np.testing.assert_array_equal(np.arange(LENGTHS[key]), output)


async def test_outputs_of_joined_documents(db: AsyncDB, real: bool) -> None:
    """`of` names the class, or an alias of it; without a document there is no output."""
    await fill(db)
    joined = select(Remark.id, outputs("lengths", of=Tale)).join(Tale, Remark.tale_id == Tale.id, outer=True)
    assert [(n, LENGTHS.get(n // 2)) for n in range(20)] == sorted(await rows(db, joined))
    if not real:
        return
    other = aliased(Tale, "other")
    twice = (
        select(Tale.id, length, outputs("lengths", of=other))
        .join(other, other.id == Tale.id + 1)
        .where(length < outputs("lengths", of=other))
    )
    wanted = {(key, one, LENGTHS[key + 1]) for key, one in LENGTHS.items() if one < LENGTHS.get(key + 1, -1)}
    assert wanted == set(await rows(db, twice))


async def test_after_a_vector_search(db: AsyncDB) -> None:
    """What was found can be filtered by outputs, and has them beside it."""
    await fill(db)
    nearest = select(Tale.id, length, score()).like(np.array([1.0, 0.0]), k=5).where(length > 0)
    found = await rows(db, nearest)
    assert [(1, 1), (2, 3), (3, 2), (4, 5)] == [row[:2] for row in found]
    assert sorted((row[2] for row in found), reverse=True) == [row[2] for row in found]


async def test_in_lists_facets_and_unions(db: AsyncDB, real: bool) -> None:
    """Statements inside others have outputs of their own documents."""
    await fill(db)
    facets = select(Tale).facet(
        short=select(Tale.id, length).where(length < 2), all=select(func.count()).select_from(Tale)
    )
    ((short, _),) = await rows(db, facets)
    assert {(0, 0), (1, 1)} == {tuple(row) for row in short}
    if not real:
        return
    tales = select(Tale.id, length).where(Tale.id == Remark.tale_id).as_list().label("tales")
    found = await rows(db, select(Remark.id, tales).where(Remark.id < 3).order_by(Remark.id))
    assert [(0, [(0, 0)]), (1, [(0, 0)]), (2, [(1, 1)])] == [(key, [tuple(row) for row in of]) for key, of in found]
    united = select(Tale.id, length).where(Tale.id < 2).union_all(select(Tale.id, length).where(Tale.id == 4))
    assert {(0, 0), (1, 1), (4, 5)} == set(await rows(db, united))


async def test_datasets_and_plans(db: AsyncDB, real: bool) -> None:
    """A dataset can be chosen by outputs, and explained is what was sent."""
    await fill(db)
    added = await db.add(Dataset("long", select=select(Tale).where(length > 1)))
    assert {key for key, one in LENGTHS.items() if one > 1} == {tale.id for tale in added}
    assert 0 == (await db.load("dataset", "long")).version
    if real:
        explained = await db.explain(select(Tale.id, length))
        assert "aggregate" == explained.strategy
        assert {"$literal": 0} == explained.reads[0].pipeline[0]["$set"]["__output"]["version"]


async def test_merged(db: AsyncDB, real: bool) -> None:
    """Outputs can be written into documents."""
    await fill(db)
    if not real:
        return
    async with AsyncSession(db) as session:
        await session.execute(select(Tale.id.label("_id"), length.label("n")).merge_into("joined_merged"))
    found = await db.parts.data_backend.read(Find("joined_merged"))
    assert {n: LENGTHS.get(n) for n in range(len(TEXTS))} == {one["_id"]: one.get("n") for one in found}


async def test_what_is_recorded_is_computed_first(db: AsyncDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A select never shows the output of an earlier state."""
    await fill(db)
    with monkeypatch.context() as dying:
        dying.setattr(AsyncListeners, "follow", _nothing)
        async with db.begin() as session:
            (await session.get_one(Tale, 1)).text = "longer"
            await session.execute(delete(Tale).where(Tale.id == 2))
    assert (1, 6) in await rows(db, select(Tale.id, length))
    async with db.begin() as session:
        await session.execute(update(Tale).where(Tale.id == 3).values(text="as it is"))
        await session.commit()
        assert {(4, 5), (1, 6), (3, 8)} == {
            tuple(row) for row in (await session.execute(select(Tale.id, length).where(length > 4))).all()
        }


async def _nothing(self: Any, paths: Any) -> None:
    """A program that died."""


async def test_in_a_transaction(db: AsyncDB, real: bool) -> None:
    """There outputs are those of what was committed before it."""
    await fill(db)
    async with db.begin() as session:
        (await session.get_one(Tale, 1)).text = "longer"
        await session.flush()
        (found,) = (await session.execute(select(Tale.text, length).where(Tale.id == 1))).all()
        assert ("longer", 1 if real else 6) == tuple(found)
    assert [("longer", 6)] == await rows(db, select(Tale.text, length).where(Tale.id == 1))


async def test_versions(db: AsyncDB) -> None:
    """The newest version of which all outputs are there is meant, of the same statement too."""
    await fill(db)
    statement = select(Tale.id, length).where(Tale.id == 4)
    assert [(4, 5)] == await rows(db, statement)
    await db.add(Model("length", str.upper))
    await db.add(Listener("lengths", model="length", select=select(Tale), key=Tale.text))
    assert [(4, "GHIJK")] == await rows(db, statement)
    await db.remove("listener", "lengths")
    with pytest.raises(ComponentNotFoundError, match="no listener 'lengths'"):
        await rows(db, statement)


def test_it_is_one_lookup() -> None:
    """However often the statement names the output; it is stored and pickled as others are."""
    statement = select(Tale, length).where(outputs("lengths") > 1).order_by(outputs("lengths"))
    stages = statement.pipeline()
    assert 1 == sum("$lookup" in stage for stage in stages)
    assert {"$outputs": "lengths"} == stages[0]["$set"]["__output"]["version"]
    assert stages == Select.from_dict(statement.to_dict()).pipeline()
    keyed = select(Remark.id, outputs("facts", of=Tale)["first"]).join(Tale, Remark.tale_id == Tale.id)
    assert keyed.pipeline() == Select.from_dict(keyed.to_dict()).pipeline()


@pytest.mark.parametrize(
    "stage",
    [{"$set": "x"}, {"$facet": {"a": "b"}}, {"$lookup": 3}, {"$facet": {"a": [3, {"$set": 1, "$match": 2}]}}],
)
def test_raw_stages_are_left_as_they_are(stage: dict[str, Any]) -> None:
    """What is no stage in them is for the server to refuse."""
    pipeline = select(Tale, length).stage(stage).pipeline()
    assert stage in pipeline
    read = with_versions(Aggregate("joined_tales", pipeline), {"lengths": 3})
    assert isinstance(read, Aggregate)
    assert stage in read.pipeline


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: outputs(""), "takes the name of a listener"),
        (lambda: outputs(3), "takes the name of a listener"),  # type: ignore[call-overload]
        (lambda: outputs("lengths", of=3), "takes a document class"),  # type: ignore[call-overload]
        (lambda: outputs("facts")["a.b"], "text without dots"),
        (lambda: outputs("facts")["$a"], "text without dots"),
        (lambda: select(length).pipeline(), "select_from"),
        (lambda: select(Tale, outputs("lengths", of=Remark)).pipeline(), "Remark is not in the rows; join it first"),
        (
            lambda: select(Tale.text, func.count()).group_by(Tale.text).having(length > 1).pipeline(),
            "not of grouped rows",
        ),
        (lambda: select(Tale).where(length > 1).like([1.0, 2.0]).pipeline(), "nor before .like"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    """What cannot be is refused when the statement is made, or compiled."""
    with pytest.raises(StatementError, match=message):
        make()


async def test_statements_that_write(db: AsyncDB) -> None:
    """Their conditions are on documents alone."""
    await fill(db)
    for statement in (update(Tale).where(length > 1).values(text=""), delete(Tale).where(length > 1)):
        async with AsyncSession(db) as session:
            with pytest.raises(StatementError, match=r"outputs\('lengths'\) is of documents in a select"):
                await session.execute(statement)
    assert len(TEXTS) == len(await rows(db, select(Tale.id)))
