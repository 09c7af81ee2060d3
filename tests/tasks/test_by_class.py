"""Fields that several classes declare, and lists beside single values, in rows that the server computes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import pytest

import superorm
from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Session,
    StatementError,
    ValidationError,
    case,
    column,
    field,
    func,
    select,
    update,
    window,
)
from tests.databases import new_db

registry = Registry()
AT = datetime(2020, 1, 1, 5, tzinfo=UTC)
DAY = date(2020, 1, 1)


class Hue(Enum):
    RED = "r"


class Circle(Embedded):
    radius: Mapped[float]
    grade: Mapped[int] = field(default=1)
    day: Mapped[date | None] = field(default=DAY)
    hue: Mapped[Hue] = field(default=Hue.RED)
    marks: Mapped[list[int]] = field(factory=lambda: [1])


class Square(Embedded):
    edge: Mapped[float]
    grade: Mapped[str] = field(default="S")
    day: Mapped[datetime | None] = field(default=AT)
    hue: Mapped[str] = field(default="q")
    marks: Mapped[list[str]] = field(factory=lambda: ["m"])


class Drawing(Document, registry=registry):
    __collection__ = "drawings_by_class"
    id: Mapped[int] = field(primary_key=True)
    shape: Mapped[Circle | Square]
    shapes: Mapped[list[Circle | Square]] = field(factory=list)
    mixed: Mapped[list[Circle] | Square | None] = field(default=None)
    both: Mapped[list[Circle | Square] | Circle | Square | None] = field(default=None)
    days: Mapped[list[date] | str | None] = field(default=None)


class Fact(Document, registry=registry):
    __collection__ = "facts_by_class"
    id: Mapped[int] = field(primary_key=True)
    about: Mapped[date | None] = field(default=DAY)
    value: Mapped[int] = field(default=1)


class Note(Fact):
    about: Mapped[datetime | None] = field(default=AT)
    value: Mapped[str] = field(default="v")  # type: ignore[assignment]


class Left(Document, registry=registry):
    __collection__ = "lefts_by_class"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=1)
    day: Mapped[date] = field(default=DAY)
    hue: Mapped[Hue] = field(default=Hue.RED)
    ns: Mapped[list[int]] = field(factory=lambda: [1, 2])
    circle: Mapped[Circle] = field(factory=lambda: Circle(radius=1.0))


class Right(Document, registry=registry):
    __collection__ = "rights_by_class"
    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str] = field(default="y")
    f: Mapped[float] = field(default=2.5)
    m: Mapped[int] = field(default=7)
    at: Mapped[datetime] = field(default=AT)
    word: Mapped[str] = field(default="r")
    words: Mapped[list[str]] = field(factory=lambda: ["a"])
    square: Mapped[Square] = field(factory=lambda: Square(edge=1.0))
    squares: Mapped[list[Square]] = field(factory=lambda: [Square(edge=2.0), Square(edge=3.0)])


ANY: Any = Drawing
FACT: Any = Fact
LEFT: Any = Left
RIGHT: Any = Right


def circle() -> Circle:
    return Circle(radius=1.0)


def square() -> Square:
    return Square(edge=2.0)


def objects() -> list[Drawing]:
    """One with lists, one with single values."""
    lists: dict[str, Any] = {"mixed": [circle()], "both": [circle(), square()], "days": [DAY]}
    one = Drawing(id=1, shape=circle(), shapes=[circle(), square()], **lists)
    return [one, Drawing(id=2, shape=square(), shapes=[square()], mixed=square(), both=circle(), days="x")]


def stored(db: DB, cls: type[Document]) -> Any:
    """The collection of a class, for PyMongo."""
    backend: Any = db.parts.data_backend
    return backend.client[backend.name][cls.__collection__]


def connected(where: str) -> Iterator[DB]:
    """A new database with some documents, and none of it afterwards."""
    facts = [Fact(id=1), Note(id=2), Note(id=3, about=datetime(2020, 1, 1, tzinfo=UTC), value="b")]
    with new_db(where, [*objects(), *facts, Left(id=1), Right(id=1)]) as db:
        yield db


@pytest.fixture(scope="module", params=["mongomock", "mongodb"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """Filled; tests leave it as it is."""
    yield from connected("mongomock" if request.param == "mongomock" else mongodb_uri)


@pytest.fixture(scope="module")
def real(mongodb_uri: str) -> Iterator[DB]:
    """The same on the server alone."""
    yield from connected(mongodb_uri)


def found(db: DB, statement: Any) -> list[Any]:
    with Session(db) as session:
        return session.scalars(statement).all()


def test_computed_values_are_of_their_classes(db: DB) -> None:
    """A number of one class and a text of the other are read as what they are."""
    grade, marks = ANY.shape.grade, ANY.shape.marks
    assert [1, "S"] == found(db, select(grade).distinct().order_by(grade))
    assert [1, "S"] == found(db, select(grade).group_by(grade).order_by(grade))
    assert [[1, "S"]] == found(db, select(func.push(grade)))
    assert [1, "S"] == found(db, select(func.if_null(grade, None)).order_by(Drawing.id))
    assert [1, None] == found(db, select(case((Drawing.id == 1, grade), else_=None)).order_by(Drawing.id))
    assert [1, "S"] == found(db, select(ANY.shapes[0].grade).order_by(Drawing.id))
    assert [[1], ["m"]] == found(db, select(func.if_null(marks, None)).order_by(Drawing.id))
    with Session(db) as session:
        rows = session.execute(select(Drawing.id, grade).then().columns(grade, Drawing.id).order_by(Drawing.id)).all()
        assert [(1, 1), ("S", 2)] == rows


def test_windows_and_unions_are_of_their_classes(real: DB) -> None:
    """So it is in windows, after a union, and of the items of a list."""
    grade = ANY.shape.grade
    last = window(func.last(grade), order_by=[Drawing.id])
    assert ["S", "S"] == found(real, select(last.label("last")))
    assert [1, "S", 1, "S"] == found(real, select(grade).union_all(select(grade)))
    grades: Any = func.map(ANY.shapes, lambda shape: shape.grade)
    assert [[1, "S"], ["S"]] == found(real, select(grades).order_by(Drawing.id))
    days: Any = func.map(ANY.shapes, lambda shape: shape.day)
    with pytest.raises(StatementError, match=r"Circle\.day \(.*\) and Square\.day \(.*\) are stored alike"):
        select(days).pipeline()


@pytest.mark.parametrize("name", ["day", "hue"])
@pytest.mark.parametrize(
    "made",
    [
        lambda path, _: select(path).distinct(),
        lambda path, _: select(func.count(Drawing)).group_by(path).columns(path),
        lambda path, _: select(func.first(path)),
        lambda path, _: select(func.push(path)),
        lambda path, _: select(Drawing.id, func.if_null(path, None)),
        lambda path, _: select(case((Drawing.id == 1, path), else_=None)),
        lambda path, _: select(path).union_all(select(path)),
        lambda path, _: select(window(func.first(path), order_by=[Drawing.id]).label("w")),
        lambda path, _: select(Drawing.id, select(func.max(path)).as_list().label("all")),
        lambda path, _: select(Drawing).facet(all=select(func.max(path))),
        lambda _, name: select(getattr(ANY.shapes[0], name)),
        lambda _, name: select(getattr(ANY.mixed, name)).unwind(ANY.mixed),
    ],
)
def test_what_is_stored_alike_is_refused(made: Callable[[Any, str], Any], name: str) -> None:
    """Where a computed row does not tell of which class a value is, the statement names both classes."""
    with pytest.raises(StatementError, match=rf"Circle\.{name} \(.*\) and Square\.{name} \(.*\) are stored alike"):
        made(getattr(ANY.shape, name), name).pipeline()


def test_what_is_stored_alike_is_read_as_it_stands(db: DB) -> None:
    """The field as documents have it, and what is converted, is read."""
    day, hue = ANY.shape.day, ANY.shape.hue
    assert [DAY, AT] == found(db, select(day).order_by(Drawing.id))
    assert [[DAY, AT], [AT]] == found(db, select(ANY.shapes.day).order_by(Drawing.id))
    assert [Hue.RED, "q"] == found(db, select(Drawing.id, hue).then().columns(hue).order_by(Drawing.id))
    assert ["q!", "r!"] == sorted(found(db, select(func.concat(hue, "!")).distinct()))
    assert 2 == found(db, select(func.count(Drawing)).where(day != None))[0]  # noqa: E711 - a condition


def test_fields_that_subclasses_declare_otherwise(db: DB) -> None:
    """They are read as the class of each document says, and refused where rows do not tell it."""
    whole = found(db, select(Fact).order_by(Fact.id))
    assert [one.value for one in whole] == found(db, select(FACT.value).order_by(Fact.id))
    assert [1, "v", "b"] == [one.value for one in whole]
    with Session(db) as session:
        rows = session.execute(select(FACT.about.label("it"), FACT.id + 1, FACT).order_by(Fact.id)).all()
    assert [(DAY, 2), (AT, 3), (datetime(2020, 1, 1, tzinfo=UTC), 4)] == [row[:2] for row in rows]
    assert [1, "b", "v"] == found(db, select(FACT.value).distinct().order_by(FACT.value))
    with pytest.raises(StatementError, match=r"Fact\.about \(date \| None\) and Note\.about .* are stored alike"):
        select(func.max(FACT.about)).pipeline()
    assert [AT, datetime(2020, 1, 1, tzinfo=UTC)] == found(db, select(Note.about).order_by(Note.id))


def test_joined_fields_that_subclasses_declare_otherwise(db: DB) -> None:
    """Each joined document is read as its class says, and so are lists of documents that are found for each row."""
    day = datetime(2020, 1, 1, tzinfo=UTC)
    joined = select(Left.id, FACT.about, FACT.value).join(Fact, LEFT.n == LEFT.id).order_by(Fact.id)
    listed = select(Left.id, select(FACT.about).order_by(FACT.id).as_list().label("all"))
    backend: Any = db.parts.data_backend
    if "mongomock" in type(backend.client).__module__:  # which joins by one key only, and has no pipelines there
        joined = select(Left.id, FACT.about, FACT.value).join(Fact, FACT.id == LEFT.id, outer=True)
        with Session(db) as session:
            assert [(1, DAY, 1)] == session.execute(joined).all()
        return
    with Session(db) as session:
        assert [(1, DAY, 1), (1, AT, "v"), (1, day, "b")] == session.execute(joined).all()
        assert [(1, [DAY, AT, day])] == session.execute(listed).all()


def test_missing_keys_are_the_defaults_of_the_class(real: DB) -> None:
    """Of a subclass with another default that one."""
    facts = stored(real, Fact)
    facts.insert_many([{"_id": 8, "_type": "Note"}, {"_id": 9, "_type": "Fact"}])
    try:
        assert ["v", 1] == found(real, select(FACT.value).where(Fact.id > 7).order_by(Fact.id))
    finally:
        facts.delete_many({"_id": {"$gt": 7}})


def test_lists_beside_single_values(db: DB) -> None:
    """A part is that of the elements' class in a list, and of the other class beside it."""
    with Session(db) as session:
        rows = session.execute(
            select(Drawing)
            .columns(ANY.mixed.radius, ANY.mixed.edge, ANY.mixed.grade, ANY.mixed.day)
            .order_by(Drawing.id)
        ).all()
    assert [([1.0], [None], [1], [DAY]), (None, 2.0, "S", AT)] == rows
    assert [[1, "S"], 1] == found(db, select(ANY.both.grade).order_by(Drawing.id))
    first = func.array_elem_at(ANY.mixed, 0)
    assert [circle()] == found(db, select(first).where(Drawing.id == 1))
    assert [circle(), None] == found(db, select(ANY.mixed[0]).order_by(Drawing.id))
    assert [1, None] == found(db, select(ANY.mixed[0].grade).order_by(Drawing.id))
    assert [DAY, None] == found(db, select(ANY.days[0]).order_by(Drawing.id))


