"""Indexes as components, of the outputs of a listener: what the index of a vector field promises, they do too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from superorm import (
    DB,
    ComponentInUseError,
    ComponentNotFoundError,
    Document,
    Listener,
    Mapped,
    Model,
    VectorError,
    VectorIndex,
    delete,
    field,
    score,
    select,
)
from tests.ancestor.classes import TEXTS, Letters, cosine, ranked
from tests.ancestor.world import World

NAME = "by/text.1"


class Verse(Document):
    """A text under a text as key."""

    __collection__ = "ancestor_verses"

    id: Mapped[str] = field(primary_key=True)
    text: Mapped[str]
    kind: Mapped[str] = field(default="")


@pytest.fixture
def filled(db: DB) -> DB:
    """With an index of verses, some of which came before it, and some after it."""
    with db.begin() as session:
        session.add_all([verse(number) for number in range(12)])
    listener = Listener("texts", model=Model("letters", Letters()), select=select(Verse), key=Verse.text)
    db.add(VectorIndex(NAME, listener=listener))
    with db.begin() as session:
        session.add_all([verse(number) for number in range(12, len(TEXTS))])
    return db


def verse(number: int) -> Verse:
    return Verse(id=f"v{number:02}", text=TEXTS[number], kind="abc"[number % 3])


def like(query: Any, k: int = 100) -> Any:
    return select(Verse).like(query, on=NAME, k=k)


def found(db: DB, statement: Any) -> list[str]:
    with db.session() as session:
        return [one.id for one in session.scalars(statement).all()]


def stored(world: World, **having: Any) -> list[dict[str, Any]]:
    return [one for one in world.documents("ancestor_verses") if having.items() <= one.items()]


def test_a_text_is_found_by_itself(world: World, filled: DB) -> None:
    """Nearest first, with the right scores, and the best has a cosine above 0.999999."""
    with filled.session() as session:
        for text in TEXTS[::5]:
            statement = select(Verse, score()).like(text, on=NAME, k=100)
            rows = [(one.id, one.text, value) for one, value in session.execute(statement).all()]
            assert ranked(stored(world), text) == [key for key, _, _ in rows]
            assert [(1 + cosine(text, other)) / 2 for _, other, _ in rows] == pytest.approx([one[2] for one in rows])
            assert 2 * rows[0][2] - 1 > 0.999999
            assert ranked(stored(world), text)[:1] == found(filled, like(text).limit(1))


def test_conditions_and_documents(world: World, filled: DB) -> None:
    """Conditions before and after, keys that are given, a document that is a query, and what is none."""
    query = TEXTS[0]
    four = ranked(stored(world), query)[:4]
    kinds = {one["_id"]: one["kind"] for one in stored(world)}
    assert [key for key in four if kinds[key] == "a"] == found(filled, like(query, 4).where(Verse.kind == "a"))
    before = select(Verse).where(Verse.kind == "a").like(query, on=NAME, k=4)
    assert ranked(stored(world, kind="a"), query)[:4] == found(filled, before)
    keys = ["v19", "v02", "v11", "v07"]
    given = select(Verse).where(Verse.id.in_(keys)).like(query, on=NAME, k=3)
    assert ranked([one for one in stored(world) if one["_id"] in keys], query)[:3] == found(filled, given)
    with filled.session() as session:
        one = session.get_one(Verse, "v03")
        others = [other for other in stored(world) if other["_id"] != "v03"]
        assert ranked(others, one.text)[:5] == [other.id for other in session.scalars(like(one, 5))]
        with pytest.raises(VectorError, match="zero"):
            session.scalars(like(np.zeros(26))).all()
        with pytest.raises(ComponentNotFoundError, match="no_such"):
            session.scalars(select(Verse).like("a", on="no_such", k=1)).all()


def test_what_is_changed_and_deleted(world: World, filled: DB) -> None:
    """It is found at once as it is now, once, here and by another DB that has searched before; a rest never is."""
    with world.opened() as other:
        assert 20 == len(found(other, like("tea")))
        with filled.begin() as session:
            session.get_one(Verse, "v04").text = "zzzz"
            session.add(Verse(id="new", text="zz z"))
            session.add(Verse(id="empty", text=""))
            session.delete(session.get_one(Verse, "v00"))
        with filled.begin() as session:
            session.execute(delete(Verse).where(Verse.id.between("v10", "v13")))
        expected = ranked([one for one in stored(world) if one["text"]], "zz")
        assert 16 == len(expected)
        assert {"v04", "new"} == {*expected[:2]}
        assert expected == found(filled, like("zz")) == found(other, like("zz"))
        with filled.session() as session:
            rows = session.execute(select(Verse, score()).like("zz", on=NAME, k=100)).all()
            assert all(math.isfinite(value) for _, value in rows)
    assert filled.check(Verse).ok


def test_restarts_and_removal(world: World, filled: DB) -> None:
    """It is there after a restart, its parts are needed while it is, and nothing is left of it afterwards."""
    expected = ranked(stored(world), "soup")[:7]
    filled.rebuild(NAME)
    with world.opened() as again:
        assert expected == found(again, like("soup", 7))
        with pytest.raises(ComponentInUseError, match="vector_index"):
            again.remove("listener", "texts")
        again.remove("vector_index", NAME, recursive=True)
        assert [] == again.show("vector_index") + again.show("listener") + again.show("model")
        with pytest.raises(ComponentNotFoundError):
            again.load("vector_index", NAME)
    with world.opened() as again, pytest.raises(ComponentNotFoundError, match="by/text"):
        found(again, like("soup"))
    world.collect()
    collections = world.plain[world.name].list_collection_names()
    assert [] == [name for name in collections if name.startswith("_superorm_outputs.")]
    assert {} == world.outputs("texts")
    assert {} == world.blobs()
    assert 20 == len(stored(world))
