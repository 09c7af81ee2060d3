"""Edges of statements, on a real server and where it can on mongomock: against plain PyMongo and plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypedDict

import pytest

from superorm import (
    DB,
    Document,
    Embedded,
    Index,
    Mapped,
    Registry,
    Session,
    StatementError,
    ValidationError,
    WriteError,
    column,
    field,
    func,
    select,
    update,
)
from tests.databases import new_db

CLASSES = Registry()


class Place(TypedDict):
    city: str


class Maker(Embedded):
    name: Mapped[str]
    known: Mapped[bool] = field(default=True)


class Rating(Embedded):
    stars: Mapped[float] = field(name="s")
    votes: Mapped[int] = field(default=0)
    maker: Mapped[Maker | None] = field(default=None)


class Tape(Document, registry=CLASSES):
    __collection__ = "edges"
    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int | None] = field(default=None)
    plays: Mapped[int] = field(default=0)
    rating: Mapped[Rating | None] = field(default=None)
    place: Mapped[Place | None] = field(default=None)
    codes: Mapped[list[int | None]] = field(factory=list)
    more: Mapped[list[int | None]] = field(factory=list)
    grid: Mapped[list[list[int]]] = field(factory=list)
    tags: Mapped[set[str]] = field(factory=set)
    marks: Mapped[set[Any] | None] = field(default=None)
    groups: Mapped[list[set[str]]] = field(factory=list)


class Label(Document, registry=CLASSES):
    __collection__ = "edge_labels"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str]
    tape: Mapped[int | None] = field(default=None)


class Count(Document, registry=CLASSES):
    __collection__ = "edge_counts"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True)


class Needed(Document, registry=CLASSES):
    __collection__ = "edges_needed"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int]
    items: Mapped[list[str]]
    rating: Mapped[Rating]


@pytest.fixture(params=["mongodb", "mongomock"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """An empty database."""
    with new_db("mongomock" if request.param == "mongomock" else mongodb_uri) as db:
        yield db


@pytest.fixture
def server(mongodb_uri: str) -> Iterator[DB]:
    """An empty database on a real server."""
    with new_db(mongodb_uri) as db:
        yield db


def fill(db: DB, *objects: Any) -> None:
    with db.begin() as session:
        session.add_all(objects)


def run(db: DB, statement: Any) -> Any:
    with db.begin() as session:
        return session.execute(statement)


def rows(db: DB, statement: Any) -> list[Any]:
    with Session(db) as session:
        return [tuple(row) for row in session.execute(statement)]


def raw(db: DB, name: str) -> Any:
    """The collection itself."""
    backend = db.parts.data_backend
    return backend.client[backend.name][name]


INCOMPLETE = {
    "Tape.rating.stars": [
        update(Tape).where(Tape.id == 1, Tape.rating.votes == 1).values(plays=1),
        update(Tape).where(Tape.id == 1, Tape.rating.votes == 1).set(Tape.plays.inc(1)),
        update(Tape).where(Tape.id == 1).set(Tape.rating.votes.to(1)),
        update(Tape).where(Tape.id == 1).set(Tape.rating.votes.to(Tape.plays)),
        update(Tape).where(Tape.id == 1, Tape.rating.maker.name == "A").values(plays=1),
    ],
    "Tape.rating.maker.name": [
        update(Tape).where(Tape.id == 1, Tape.rating.stars == 4, Tape.rating.maker.known.in_([True])).values(plays=1),
    ],
    "Needed.n": [
        update(Needed)
        .where(Needed.id == 1)
        .set(Needed.n.inc(1), Needed.items.push("x"), Needed.rating.to(Rating(stars=1.0))),
    ],
    "Needed.items": [
        update(Needed).where(Needed.id == 1, Needed.n == 1, Needed.rating.stars == 1).set(Needed.items.pull("x")),
    ],
    "Needed.rating": [
        update(Needed).where(Needed.id == 1, Needed.n == 1, Needed.items == ["x"]).set(Needed.rating.votes.inc(1)),
    ],
}


@pytest.mark.parametrize(
    ("part", "statement"), [(part, statement) for part, several in INCOMPLETE.items() for statement in several]
)
def test_upserts_that_leave_out_what_documents_need(db: DB, part: str, statement: Any) -> None:
    """They are refused, and write nothing."""
    attribute = part.partition(".")[2]
    with pytest.raises(StatementError, match=rf"needs a value for {attribute}, which has no default"):
        run(db, statement.upsert())
    assert [0, 0] == [raw(db, name).count_documents({}) for name in ("edges", "edges_needed")]


def test_upserts_into_typed_dicts(db: DB) -> None:
    """They need the required keys as well."""
    fill(db, Tape(id=1))
    with pytest.raises(StatementError, match="nothing is there to add to"):
        run(db, update(Tape).where(Tape.rating.stars == 1).set(Tape.rating.votes.inc(1)).upsert())
    run(db, update(Tape).where(Tape.id == 2).set(Tape.place["city"].to("Ulm")).upsert())
    assert {"city": "Ulm"} == raw(db, "edges").find_one({"_id": 2})["place"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (update(Tape).where(Tape.id == 1, Tape.rating.stars == 4).values(plays=2), Rating(stars=4)),
        (
            update(Tape).where(Tape.id == 1, Tape.rating.votes == 3).set(Tape.rating.stars.to(5)),
            Rating(stars=5, votes=3),
        ),
        (
            update(Tape)
            .where(Tape.id == 1, Tape.rating.votes == 3, Tape.rating.stars == 5)
            .set(Tape.rating.votes.inc(1)),
            Rating(stars=5, votes=4),
        ),
        (
            update(Tape).where(Tape.id == 1, Tape.rating == Rating(stars=1, votes=2)).values(plays=3),
            Rating(stars=1, votes=2),
        ),
        (update(Tape).where(Tape.id == 1).set(Tape.rating.votes.inc(1)), None),
        (
            update(Tape).where(Tape.id == 1, Tape.rating.stars == 2, Tape.rating.maker.name == "A").values(plays=1),
            Rating(stars=2, maker=Maker(name="A")),
        ),
    ],
)
def test_upserts_that_give_what_documents_need(server: DB, statement: Any, expected: Rating | None) -> None:
    """What they store can be read."""
    assert 1 == len(run(server, statement.upsert()).upserted_keys)
    with Session(server) as session:
        assert expected == session.get_one(Tape, 1).rating


def test_an_element_by_position_and_its_mirror(server: DB) -> None:
    """Which side the element stands on makes no difference; one that is not there equals nothing, not even null."""
    lists: list[list[int | None]] = [[], [None], [1], [2, 1]]
    tapes = [
        Tape(id=n, number=number, codes=codes, more=more)
        for n, (number, codes, more) in enumerate(product([None, 1], lists, lists))
    ]
    fill(server, *tapes)
    pairs: list[tuple[Any, Any, Any]] = [
        (Tape.codes[0], Tape.number, lambda tape: tape.codes and tape.codes[0] == tape.number),
        (Tape.codes[1], Tape.number, lambda tape: len(tape.codes) > 1 and tape.codes[1] == tape.number),
        (Tape.codes[0], Tape.more[0], lambda tape: tape.codes and tape.more and tape.codes[0] == tape.more[0]),
        (Tape.codes[0], Tape.more[1], lambda tape: tape.codes and len(tape.more) > 1 and tape.codes[0] == tape.more[1]),
    ]
    for one, other, holds in pairs:
        expected = [tape.id for tape in tapes if holds(tape)]
        for equal, unequal in ((one == other, one != other), (other == one, other != one)):
            assert [(key,) for key in expected] == rows(server, select(Tape.id).where(equal).order_by(Tape.id))
            rest = [(tape.id,) for tape in tapes if tape.id not in expected]
            assert rest == rows(server, select(Tape.id).where(unequal).order_by(Tape.id))
    less = [tape.id for tape in tapes if len(tape.codes) > 0 and (tape.codes[0] or 9) < (tape.number or 0)]
    for condition in (Tape.codes[0] < Tape.number, Tape.number > Tape.codes[0]):
        assert [(key,) for key in less] == rows(server, select(Tape.id).where(condition).order_by(Tape.id))


def test_lists_of_lists_are_unwound_again_after_a_facet(db: DB) -> None:
    """Each further unwinding gives the elements of the elements."""
    grids = [[[1, 2], [3]], [[], [5]], []]
    fill(db, *(Tape(id=n, grid=grid) for n, grid in enumerate(grids)))
    whole = select(Tape).facet(x=select(Tape.grid).order_by(Tape.id)).unwind(column("x"))
    assert [(grid,) for grid in grids] == rows(db, whole)
    lines = [line for grid in grids for line in grid]
    numbers = [number for line in lines for number in line]
    assert [(line,) for line in lines] == rows(db, whole.unwind(column("x")))
    assert [(number,) for number in numbers] == rows(db, whole.unwind(column("x")).unwind(column("x")))
    items = select(Tape).unwind(Tape.grid).facet(x=select(Tape.grid.item()).order_by(Tape.id)).unwind(column("x"))
    assert [(line,) for line in lines] == rows(db, items)
    assert [(number,) for number in numbers] == rows(db, items.unwind(column("x")))
    several = select(Tape).facet(x=select(Tape.id, Tape.grid)).unwind(column("x")).unwind(column("x"))
    with pytest.raises(StatementError, match="were unwound already"):
        several.pipeline()


def test_what_is_added_to_sets_stands_in_their_order(server: DB) -> None:
    """So a set equals itself afterwards, in conditions too."""
    fill(server, Tape(id=1, tags={"m", "t"}, marks={3, "b"}, groups=[{"c"}]), Tape(id=2), Tape(id=3, tags={"x"}))
    run(
        server,
        update(Tape)
        .where(Tape.id < 3)
        .set(Tape.tags.add_to_set("x", "a", "p", "m"), Tape.marks.add_to_set(1, "a", 3.0)),
    )
    expected = {1: {"a", "m", "p", "t", "x"}, 2: {"a", "m", "p", "x"}, 3: {"x"}}
    assert expected == {one["_id"]: set(one["tags"]) for one in raw(server, "edges").find()}
    for key, tags in expected.items():
        assert [(key,)] == rows(server, select(Tape.id).where(Tape.tags == tags))
    assert [(1,)] == rows(server, select(Tape.id).where(Tape.marks == {1, 3, "a", "b"}))
    assert [(2,)] == rows(server, select(Tape.id).where(Tape.marks == {1, 3, "a"}))
    with Session(server) as session:
        assert [{1, 3, "a", "b"}, {1, 3, "a"}, None] == list(session.scalars(select(Tape.marks).order_by(Tape.id)))
    run(server, update(Tape).where(Tape.id == 4).set(Tape.tags.add_to_set("z", "y")).upsert())
    assert ["y", "z"] == raw(server, "edges").find_one({"_id": 4})["tags"]
    run(server, update(Tape).where(Tape.id == 1).set(Tape.groups[0].add_to_set("a")))
    assert {"a", "c"} == set(raw(server, "edges").find_one({"_id": 1})["groups"][0])


def test_a_stored_value_of_the_wrong_type_in_a_join(db: DB) -> None:
    """The error names the document of the statement's own class."""
    fill(db, *(Tape(id=n, number=n) for n in range(3)), *(Label(id=n, text="x", tape=n) for n in range(3)))
    raw(db, "edge_labels").update_one({"_id": 1}, {"$set": {"text": 5}})
    raw(db, "edges").update_one({"_id": 2}, {"$set": {"plays": "x"}})
    for statement, key in (
        (select(Tape.id, Label.text).join(Label, Label.tape == Tape.id), 1),
        (select(Label.text).select_from(Tape).join(Label, Label.tape == Tape.id), 1),
        (select(Tape.plays).join(Label, Label.tape == Tape.number + 0, outer=True), 2),
    ):
        with pytest.raises(ValidationError) as caught:
            rows(db, statement)
        assert (Tape, key) == (caught.value.document_class, caught.value.key)