def test_unwound_lists_beside_single_values(db: DB) -> None:
    """Unwinding leaves elements, and the single values as they are."""
    days, both = ANY.days, ANY.both
    for item in days, days.item():
        assert [DAY, "x"] == found(db, select(item).unwind(days).order_by(Drawing.id))
    for item in both, both.item():
        assert [circle(), square(), circle()] == found(db, select(item).unwind(both).order_by(Drawing.id))
        assert [DAY, AT, DAY] == found(db, select(item.day).unwind(both).order_by(Drawing.id))
    for item in ANY.mixed, ANY.mixed.item():
        assert [1, "S"] == found(db, select(item.grade).unwind(ANY.mixed).order_by(Drawing.id))
        with pytest.raises(StatementError, match=r"an element \(Circle\) and .* \(Square\) are stored alike"):
            select(item).unwind(ANY.mixed).pipeline()
    assert [2] == found(db, select(func.count(Drawing)).unwind(ANY.mixed))


def test_conditions_on_lists_beside_single_values(db: DB) -> None:
    """`any_` is about elements, paths are about both."""
    for kind, condition in (
        ([1], ANY.mixed.any_(Circle.radius > 0)),
        ([1], ANY.mixed[Circle.radius] > 0),
        ([2], ANY.mixed[Square.edge] > 0),
        ([2], ANY.mixed.edge > 0),
        ([1], ANY.mixed.contains(circle())),
        ([1], ANY.both.any_(Square.edge > 0)),
        ([1], ANY.days[0] == DAY),
        ([2], ANY.days == "x"),
    ):
        assert kind == found(db, select(Drawing.id).where(condition).order_by(Drawing.id))
    with pytest.raises(StatementError, match="Square, but is about Circle"):
        select(Drawing.id).where(ANY.mixed.any_(Square.edge > 0)).pipeline()


