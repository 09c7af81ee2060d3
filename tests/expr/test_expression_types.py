"""What expressions give is of the type that their parts tell, on a real server and on mongomock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Select,
    Session,
    StatementError,
    UnsupportedError,
    aliased,
    case,
    column,
    field,
    func,
    register_type,
    select,
    window,
)
from tests.databases import new_db

registry = Registry()


def _another() -> type[Enum]:
    class Kind(Enum):
        LARGE = "s"
        OTHER = "o"

    return Kind


class Kind(Enum):
    SMALL = "s"
    LARGE = "l"


class Weight:
    """A registered type."""

    def __init__(self, grams: int) -> None:
        self.grams = grams

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weight) and other.grams == self.grams

    __hash__ = None  # type: ignore[assignment]


register_type(Weight, lambda weight: weight.grams, Weight, bson_type=int)
OtherKind: Any = _another()


class Circle(Embedded):
    radius: Mapped[int]


class Square(Embedded):
    side: Mapped[int]


class Part(Embedded):
    made: Mapped[date]
    kinds: Mapped[set[Kind]] = field(factory=set)


class Thing(Document, registry=registry):
    __collection__ = "things"
    id: Mapped[int] = field(primary_key=True)
    days: Mapped[list[date]] = field(factory=list)
    grid: Mapped[list[list[date]]] = field(factory=list)
    sets: Mapped[list[set[Kind]]] = field(factory=list)
    parts: Mapped[list[Part]] = field(factory=list)
    kind: Mapped[Kind] = field(default=Kind.SMALL)
    other: Mapped[OtherKind] = field(default=OtherKind.OTHER)
    kinds: Mapped[list[Kind]] = field(factory=list)
    others: Mapped[list[OtherKind]] = field(factory=list)
    price: Mapped[Decimal] = field(default=Decimal("1.5"))
    count: Mapped[int] = field(default=2)
    shape: Mapped[Circle | Square | None] = field(default=None)
    weight: Mapped[Weight | None] = field(default=None)


ANY: Any = Thing
DAYS = [date(2020, 1, day) for day in range(1, 9)]


def things() -> list[Thing]:
    return [
        Thing(
            id=1,
            days=DAYS[:2],
            grid=[[DAYS[0]], [DAYS[1], DAYS[2]]],
            sets=[{Kind.SMALL}, set()],
            parts=[Part(made=DAYS[3], kinds={Kind.SMALL}), Part(made=DAYS[5])],
            kinds=[Kind.SMALL],
            others=[OtherKind.OTHER],
            shape=Circle(radius=1),
        ),
        Thing(id=2, kind=Kind.LARGE, shape=Square(side=1)),
    ]


@pytest.fixture(scope="module", params=["mongodb", "mongomock"])
def db(request: pytest.FixtureRequest, mongodb_uri: str) -> Iterator[DB]:
    """Two things, on each backend."""
    with new_db("mongomock" if request.param == "mongomock" else mongodb_uri, things()) as db:
        yield db


def rows(db: DB, statement: Any) -> list[Any]:
    """The rows; those of one value as this."""
    with Session(db) as session:
        found = [tuple(row) for row in session.execute(statement)]
    return [row[0] if len(row) == 1 else row for row in found]


_first = func.slice(ANY.days, 1).label("first")
_most = func.max(ANY.days).label("most")
_all = func.push(ANY.days).label("all")
_key = func.if_null(ANY.days, DAYS[7]).label("key")

UNWOUND: list[tuple[Callable[[], Any], list[Any]]] = [
    (lambda: select(func.max(ANY.days)).unwind(ANY.days), [DAYS[1]]),
    (lambda: select(func.max(ANY.days.item())).unwind(ANY.days), [DAYS[1]]),
    (lambda: select(func.push(ANY.days)).unwind(ANY.days), [DAYS[:2]]),
    (lambda: select(func.push(ANY.days)).where(ANY.id == 1), [[DAYS[:2]]]),
    (lambda: select(func.if_null(ANY.days, DAYS[7])).unwind(ANY.days, keep_empty=True), [*DAYS[:2], DAYS[7]]),
    (lambda: select(case((ANY.days == DAYS[0], ANY.days), else_=DAYS[6])).unwind(ANY.days), [DAYS[0], DAYS[6]]),
    (
        lambda: select(ANY.days, func.min(ANY.days)).unwind(ANY.days).group_by(ANY.days).order_by(ANY.days),
        [(DAYS[0], DAYS[0]), (DAYS[1], DAYS[1])],
    ),
    (lambda: select(_key).unwind(ANY.days).group_by(_key).order_by(_key), DAYS[:2]),
    (lambda: select(_key).unwind(ANY.days).distinct().order_by(_key), DAYS[:2]),
    (lambda: select(func.if_null(func.max(ANY.days), DAYS[0])).unwind(ANY.days).group_by(ANY.id), [DAYS[1]]),
    (lambda: select(_most).unwind(ANY.days).group_by(ANY.id).then(func.push(_most)), [[DAYS[1]]]),
    (lambda: select(ANY.days).unwind(ANY.days).group_by(ANY.days).then(func.max(ANY.days)), [DAYS[1]]),
    (lambda: select(func.if_null(ANY.sets, [])).unwind(ANY.sets), [{Kind.SMALL}, set[Kind]()]),
    (lambda: select(func.if_null(ANY.grid, [])).unwind(ANY.grid), [DAYS[:1], DAYS[1:3]]),
    (lambda: select(func.array_elem_at(ANY.grid, 0)).unwind(ANY.grid), DAYS[:2]),
    (lambda: select(func.max(ANY.grid)).unwind(ANY.grid).unwind(ANY.grid.item()), [DAYS[2]]),
    (lambda: select(ANY.grid.item()).unwind(ANY.grid).unwind(ANY.grid.item()), DAYS[:3]),
    (lambda: select(ANY.grid.item().item()).unwind(ANY.grid).unwind(ANY.grid.item()), DAYS[:3]),
    (lambda: select(func.max(ANY.parts.made)).unwind(ANY.parts), [DAYS[5]]),
    (lambda: select(func.max(ANY.parts)).unwind(ANY.parts), [Part(made=DAYS[5])]),
    (lambda: select(func.push(ANY.parts.kinds)).unwind(ANY.parts), [[{Kind.SMALL}, set[Kind]()]]),
    # parts by their position, and under the names of others
    (lambda: select(ANY.grid[0], ANY.grid[0].label("q")).unwind(ANY.grid), [(day, day) for day in DAYS[:2]]),
    (lambda: select(ANY.grid.item()[0], func.if_null(ANY.grid[0], None)).unwind(ANY.grid), [(d, d) for d in DAYS[:2]]),
    (lambda: select(func.if_null(ANY.days, DAYS[0]).label("days")).unwind(ANY.days), DAYS[:2]),
    # what was computed before
    (lambda: select(_first, func.if_null(_first, [])).order_by(_first).unwind(ANY.days), [(DAYS[:1], DAYS[:1])] * 2),
    (lambda: select(func.if_null(_first, DAYS[0])).order_by(_first).unwind(_first), DAYS[:1]),
    (lambda: select(func.max(_first)).order_by(_first).unwind(_first), DAYS[:1]),
    (
        lambda: select(ANY.id, _all).unwind(ANY.days).group_by(ANY.id).then(_all, ANY.id).unwind(_all),
        [(DAYS[0], 1), (DAYS[1], 1)],
    ),
    (
        lambda: select(ANY.grid).unwind(ANY.grid).group_by(ANY.grid).then(ANY.grid).unwind(ANY.grid).order_by(ANY.grid),
        DAYS[:3],
    ),
]


@pytest.mark.parametrize(("made", "expected"), UNWOUND)
def test_after_unwind_a_field_is_an_item(db: DB, made: Callable[[], Any], expected: list[Any]) -> None:
    """In expressions too, with ``.item()`` and without; what was computed before keeps its type."""
    assert expected == rows(db, made())


def test_in_windows_facets_unions_and_lists(mongodb_uri: str) -> None:
    """Also where other statements and windows name it, of which mongomock has not all."""
    with new_db(mongodb_uri, things()) as db:
        latest = select(func.if_null(ANY.days, DAYS[0]).label("v")).unwind(ANY.days)
        mapped = func.map(ANY.grid, lambda day: day)
        assert [DAYS[1]] * 2 == rows(db, select(window(func.max(ANY.days), order_by=ANY.id)).unwind(ANY.days))
        assert [(DAYS[1:2], DAYS[:2])] == rows(
            db,
            select(ANY.id)
            .unwind(ANY.days)
            .facet(a=select(func.max(ANY.days)), b=select(func.if_null(ANY.days, DAYS[0]))),
        )
        assert [*DAYS[:2], *DAYS[:2]] == rows(db, latest.union_all(latest))
        assert [DAYS[:1], DAYS[1:3]] == rows(db, select(mapped).unwind(ANY.grid))
        lists = select(ANY.grid.label("v")).unwind(ANY.grid)
        assert [DAYS[:1], DAYS[1:3]] * 2 == rows(db, lists.union_all(lists))
        assert [*DAYS[:3], *DAYS[:3]] == rows(db, lists.union_all(lists).unwind(column("v")))
        other: Any = aliased(Thing, "other")
        same = select(other.days).where(other.id == ANY.id).as_list().label("same")
        items = select(same).select_from(Thing).unwind(same)
        assert [DAYS[:2], [], DAYS[:2], []] == rows(db, items.union_all(items))
        outer = select(ANY.days).select_from(other).where(other.id == ANY.id).as_list()
        assert [DAYS[:1], DAYS[1:2]] == rows(db, select(outer).select_from(Thing).unwind(ANY.days))


def test_enums_of_one_name_are_two_types(db: DB) -> None:
    """An expression that may give a value of one or the other is of neither: its values are as they are stored."""
    either = case((ANY.kind == Kind.SMALL, ANY.kind), else_=ANY.other)
    lists = case((ANY.kind == Kind.SMALL, ANY.kinds), else_=ANY.others)
    assert [("s", ["s"]), ("o", [])] == rows(db, select(either, lists).order_by(ANY.id))
    same = case((ANY.kind == Kind.SMALL, ANY.kind), else_=Kind.LARGE)
    alike = case((ANY.kind == Kind.SMALL, ANY.kinds), else_=ANY.kinds)
    assert [(Kind.SMALL, [Kind.SMALL]), (Kind.LARGE, [])] == rows(db, select(same, alike).order_by(ANY.id))


def test_windows_of_decimals(mongodb_uri: str) -> None:
    """What the server computes of decimals are decimals, of ints floats."""
    functions: dict[str, Callable[[Any], Any]] = {
        "integral": func.integral,
        "exp_moving_avg": lambda value: func.exp_moving_avg(value, n=2),
        "covariance_pop": lambda value: func.covariance_pop(value, value),
    }
    with new_db(mongodb_uri, things()) as db:
        for function in functions.values():
            made = [window(function(value), order_by=ANY.id) for value in (ANY.price, ANY.count)]
            assert [(Decimal, float)] * 2 == [tuple(map(type, row)) for row in rows(db, select(*made))]
        change = window(func.derivative(ANY.price), order_by=ANY.id, documents=(-1, 0))
        assert [None, Decimal(0)] == rows(db, select(change))


_AT = datetime(2020, 1, 1, tzinfo=UTC)
REDUCED: list[tuple[Callable[[], Any], Any]] = [
    (lambda: func.reduce(ANY.days, DAYS[0], lambda value, this: func.array_max(value, this)), DAYS[1]),
    (lambda: func.reduce(ANY.days, None, lambda value, this: func.array_max(value, this)), DAYS[1]),
    (lambda: func.reduce(ANY.days, DAYS[7], lambda value, this: value), DAYS[7]),
    (lambda: func.reduce(ANY.days, DAYS[7], lambda value, this: this), DAYS[1]),
    (lambda: func.reduce(ANY.days, DAYS[7], lambda value, this: case((this > DAYS[7], this), else_=value)), DAYS[7]),
    (lambda: func.reduce(ANY.days, _AT, lambda value, this: func.date_add(value, "hour", 1)), _AT.replace(hour=2)),
    (lambda: func.reduce(ANY.days, DAYS[0], lambda value, this: func.date_add(value, "hour", 1)), _AT.replace(hour=2)),
    (lambda: func.reduce(ANY.days, 0, lambda value, this: value + 1), 2),
    (lambda: func.reduce(ANY.days, 0, lambda value, this: value + ANY.price), Decimal("3.0")),
    (lambda: func.reduce(ANY.kinds, Kind.LARGE, lambda value, this: value), Kind.LARGE),
    (lambda: func.reduce(ANY.kinds, Kind.LARGE, lambda value, this: func.array(value, this)), ["l", "s"]),
    (
        lambda: func.reduce(ANY.days, Square(side=3), lambda value, this: func.if_null(value, Square(side=1))),
        Square(side=3),
    ),
]


@pytest.mark.parametrize(("made", "expected"), REDUCED)
def test_reduce(db: DB, made: Callable[[], Any], expected: Any) -> None:
    """The value so far is of the type of the first one, and of the items without one, where it stays of that."""
    statement = select(made()).select_from(Thing).where(ANY.id == 1)
    if "Mongomock" in repr(db):
        with pytest.raises(UnsupportedError, match="reduce"):
            rows(db, statement)
        return
    (found,) = rows(db, statement)
    assert (type(expected), expected) == (type(found), found)


def test_a_labelled_case_beside_a_union(db: DB) -> None:
    """Its embedded values are compared as a field of the union's type stores them."""
    circle = case((ANY.id == 1, Circle(radius=1))).label("circle")
    assert [1] == rows(db, select(ANY.id).where(circle == ANY.shape))
    assert [1] == rows(db, select(ANY.id).where(ANY.shape == circle))
    made = func.if_null(circle, Square(side=1))
    assert [1, 2] == rows(db, select(ANY.id).where(made == ANY.shape).order_by(ANY.id))


