"""Search by vectors: in order, with the right scores, among the right documents, and of what is there now."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superorm import DB, Model, Session, StatementError, UnsupportedError, VectorError, delete, score, select, update
from tests.ancestor.classes import TEXTS, Letter, Letters, Point, cosine, ranked
from tests.ancestor.elsewhere import nearest
from tests.ancestor.world import World
from tests.databases import drop_database

METRICS = ["cosine", "dot", "euclidean"]


def fill(db: DB, count: int = len(TEXTS)) -> None:
    """Letters, of which each third is of the kind ``a``."""
    db.add(Model("letters", Letters()))
    with db.begin() as session:
        session.add_all([Letter(id=key, text=text, kind="abc"[key % 3]) for key, text in enumerate(TEXTS[:count])])


def found(db: DB, statement: Any) -> list[int]:
    """The keys of the letters that a statement finds."""
    with db.session() as session:
        return [letter.id for letter in session.scalars(statement).all()]


def like(query: Any, k: int = 10, **options: Any) -> Any:
    return select(Letter).like(query, on=Letter.vec, k=k, **options)


def letters(world: World, **having: Any) -> list[dict[str, Any]]:
    """The stored letters that have these values."""
    return [one for one in world.documents("ancestor_letters") if having.items() <= one.items()]


def test_results_come_nearest_first(world: World, db: DB) -> None:
    """And of these `limit` takes the best."""
    fill(db)
    assert world.engine == db.explain(like("tea")).engine
    for query in ("heat rain", "tea", "xyz fire"):
        expected = ranked(letters(world), query)
        assert expected[:10] == found(db, like(query))
        assert expected[:1] == found(db, like(query).limit(1))
        assert expected[2:4] == found(db, like(query).offset(2).limit(2))


def test_a_text_is_its_own_best_match(world: World, db: DB) -> None:
    """With a cosine above 0.999999."""
    fill(db)
    with db.session() as session:
        for text in TEXTS[::4]:
            best, similarity = session.execute(select(Letter, score()).like(text, on=Letter.vec, k=1)).all()[0]
            assert cosine(str(best.text), text) > 0.999999
            assert 2 * similarity - 1 > 0.999999


def test_more_like_a_document(world: World, db: DB) -> None:
    """A document that was got by its key is a query, and left out itself; a key is none, and the error says so."""
    fill(db)
    with db.session() as session:
        letter = session.get_one(Letter, 3)
        similar = [one.id for one in session.scalars(like(letter, 5)).all()]
        with pytest.raises(StatementError, match=r"got int 3, but Letter.vec is computed from Letter.text"):
            session.scalars(like(3, 5)).all()
    others = [one for one in letters(world) if one["_id"] != 3]
    assert ranked(others, TEXTS[3])[:5] == similar


def test_zero_vectors_have_no_score(world: World, db: DB) -> None:
    """Under cosine, documents with one are left out; as a query it is refused; no score is NaN."""
    fill(db, 5)
    with db.begin() as session:
        session.add_all([Letter(id=90, text=""), Letter(id=91, text=None)])
    with db.session() as session:
        rows = session.execute(select(Letter, score()).like("heat", on=Letter.vec, k=100)).all()
        assert [0, 1, 2, 3, 4] == sorted(letter.id for letter, _ in rows)
        assert all(math.isfinite(similarity) for _, similarity in rows)
        with pytest.raises(VectorError, match="zero"):
            session.scalars(like(np.zeros(26))).all()
    assert 7 == len(letters(world))


def test_only_the_given_keys_are_searched(world: World, db: DB) -> None:
    """The nearest of these, however near others are."""
    fill(db)
    keys = [19, 2, 11, 7]
    among = [one for one in letters(world) if one["_id"] in keys]
    statement = select(Letter).where(Letter.id.in_(keys)).like(TEXTS[0], on=Letter.vec, k=3)
    assert ranked(among, TEXTS[0])[:3] == found(db, statement)


def test_conditions_before_and_after(world: World, db: DB) -> None:
    """After `like` a condition leaves some of the four, before it there are four that it holds for."""
    fill(db)
    query = TEXTS[0]
    four = ranked(letters(world), query)[:4]
    some = [key for key in four if key % 3 == 0]
    assert len(some) < 4
    assert some == found(db, like(query, 4).where(Letter.kind == "a"))
    before = select(Letter).where(Letter.kind == "a").like(query, on=Letter.vec, k=4)
    assert ranked(letters(world, kind="a"), query)[:4] == found(db, before)


def similarity(metric: str, one: np.ndarray, other: np.ndarray) -> float:
    """The score of two vectors, as MongoDB defines it."""
    dot = float(one @ other)
    if metric == "euclidean":
        return 1 / (1 + float(np.linalg.norm(one - other)))
    return (1 + (dot if metric == "dot" else dot / float(np.linalg.norm(one) * np.linalg.norm(other)))) / 2


def unit_vectors(count: int) -> np.ndarray:
    vectors = np.random.default_rng(3).standard_normal((count, 3))
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype("f4")


def points(db: DB, vectors: np.ndarray) -> None:
    with db.begin() as session:
        session.add_all([Point(id=f"p{n}", **dict.fromkeys(METRICS, one)) for n, one in enumerate(vectors)])


def scores(db: DB, metric: str, query: Any, k: int = 100) -> list[tuple[str, float]]:
    with db.session() as session:
        statement = select(Point, score()).like(query, on=getattr(Point, metric), k=k)
        return [(point.id, one) for point, one in session.execute(statement).all()]


def test_metrics_agree_on_unit_vectors(db: DB) -> None:
    """Their order is the same; each score is its own formula's, and larger where the vectors are nearer."""
    vectors = unit_vectors(20)
    points(db, vectors)
    query = vectors[0]
    orders: list[list[str]] = []
    for metric in METRICS:
        rows = scores(db, metric, query)
        assert 20 == len(rows)
        expected = {
            f"p{n}": similarity(metric, query.astype(float), one.astype(float)) for n, one in enumerate(vectors)
        }
        assert dict(rows) == pytest.approx(expected, abs=1e-6)
        assert sorted((one for _, one in rows), reverse=True) == [one for _, one in rows]
        orders.append([key for key, _ in rows])
    assert orders[0] == orders[1] == orders[2]
    assert "p0" == orders[0][0]