class Turned(Document, registry=registry):
    __collection__ = "turned_by_class"
    id: Mapped[int] = field(primary_key=True)
    mixed: Mapped[Square | list[Circle]]


def test_updates_of_lists_beside_single_values(mongodb_uri: str) -> None:
    """A single value is changed below by its own class's fields, elements by position and as elements."""
    for db in connected(mongodb_uri):

        def change(id: int, *changes: Any, db: DB = db) -> Any:
            with db.begin() as session:
                session.execute(update(Drawing).where(Drawing.id == id).set(*changes))
            return stored(db, Drawing).find_one({"_id": id})

        assert 9.0 == change(2, ANY.mixed.edge.to(9.0))["mixed"]["edge"]
        assert "T" == change(2, ANY.mixed[Square.grade].to("T"))["mixed"]["grade"]
        assert 10.0 == change(2, ANY.mixed.edge.to(ANY.mixed.edge + 1))["mixed"]["edge"]
        with pytest.raises(StatementError, match="it goes through a list"):
            change(2, ANY.mixed.radius.to(5.0))
        with pytest.raises(StatementError, match="it goes through a list"):
            change(2, ANY.mixed[Circle.grade].to(5))
        with pytest.raises(ValidationError, match="expected str, got int 5"):
            ANY.mixed.grade.to(5)
        assert "U" == change(2, *pickle.loads(pickle.dumps((ANY.mixed[Square.grade].to("U"),))))["mixed"]["grade"]
        with pytest.raises(superorm.SuperormError):
            change(1, ANY.mixed.edge.to(9.0))
        assert 5.0 == change(1, ANY.mixed[0].radius.to(5.0))["mixed"][0]["radius"]
        assert 2 == len(change(1, ANY.mixed.push(circle()))["mixed"])
        assert 1 == len(change(1, ANY.mixed.pull(Circle.radius > 4))["mixed"])
        with pytest.raises(ValidationError, match="expected Circle, got Square"):
            ANY.mixed.push(square())