def test_nested_cases_of_python_values(db: DB) -> None:
    """Values inside one another are all read as their own type."""
    nested = case((ANY.id == 1, DAYS[0]), else_=case((ANY.id == 2, DAYS[1]), else_=DAYS[2]))
    shapes = case((ANY.id == 1, Circle(radius=1)), else_=case((ANY.id == 2, Square(side=2))))
    expected = [(DAYS[0], Circle(radius=1)), (DAYS[1], Square(side=2))]
    assert expected == rows(db, select(nested, shapes).order_by(ANY.id))


LITERALS: list[Any] = [
    DAYS[0],
    Kind.SMALL,
    OtherKind.LARGE,
    Decimal("1.5"),
    Circle(radius=1),
    Weight(3),
    [Kind.SMALL, DAYS[0]],
    {"a": [DAYS[0], None]},
    {Kind.SMALL},
    (Kind.LARGE, DAYS[1], 2),
    [[[[DAYS[0]]]]],
]


@pytest.mark.parametrize("value", LITERALS)
def test_stored_statements_remember_the_types_of_values(db: DB, value: Any) -> None:
    """Also where no field is beside them."""
    statement = select(func.literal(value).label("v"), case((ANY.id == 1, value), else_=value)).select_from(Thing)
    data = statement.to_dict()
    again: Select[Any, Any] = Select.from_dict(data, registry=registry)
    assert data == again.to_dict()
    assert [(value, value)] * 2 == rows(db, statement)
    assert [(value, value)] * 2 == rows(db, again)