def test_versions_of_documents_that_are_merged(server: DB) -> None:
    """New documents get version 1, others the next one."""
    fill(server, *(Tape(id=n, plays=n) for n in range(4)), Count(id=1), Count(id=2))
    statement = select(Tape.id, Tape.plays.label("n")).where(Tape.id > 0)
    run(server, statement.merge_into(Count))
    found = {one["_id"]: (one["n"], one["version"]) for one in raw(server, "edge_counts").find()}
    assert {1: (1, 2), 2: (2, 2), 3: (3, 1)} == found
    run(server, statement.merge_into(Count, when_matched="replace"))
    run(server, select(Tape.id, Tape.plays.label("n")).merge_into(Count, when_matched="keepExisting"))
    found = {one["_id"]: (one["n"], one["version"]) for one in raw(server, "edge_counts").find()}
    assert {0: (0, 1), 1: (1, 3), 2: (2, 3), 3: (3, 2)} == found
    with server.begin() as session:
        session.get_one(Count, 3).n = 7
    assert 3 == raw(server, "edge_counts").find_one({"_id": 3})["version"]
    assert [(4,)] == rows(server, select(func.count()).select_from(Count))


def test_a_wildcard_beside_a_field(mongodb_uri: str) -> None:
    """Servers have such indexes since 7.0; the error of those before names collection and index."""

    class Shelf(Document, registry=Registry()):
        __collection__ = "edges_wild"
        __indexes__ = (Index("number", "meta.$**"),)
        number: Mapped[int] = field(default=0)
        meta: Mapped[dict[str, str]] = field(factory=dict)

    with new_db(mongodb_uri) as db:
        backend: Any = db.parts.data_backend
        if backend.client.server_info()["versionArray"][0] < 7:
            with pytest.raises(WriteError, match=r"edges_wild: .*meta\.\$\*\*.* wildcard indexes do not allow"):
                db.create_all(Shelf)
        else:
            db.create_all(Shelf)
            keys = [index["key"] for index in backend.client[backend.name].edges_wild.list_indexes()]
            assert {"number": 1, "meta.$**": 1} in keys