def test_elements_of_a_list_named_last() -> None:
    """The class of a list's elements is theirs where the annotation names another one first."""
    turned: Any = Turned
    (stage,) = select(Turned).where(turned.mixed.any_(Circle.radius > 0)).pipeline()
    assert {"$match": {"mixed": {"$elemMatch": {"radius": {"$gt": 0}}}}} == stage
    turned.mixed.pull(Circle.radius > 0)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (LEFT.n, RIGHT.text, [1, "y"]),
        (RIGHT.text, LEFT.n, ["y", 1]),
        (LEFT.n, RIGHT.f, [1, 2.5]),
        (LEFT.ns, RIGHT.words, [[1, 2], ["a"]]),
        (LEFT.hue, RIGHT.f, [Hue.RED, 2.5]),
        (func.to_date(LEFT.day), RIGHT.at, [datetime(2020, 1, 1, tzinfo=UTC), AT]),
        (LEFT.circle, LEFT.circle, [circle(), circle()]),
        (LEFT.n, RIGHT.squares.edge, [1, [2.0, 3.0]]),
        (LEFT.n, case((RIGHT.id == 1, "y"), else_=2), [1, "y"]),
        (case((LEFT.id == 1, "y"), else_=2), RIGHT.squares, ["y", [square(), Square(edge=3.0)]]),
    ],
)
def test_unions_of_several_types(real: DB, left: Any, right: Any, expected: list[Any]) -> None:
    """Each row is read as the statement that it is of says."""
    both = select(left.label("it")).union_all(select(right))
    assert expected == found(real, both)
    distinct = found(real, both.distinct())
    assert all(one in distinct for one in expected)
    assert {*map(type, expected)} == {*map(type, distinct)}
    assert [expected] == found(real, both.columns(func.push(column("it"))))