def test_a_case_of_several_classes_is_stored_with_these(db: DB) -> None:
    """The union of its values' types is remembered."""
    statement = select(case((ANY.id == 1, Circle(radius=1)), else_=Square(side=2))).order_by(ANY.id)
    again: Select[Any, Any] = Select.from_dict(statement.to_dict(), registry=registry)
    assert [Circle(radius=1), Square(side=2)] == rows(db, again)


class Hidden(Enum):
    """No field holds it."""

    ONE = "one"


def test_types_that_no_field_holds_are_forgotten(db: DB) -> None:
    """A statement is read without the class, its values as they are stored."""
    data = select(func.literal(Hidden.ONE)).select_from(Thing).to_dict()
    again: Select[Any, Any] = Select.from_dict(data, registry=registry)
    assert ["one", "one"] == rows(db, again)


def _annotated(annotation: Any, value: Any = "s") -> dict[str, Any]:
    """A stored literal that says it is of a type, and that type's node."""
    data = select(func.literal("s")).select_from(Thing).to_dict()
    call = next(node for node in data["nodes"] if node["node"] == "Call")
    call["args"] = [value]
    call["annotation"] = {"ref": 0}
    shifted = [{key: _shifted(item) for key, item in node.items()} for node in data["nodes"]]
    shifted[data["nodes"].index(call)]["annotation"] = {"ref": 0}
    return {**data, "nodes": [{"node": "ValueType", **annotation}, *shifted]}


