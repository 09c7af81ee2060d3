"""Outputs of listeners: each by its document, there when a write returns, and gone with what they are of."""

from __future__ import annotations

import random
from typing import Any

import pytest

from superorm import (
    DB,
    ComponentNotFoundError,
    Listener,
    Model,
    PredictionError,
    Session,
    StatementError,
    ValidationError,
    delete,
    outputs,
    select,
    update,
)
from tests.ancestor.classes import Letter, Letters, LongTale, Note, Tale
from tests.ancestor.world import World


def length(text: str) -> int:
    """A model that fails for one text."""
    if text == "bad":
        raise ValueError("a bad text")
    return len(text)


def lengths(world: World) -> dict[int, int]:
    """The outputs that there should be, of the documents as they are stored."""
    return {one["_id"]: len(one["text"]) for one in world.documents("ancestor_tales")}


def listen(db: DB, name: str = "lengths") -> Listener:
    return db.add(Listener(name, model=Model("length", length), select=select(Tale), key=Tale.text))


def fill(db: DB, *keys: int) -> None:
    """Tales as long as their key says."""
    with db.begin() as session:
        session.add_all([Tale(id=key, text="x" * key) for key in keys])


def test_outputs_belong_to_their_documents(world: World, db: DB) -> None:
    """Whatever the order in which documents were inserted, are found and are computed."""
    keys = random.Random(4).sample(range(1, 60), 40)
    fill(db, *keys[:20])
    model = Model("length", Lengthy(), batch_size=7)
    db.add(Listener("lengths", model=model, select=select(Tale), key=Tale.text))
    fill(db, *keys[20:])
    assert {key: key for key in keys} == world.outputs("lengths")
    with Session(db) as session:
        for tale in session.scalars(select(Tale).where(Tale.id.in_(keys[::-2]))).all():
            tale.text += "y" * tale.id
        session.commit()
    changed = {key: 2 * key if key in keys[::-2] else key for key in keys}
    assert changed == lengths(world) == world.outputs("lengths")
    assert changed == dict(db.outputs("lengths").items())