def test_columns_of_unions(real: DB) -> None:
    """So they are in what is computed of them, in unions of three, and where lists are unwound."""
    both = select(LEFT.n).union_all(select(RIGHT.text))
    assert ["y"] == found(real, both.columns(func.max(LEFT.n)))
    assert [1, "y", 2.5] == found(real, both.union_all(select(RIGHT.f)))
    assert [1, "y", 2.5] == found(real, select(LEFT.n).union_all(select(RIGHT.text).union_all(select(RIGHT.f))))
    assert [1, 2, "a"] == found(real, select(LEFT.ns).union_all(select(RIGHT.words)).unwind(LEFT.ns))


@pytest.mark.parametrize(
    ("left", "right"), [(LEFT.day, RIGHT.at), (LEFT.hue, RIGHT.word), (LEFT.circle, RIGHT.square), (RIGHT.at, LEFT.day)]
)
def test_unions_of_what_is_stored_alike(left: Any, right: Any) -> None:
    """They are refused, and name both fields."""
    both = select(left.label("it")).union_all(select(right))
    for statement in both, both.distinct(), both.columns(func.push(column("it"))):
        with pytest.raises(StatementError, match=rf"{left!r} \(.*\) and {right!r} \(.*\) are stored alike"):
            statement.pipeline()
    assert both.columns(func.count()).pipeline()


def test_unions_of_fields_of_several_types(real: DB) -> None:
    """The rows of both statements have no class, so their values tell the types, also beside computed numbers."""
    both = select(FACT.value).union_all(select(FACT.value).where(FACT.id == 3))
    assert [1, "v", "b", "b"] == found(real, both)
    assert [1, "v", "b", 3] == found(real, select(FACT.value).union_all(select(func.count()).select_from(Fact)))
    with pytest.raises(StatementError, match="are stored alike"):
        select(FACT.about).union_all(select(FACT.about)).pipeline()


@pytest.mark.parametrize("name", [["Note"], {"a": 1}, 5])
def test_a_class_name_that_is_none(db: DB, name: Any) -> None:
    """Where a document's discriminator is no text, its fields are read as the selected class has them."""
    facts = stored(db, Fact)
    facts.insert_one({"_id": 9, "_type": name, "value": 4})
    try:
        assert [4] == found(db, select(FACT.value).where(FACT.id == 9))
    finally:
        facts.delete_one({"_id": 9})


def test_unions_know_no_defaults_of_others(real: DB) -> None:
    """A key that the second statement's documents lack is null, and not the default of the first one's field."""
    rights = stored(real, Right)
    rights.insert_one({"_id": 5})
    try:
        both = select(LEFT.n).union_all(select(RIGHT.m).where(RIGHT.id == 5))
        assert [1, None] == found(real, both)
    finally:
        rights.delete_one({"_id": 5})


def test_a_value_of_no_type_of_a_union(real: DB) -> None:
    """It is an error that names the column and the value."""
    rights = stored(real, Right)
    rights.insert_one({"_id": 6, "text": True})
    try:
        with pytest.raises(ValidationError, match=r"stored value of n does not fit: .* got bool True"):
            found(real, select(LEFT.n).union_all(select(RIGHT.text).where(RIGHT.id == 6)))
    finally:
        rights.delete_one({"_id": 6})