def test_an_update_replaces_the_vector(world: World, db: DB) -> None:
    """However often: the document is found once, with the score of the last one."""
    vectors = unit_vectors(8)
    points(db, vectors[:5])
    db.rebuild(Point.cosine)
    for vector in vectors[5:]:
        with db.begin() as session:
            session.get_one(Point, "p2").cosine = vector
    with db.begin() as session:
        session.execute(update(Point).where(Point.id == "p3").values(cosine=vectors[6]))
    now = [vectors[0], vectors[1], vectors[7], vectors[6], vectors[4]]
    expected = {f"p{n}": similarity("cosine", vectors[0], one) for n, one in enumerate(now)}
    rows = scores(db, "cosine", vectors[0])
    assert 5 == len(rows)
    assert dict(rows) == pytest.approx(expected, abs=1e-6)
    db.rebuild(Point.cosine)
    assert world.indexed("cosine") in {5, None}
    assert dict(rows) == dict(scores(db, "cosine", vectors[0]))


def test_deleted_documents_are_never_found(world: World, db: DB) -> None:
    """One of a session, many of a statement; the deletion raises nothing, and other DBs do not find them either."""
    fill(db)
    db.rebuild(Letter.vec)
    assert world.indexed("vec") in {20, None}
    assert 20 == len(found(db, like("heat", 100)))
    with db.begin() as session:
        session.delete(session.get_one(Letter, 0))
    assert 19 == len(found(db, like("heat", 100)))
    with db.begin() as session:
        assert 9 == session.execute(delete(Letter).where(Letter.id < 10)).matched
    expected = ranked(letters(world), "heat")
    assert 10 == len(expected)
    assert expected == found(db, like("heat", 100))
    with world.opened() as other:
        assert expected == found(other, like("heat", 100))
    assert db.check(Letter).ok
    db.rebuild(Letter.vec)
    assert world.indexed("vec") in {10, None}
    assert expected == found(db, like("heat", 100))