class Lengthy:
    """A model of batches."""

    def predict(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


def test_documents_of_several_kinds_are_written_at_once(world: World, db: DB) -> None:
    """All of them are stored, and those that a listener listens to have outputs."""
    listen(db)
    with db.begin() as session:
        session.add_all([Note(id=1), Tale(id=2, text="two"), LongTale(id=3, text="three"), Note(id=4)])
    assert [1, 4] == sorted(one["_id"] for one in world.documents("ancestor_notes"))
    assert {2: 3, 3: 5} == world.outputs("lengths")


def test_a_bad_document_is_found_before_any_is_written(world: World, db: DB) -> None:
    """Nothing of the others is there, of whatever kind, and no output."""
    listen(db)
    bad: Any = 2**70
    with Session(db) as session:
        session.add_all([Note(id=1), Tale(id=2, text="two"), Note(id=3, number=bad)])
        with pytest.raises(ValidationError, match="number"):
            session.commit()
    assert [] == world.documents("ancestor_notes") + world.documents("ancestor_tales")
    assert {} == world.outputs("lengths")


def test_nothing_is_dropped_that_was_not_asked_for(world: World, db: DB) -> None:
    """A statement without a condition does not delete, nor does setting up a database that has other indexes."""
    fill(db, 1, 2, 3)
    tales = world.plain[world.name]["ancestor_tales"]
    tales.create_index("of_others")
    with pytest.raises(StatementError, match=r"\.all\(\)"), db.begin() as session:
        session.execute(delete(Tale))
    db.create_all(Tale)
    assert [1, 2, 3] == sorted(one["_id"] for one in tales.find({}))
    assert "of_others_1" in tales.index_information()
    with db.begin() as session:
        session.execute(delete(Tale).all())
    assert [] == list(tales.find({}))


def test_statements_leave_what_they_were_given_alone(db: DB) -> None:
    """Lists and dicts of the caller, and the statement itself, are the same after it ran as before, twice."""
    fill(db, 1, 2, 3)
    keys, stage = [3, 2], {"$match": {"_id": {"$gt": 0}, "$or": [{"text": {"$exists": True}}]}}
    statement = select(Tale).where(Tale.id.in_(keys)).order_by(Tale.id)
    staged = statement.stage(stage)
    before = [repr(one) for one in (keys, stage, statement.pipeline(), staged.pipeline())]
    with db.session() as session:
        for _ in range(2):
            assert [2, 3] == [tale.id for tale in session.scalars(statement).all()]
            assert [2, 3] == [row.id for row in session.scalars(staged).all()]
    assert before == [repr(one) for one in (keys, stage, statement.pipeline(), staged.pipeline())]


def test_inserts_have_outputs_when_they_return(world: World, db: DB) -> None:
    """Those of a session, and in bulk; and a session that fails leaves none."""
    listen(db)
    fill(db, 1, 2)
    assert {1: 1, 2: 2} == world.outputs("lengths")
    with db.begin() as session:
        session.bulk_insert([Tale(id=key, text="z" * key) for key in (5, 6)])
    assert lengths(world) == {1: 1, 2: 2, 5: 5, 6: 6} == world.outputs("lengths")


def test_updates_refresh_outputs(world: World, db: DB) -> None:
    """A changed object, an update statement and what it does to vectors."""
    listen(db)
    db.add(Model("letters", Letters()))
    fill(db, 1, 2, 3)
    with db.begin() as session:
        session.add(Letter(id=1, text="aab"))
    with db.begin() as session:
        session.get_one(Tale, 1).text = "changed"
        session.get_one(Letter, 1).text = "zzz"
        session.execute(update(Tale).where(Tale.id == 3).values(text="stated"))
    assert lengths(world) == {1: 7, 2: 2, 3: 6} == world.outputs("lengths")
    (stored,) = world.documents("ancestor_letters")
    assert [0.0] * 25 + [3.0] == list(stored["vec"].as_vector().data)


def test_deletions_take_outputs_with_them(world: World, db: DB) -> None:
    """Of one document and of many, without an error after the deed."""
    listen(db)
    fill(db, 1, 2, 3, 4)
    with db.begin() as session:
        session.delete(session.get_one(Tale, 2))
    assert {1: 1, 3: 3, 4: 4} == world.outputs("lengths")
    with db.begin() as session:
        session.execute(delete(Tale).where(Tale.id > 2))
    assert lengths(world) == {1: 1} == world.outputs("lengths")


def test_listeners_chain(world: World, db: DB) -> None:
    """Five documents have ten outputs, and ten have twenty."""
    fill(db, *range(1, 6))
    listen(db)
    db.add(Listener("doubles", model=Model("double", double), listener="lengths"))
    assert 10 == len(world.documents("_superorm_outputs"))
    fill(db, *range(6, 11))
    assert 20 == len(world.documents("_superorm_outputs"))
    assert {key: 2 * key for key in range(1, 11)} == world.outputs("doubles")


def double(number: int) -> int:
    return 2 * number


def test_a_removed_listener_takes_its_outputs_with_it(world: World, db: DB) -> None:
    """And nothing is computed for it any more."""
    fill(db, 1, 2)
    listen(db)
    listen(db, "others")
    db.remove("listener", "lengths")
    fill(db, 3)
    assert {} == world.outputs("lengths")
    assert {1: 1, 2: 2, 3: 3} == world.outputs("others")
    with pytest.raises(ComponentNotFoundError):
        db.outputs("lengths")


def test_a_listener_that_fails_leaves_nothing(world: World, db: DB) -> None:
    """Neither itself nor its model, nor outputs, nor, after a collection, a blob."""
    with db.begin() as session:
        session.add_all([Tale(id=1, text="good"), Tale(id=2, text="bad")])
    with pytest.raises(PredictionError, match="a bad text"):
        listen(db)
    assert ([], [], {}) == (db.show("model"), db.show("listener"), world.outputs("lengths"))
    assert db.check().ok
    world.collect()
    assert {} == world.blobs()


def test_adding_a_listener_computes_once(world: World, db: DB) -> None:
    """Adding the same instance again, or one like it, asks the model nothing."""
    fill(db, 1, 2, 3)
    asked.clear()
    listener = Listener("lengths", model=Model("asked", Asked(), fingerprint="a"), select=select(Tale), key=Tale.text)
    assert 0 == db.add(listener).version
    assert ["x", "xx", "xxx"] == sorted(asked)
    assert 0 == db.add(listener).version
    again = Listener("lengths", model=Model("asked", Asked(), fingerprint="a"), select=select(Tale), key=Tale.text)
    assert 0 == db.add(again).version
    assert 3 == len(asked)
    assert {1: 1, 2: 2, 3: 3} == world.outputs("lengths")


asked: list[str] = []


class Asked:
    """A model that remembers what it was asked."""

    def predict(self, texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [len(text) for text in texts]


def test_any_name_has_outputs(world: World, db: DB) -> None:
    """Those with dots and slashes too: they are stored, mapped, joined, chained and removed."""
    name = "$a b.c/d\\e"
    fill(db, 1, 2)
    db.add(Listener(name, model=Model(f"m.{name}", length), select=select(Tale), key=Tale.text))
    db.add(Listener(f"{name}.", model=Model("double", double), listener=name))
    fill(db, 3)
    assert {1: 1, 2: 2, 3: 3} == world.outputs(name) == dict(db.outputs(name).items())
    assert {1: 2, 2: 4, 3: 6} == world.outputs(f"{name}.")
    with db.session() as session:
        joined = session.execute(select(Tale.id, outputs(name)).order_by(Tale.id)).all()
    assert [(1, 1), (2, 2), (3, 3)] == [tuple(row) for row in joined]
    db.remove("listener", f"{name}.")
    db.remove("listener", name)
    assert [] == world.documents("_superorm_outputs")