def _shifted(value: Any, by: int = 1) -> Any:
    if isinstance(value, list):
        return [_shifted(item, by) for item in value]
    return {"ref": value["ref"] + by} if isinstance(value, dict) and [*value] == ["ref"] else value


def test_what_a_type_node_may_be(db: DB) -> None:
    """A class of the registry by its name."""
    made: Select[Any, Any] = Select.from_dict(
        _annotated({"name": "class", "cls": {"type": f"{__name__}.Kind"}}), registry=registry
    )
    assert [Kind.SMALL] * 2 == rows(db, made)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ({"name": "class", "cls": {"type": "os.system"}}, "s"),
        ({"name": "class", "cls": {"type": 3}}, "s"),
        ({"name": "class", "cls": {"type": f"{__name__}.Thing"}}, "s"),
        ({"name": "class"}, "s"),
        ({"name": "union"}, "s"),
        ({"name": "list", "cls": {"type": "builtins.eval"}}, {"list": []}),
    ],
)
def test_types_that_are_none_are_forgotten(db: DB, annotation: Any, value: Any) -> None:
    """Nothing is imported for them."""
    made: Select[Any, Any] = Select.from_dict(_annotated(annotation, value), registry=registry)
    assert [[] if isinstance(value, dict) else "s"] * 2 == rows(db, made)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ({"name": "date"}, "s"),
        ({"name": "class", "cls": {"type": f"{__name__}.Kind"}}, "unknown"),
        ({"name": "eval"}, "s"),
        ({"name": "class", "cls": "os"}, "s"),
        ({"name": "list", "items": [3]}, "s"),
        ({"name": "date", "more": 1}, "s"),
    ],
)
def test_refuses_types_that_no_statement_gives(annotation: Any, value: Any) -> None:
    """And values that are not of the type."""
    with pytest.raises(StatementError, match=r"from_dict\(\)"):
        Select.from_dict(_annotated(annotation, value), registry=registry)