def test_texts_are_keys(db: DB) -> None:
    """Those too that look like an ObjectId, a number, a path or a quotation."""
    keys = ["507f1f77bcf86cd799439011", "17", "a/b.c", "$x", 'it\'s "q"', "日本語"]
    vectors = unit_vectors(len(keys))
    with db.begin() as session:
        session.add_all([Point(id=key, cosine=one) for key, one in zip(keys, vectors, strict=True)])
    for key, one in zip(keys, vectors, strict=True):
        assert [key] == [best for best, _ in scores(db, "cosine", one, 1)]
    with db.session() as session:
        statement = select(Point).where(Point.id.in_(keys[:2])).like(vectors[2], on=Point.cosine, k=10)
        assert set(keys[:2]) == {one.id for one in session.scalars(statement).all()}


def test_a_process_that_starts_now_finds_all(world: World, db: DB) -> None:
    """What was written before it, without being asked to build anything."""
    fill(db, 15)
    db.rebuild(Letter.vec)
    with db.begin() as session:
        session.add_all([Letter(id=key, text=text) for key, text in enumerate(TEXTS) if key >= 15])
    assert ranked(letters(world), "tea fire")[:7] == world.elsewhere(nearest, "tea fire", 7)


def test_what_was_added_is_found_at_once(world: World, db: DB) -> None:
    """By the DB that wrote it and by one that has searched before."""
    fill(db, 5)
    with world.opened() as other:
        assert 5 == len(found(other, like("zzz", 9)))
        with db.begin() as session:
            session.add(Letter(id=50, text="zzz"))
        assert [50] == found(db, like("zzz", 1)) == found(other, like("zzz", 1))


def test_an_index_is_there_again_after_a_restart(world: World, db: DB) -> None:
    """Also where the vector database is lost, which is a copy: it is made anew of the documents."""
    fill(db)
    expected = ranked(letters(world), "soup")[:5]
    assert expected == found(db, like("soup", 5))
    db.close()
    with world.opened() as again:
        assert expected == found(again, like("soup", 5))
    if world.settings["vector_database"].startswith("lancedb:"):
        shutil.rmtree(Path(world.settings["vector_database"].removeprefix("lancedb://")))
    with world.opened() as again:
        assert expected == found(again, like("soup", 5))


def test_an_index_is_gone_with_its_database(world: World, db: DB) -> None:
    """Nothing of it is found in a new database of the same name with the same vector database."""
    fill(db)
    assert 20 == len(found(db, like("soup", 100)))
    db.close()
    drop_database(world.plain, world.name)
    with world.opened() as again:
        again.add(Model("letters", Letters()))
        assert [] == found(again, like("soup", 100))
        with again.begin() as session:
            session.add(Letter(id=3, text="ice"))
        assert [3] == found(again, like("soup", 100))


def test_what_was_rolled_back_is_not_found(world: World, db: DB) -> None:
    """Where there are transactions; elsewhere what was flushed is written, and who needs more is told so at once."""
    fill(db, 3)
    if not db.capabilities.transactions:
        with pytest.raises(UnsupportedError, match="transaction"):
            Session(db, require_transaction=True)
        return
    with Session(db, require_transaction=True) as session:
        session.add(Letter(id=50, text="zzz"))
        session.flush()
        session.rollback()
    assert 3 == len(letters(world))
    assert [0, 1, 2] == sorted(found(db, like("zzz", 100)))