@pytest.mark.parametrize("operator", ["literal", "let"])
def test_a_stored_call_of_nothing(operator: str) -> None:
    """It is refused as one of too few arguments, with a type and without."""
    data = _annotated({"name": "str"})
    call = next(node for node in data["nodes"] if node["node"] == "Call")
    call |= {"operator": operator, "args": []}
    with pytest.raises(StatementError, match="nodes"):
        Select.from_dict(data, registry=registry)


def test_types_that_only_grow_when_read_are_forgotten(db: DB) -> None:
    """Each of these twelve nodes names the one before twice; so reading takes no longer than the data are."""
    data = _annotated({"name": "int"})
    first, *others = data["nodes"]
    types = [first, *({"node": "ValueType", "name": "tuple", "items": [{"ref": n}] * 2} for n in range(11))]
    others = [{key: _shifted(value, 11) for key, value in node.items()} for node in others]
    made: Select[Any, Any] = Select.from_dict({**data, "nodes": [*types, *others]}, registry=registry)
    assert ["s"] * 2 == rows(db, made)


def test_fields_are_of_documents_only() -> None:
    """Classes of values have none."""
    data = select(ANY.id).to_dict()
    data["nodes"][0]["owner"] = {"class": f"{__name__}.Kind"}
    with pytest.raises(StatementError, match="Kind has no fields"):
        Select.from_dict(data, registry=registry)


def _calls(make: Callable[[], Any]) -> int:
    """How many functions it calls."""
    count = 0

    def counting(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        make()
    finally:
        sys.setprofile(before)
    return count


def _nulls(levels: int) -> Any:
    made = ANY.shape
    for _ in range(levels):
        made = func.if_null(made, Square(side=1))
    return made


def _cases(levels: int) -> Any:
    made: Any = DAYS[0]
    for n in range(levels):
        made = case((ANY.id == n, DAYS[0]), else_=made)
    return made


def _unknown(levels: int) -> Any:
    made = column("unknown")
    for _ in range(levels):
        made = func.if_null(made, DAYS[0])
    return made


@pytest.mark.parametrize("nested", [_nulls, _cases, _unknown])
def test_work_grows_with_the_size_of_an_expression(nested: Callable[[int], Any]) -> None:
    """And not with its square: four times as deep takes about four times as much."""
    nested(1)
    assert _calls(lambda: nested(80)) < 6 * _calls(lambda: nested(20))


def test_work_grows_with_the_size_of_an_expression_over_items() -> None:
    """Though each function here names its argument twice."""

    def nested(levels: int) -> Any:
        made: Any = ANY.grid
        for _ in range(levels):
            made = func.map(made, lambda day: func.if_null(day, func.if_null(day, DAYS[0])))
        return select(made).unwind(ANY.days)

    small, large = nested(3), nested(12)
    small.pipeline()
    assert _calls(large.pipeline) < 6 * _calls(small.pipeline)


def test_the_type_beside_values_is_found_once() -> None:
    """However many values there are."""
    total = ANY.count
    for _ in range(80):
        total = total + 1
    values = [[n] for n in range(2000)]
    assert values == total.in_(values).right
    assert _calls(lambda: total.in_(values)) < 25 * len(values)
