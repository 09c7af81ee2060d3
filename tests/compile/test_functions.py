"""`func`: names, arguments, functions of items; and where expressions stand in conditions."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superorm import Document, Embedded, Mapped, Predicate, Registry, StatementError, field
from superorm.compile.expressions import accumulator, emit, has_accumulator
from superorm.compile.match import match
from superorm.compile.paths import may_be_list
from superorm.compile.scope import DocumentScope, ElementScope, RowScope
from superorm.expr.base import Call
from superorm.expr.calls import checked_call
from superorm.expr.functions import func
from superorm.expr.kinds import is_window, walk
from superorm.expr.nodes import case, column, score
from superorm.expr.operators import ADD, LITERAL, OPERATORS
from superorm.expr.rows import window
from superorm.expr.sources import aliased

registry = Registry()


class Scene(Embedded):
    name: Mapped[str]
    seconds: Mapped[int] = field(default=0)
    takes: Mapped[list[int]] = field(factory=list)


class Film(Document, registry=registry):
    title: Mapped[str]
    year: Mapped[int | None] = field(default=None)
    born: Mapped[int | None] = field(default=None)
    genres: Mapped[list[str]] = field(factory=list)
    scenes: Mapped[list[Scene]] = field(factory=list)
    extra: Mapped[Any] = field(default=None)


class Other(Document, registry=registry):
    year: Mapped[int]


SCOPE = DocumentScope(Film)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("datetrunc", "the server has no operator for func.datetrunc; there is func.date_trunc"),
        ("qqq", "the server has no operator for func.qqq"),
        ("function", "there is no func.function: runs JavaScript on the server; there is none in statements"),
        ("accumulator", "there is no func.accumulator: runs JavaScript on the server; there is none in statements"),
        ("where", "there is no func.where: runs JavaScript on the server; there is none in statements"),
        ("switch", "there is no func.switch: write case((condition, value), ..., else_=...)"),
        ("let", "there is no func.let: give the expression a Python name and use it twice"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    """The error names operators that are called alike, or why there is none."""
    with pytest.raises(AttributeError) as raised:
        getattr(func, name)
    assert str(raised.value).startswith(message)
    assert name not in dir(func)


def test_names_are_documented() -> None:
    """The reference lists every operator, by a call of it."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "functions.md"
    assert {*OPERATORS} - {"let"} <= set(re.findall(r"^\| `func\.(\w+)\(", page.read_text(), re.MULTILINE))


def test_names_are_listed() -> None:
    """`dir` shows all operators, also those without a method of their own."""
    assert {"date_trunc", "replace_all", "sum", "filter"} <= set(dir(func))
    assert not hasattr(func, "__wrapped__")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: func.pow(Film.year), "it is func.pow(a, b), not func.pow(Film.year)"),
        (lambda: func.pow(Film.year, 2, 3), "it is func.pow(a, b), not func.pow(Film.year, 2, 3)"),
        (lambda: func.concat(), "it is func.concat(a, ...), not func.concat()"),
        (lambda: func.sin(Film.year, x=1), "func.sin(a) has no argument x"),
        (
            lambda: func.replace_one(Film.title, "a"),
            "it is func.replace_one(input, find, replacement), not func.replace_one(Film.title, 'a')",
        ),
        (
            lambda: func.replace_one(Film.title, "a", "b", find="c"),
            "it is func.replace_one(input, find, replacement), not func.replace_one(Film.title, 'a', 'b', find='c')",
        ),
        (
            lambda: func.convert(Film.title, "int", default=0),
            "func.convert(input, to, on_error=..., on_null=..., format=...) has no argument default",
        ),
        (
            lambda: func.date_trunc(Film.extra, "months"),  # type: ignore[arg-type]
            "func.date_trunc(unit='months'): one of year, quarter, month, week, day, hour, minute, second, millisecond",
        ),
        (
            lambda: func.date_trunc(Film.extra, "week", start_of_week="x"),
            "func.date_trunc(start_of_week='x'): one of monday, tuesday, wednesday, thursday, friday, saturday, sunday",
        ),
        (lambda: func.first(Film.year, Film.born), "RowFunctions.first() takes 2 positional"),  # type: ignore[call-arg]
        (lambda: func.count("x"), "func.count() takes a document class or an expression, not 'x'"),  # type: ignore[call-overload]
        (lambda: func.cond(True, 1, 2), "func.cond() takes a condition first, not True"),  # type: ignore[arg-type]
        (lambda: func.meta("x"), "func.meta('x'): one of textScore, indexKey, searchScore"),  # type: ignore[arg-type]
        (lambda: func.top(Film.year, order_by=[]), "func.top(order_by=...) needs a field"),
        (lambda: func.top(Film.year, order_by=1), "an order is of fields such as Movie.year.desc(), not int 1"),  # type: ignore[arg-type]
        (lambda: func.bucket(Film.year, boundaries=[1]), "func.bucket(boundaries=...) takes two or more values"),
        (lambda: func.bucket(5, boundaries=[1, 2]), "func.bucket() takes a field or an expression of the rows, not 5"),  # type: ignore[arg-type]
        (
            lambda: func.bucket_auto(func.sum(Film.year), buckets=3),  # type: ignore[type-var]
            "func.bucket_auto() takes a field or an expression of the rows, not func.sum(Film.year)",
        ),
        (lambda: func.bucket_auto(Film.year, buckets=0), "func.bucket_auto(buckets=...) takes a number from 1, not 0"),
        (
            lambda: func.bucket_auto(Film.year, buckets=2, granularity="x"),
            "func.bucket_auto(granularity='x'): one of R5, R10, R20, R40, R80, 1-2-5, E6",
        ),
        (lambda: func.exp_moving_avg(Film.year), "func.exp_moving_avg() takes n= or alpha="),
        (lambda: func.filter(Film.genres, lambda item: True), "func.filter() takes conditions such as"),  # type: ignore[arg-type, return-value]
        (lambda: func.map(Film.scenes, lambda item: item.nam), "Scene has no field 'nam'; it has name, seconds, takes"),
        (lambda: func.map(Film.year, lambda item: item.name), "Film.year is no list that has such an element"),  # type: ignore[arg-type]
        (
            lambda: func.map(func.object_to_array(Film.extra), lambda item: item.name),
            "nothing is known of the type of item",
        ),
        (lambda: func.sort_array(Film.scenes, Film.title), "func.sort_array(by=Film.title): Film.scenes holds Scene"),  # type: ignore[arg-type]
        (lambda: func.sort_array(Film.scenes, []), "func.sort_array(by=...) needs a field"),
        (lambda: func.sort_array(Film.extra, {"a": 2}), "func.sort_array(by={'a': 2}): keys with 1 or -1 are needed"),
        (
            lambda: func.sort_array(Film.scenes, func.size(Film.genres)),  # type: ignore[arg-type]
            "func.sort_array(by=func.size(Film.genres)): a field of the embedded documents is needed",
        ),
        (lambda: func.get_field(Film.extra, ""), "func.get_field() takes the name of a key, not ''"),
        (lambda: func.literal(Film.year), "a value of type Field cannot stand in a statement"),
        (lambda: func.concat(Film.title, {1, object()}), "a value of type object cannot stand"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    """The error says how the function is called, or what is wrong with an argument."""
    with pytest.raises((StatementError, TypeError, AttributeError)) as raised:
        make()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("name", ["$a", "a.b", "", "__x"])
def test_keys_of_objects(name: str) -> None:
    """A key that would be an operator or a path is refused."""
    with pytest.raises(StatementError, match="cannot be a label"):
        func.object(**{name: 1})


def test_calls_that_are_read_from_elsewhere() -> None:
    """`checked_call` takes options by the server's names, and no others; their order makes no difference."""
    operator = OPERATORS["date_trunc"]
    call = checked_call(operator, [Film.extra, "day"], {"timezone": "UTC", "binSize": 2})
    assert (("binSize", 2), ("timezone", "UTC")) == call.options
    for wrong in ({"date": 1}, {"$where": "x"}, {"unit": "day"}):
        with pytest.raises(StatementError):
            checked_call(operator, [Film.extra, "day"], wrong)
    with pytest.raises(StatementError):
        checked_call(LITERAL, [Film.year], {})


HOSTILE: list[Any] = ["$title", "$$ROOT", {"$ne": None}, ["$title"], [{"$where": "x"}], {"a": "$title"}]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_values_are_literals(value: Any) -> None:
    """A Python value becomes no operator and no path, wherever it stands."""
    literal = {"$literal": value}
    assert literal == emit(value, SCOPE)
    assert {"$ifNull": ["$extra", literal]} == emit(func.if_null(Film.extra, value), SCOPE)
    assert {"$trim": {"input": "$title", "chars": literal}} == emit(func.trim(Film.title, chars=value), SCOPE)
    assert {"$cond": [{"$eq": ["$year", 1]}, literal, literal]} == emit(
        case((Film.year == 1, value), else_=value), SCOPE
    )
    assert {"a": literal} == emit(func.object(a=value), SCOPE)
    assert {"$map": {"input": "$genres", "as": "item", "in": literal}} == emit(
        func.map(Film.genres, lambda item: value), SCOPE
    )
    assert {"$eq": ["$year", literal]} == emit(Film.year == value, SCOPE)
    assert {"$in": ["$year", {"$literal": [value]}]} == emit(Film.year.in_([value]), SCOPE)
    assert {"$push": literal} == accumulator(func.push(func.literal(value)), SCOPE)  # type: ignore[arg-type]


def test_variables() -> None:
    """Functions of items inside one another have names of their own, those after one another the same."""
    nested = func.filter(
        Film.scenes, lambda scene: func.size(func.filter(scene.takes, lambda take: take == scene.seconds)) > 1
    )
    inner = {
        "$filter": {
            "input": "$$item.takes",
            "as": "item2",
            "cond": {"$eq": [{"$ifNull": ["$$item2", None]}, {"$ifNull": ["$$item.seconds", None]}]},
        }
    }
    size = {"$let": {"vars": {"v": inner}, "in": {"$cond": [{"$isArray": "$$v"}, {"$size": "$$v"}, None]}}}
    assert {"$filter": {"input": "$scenes", "as": "item", "cond": {"$gt": [size, 1]}}} == emit(nested, SCOPE)
    one, two = func.map(Film.genres, func.upper), func.map(Film.genres, func.lower)
    assert [
        {"$map": {"input": "$genres", "as": "item", "in": {f"$to{case}": "$$item"}}} for case in ("Upper", "Lower")
    ] == [emit(one, SCOPE), emit(two, SCOPE)]


@pytest.mark.parametrize(
    "node",
    [
        func.date_trunc(Film.extra, "month", timezone="UTC"),
        func.filter(Film.scenes, lambda scene: scene.seconds > 5),
        func.reduce(Film.genres, "", lambda value, this: func.concat(value, this)),
        func.top_n(2, Film.title, order_by=Film.year.desc()),
        func.count(Film),
        func.count(),
        func.zip(Film.genres, Film.scenes),
        func.literal(5) == Film.year,
        func.object(a=Film.year),
    ],
    ids=repr,
)
def test_pickles(node: Any) -> None:
    """An expression that went through pickle is compiled as before; operators stay the same objects."""
    again = pickle.loads(pickle.dumps(node))
    if isinstance(node, Call) and node.operator.kind != "scalar":
        assert node.operator is again.operator
        assert accumulator(node, SCOPE) == accumulator(again, SCOPE)
    else:
        assert emit(node, SCOPE) == emit(again, SCOPE)


SIZE = {"$cond": [{"$isArray": "$genres"}, {"$size": "$genres"}, None]}
IN_BRACKET = {"$and": [{"$gt": ["$$v", 5]}, {"$lt": ["$$v", ""]}]}
CONDITIONS: list[tuple[Predicate[Any], dict[str, Any]]] = [
    # what a path and a literal say stays in the match language
    (Film.genres.size() == 2, {"genres": {"$size": 2}}),
    (func.literal(1990) == Film.year, {"year": 1990}),
    (func.literal(1990) < Film.year, {"year": {"$gt": 1990}}),
    (Film.year >= func.literal(1990), {"year": {"$gte": 1990}}),
    (Film.year.label("y") == 1990, {"year": 1990}),
    (Film.genres[0] == "x", {"genres.0": "x"}),
    (Film.scenes.any_(Scene.takes.size() == 1), {"scenes": {"$elemMatch": {"takes": {"$size": 1}}}}),
    # the rest is one $expr
    (Film.genres.size() > 2, {"$expr": {"$gt": [SIZE, 2]}}),
    (Film.genres.size() == -1, {"$expr": {"$eq": [SIZE, -1]}}),
    (Film.year == Film.born, {"$expr": {"$eq": [{"$ifNull": ["$year", None]}, {"$ifNull": ["$born", None]}]}}),
    (Film.year != Film.born, {"$expr": {"$ne": [{"$ifNull": ["$year", None]}, {"$ifNull": ["$born", None]}]}}),
    (func.year(Film.extra) == 1990, {"$expr": {"$eq": [{"$year": "$extra"}, 1990]}}),
    (func.str_len_cp(Film.title) >= 3, {"$expr": {"$gte": [{"$strLenCP": "$title"}, 3]}}),
    (func.is_number(Film.extra), {"$expr": {"$isNumber": "$extra"}}),
    (
        Film.year + 1 > 5,
        {"$expr": {"$let": {"vars": {"v": {"$add": ["$year", 1]}}, "in": IN_BRACKET}}},
    ),
    (
        (Film.title == "x") & func.is_number(Film.extra) & (Film.year * 2 == 4),
        {"title": "x", "$expr": {"$and": [{"$isNumber": "$extra"}, {"$eq": [{"$multiply": ["$year", 2]}, 4]}]}},
    ),
    (
        (Film.title == "x") | (Film.year * 2 == 4),
        {"$or": [{"title": "x"}, {"$expr": {"$eq": [{"$multiply": ["$year", 2]}, 4]}}]},
    ),
    (~(Film.year * 2 == 4), {"$nor": [{"$expr": {"$eq": [{"$multiply": ["$year", 2]}, 4]}}]}),
    (
        Film.scenes.any_(Scene.name == "a", Scene.seconds * 2 == 4),
        {
            "$expr": {
                "$anyElementTrue": [
                    {
                        "$map": {
                            "input": {"$cond": [{"$isArray": "$scenes"}, "$scenes", []]},
                            "as": "e",
                            "in": {
                                "$and": [
                                    {"$eq": [{"$type": "$$e"}, "object"]},
                                    {"$eq": ["$$e.name", "a"]},
                                    {"$eq": [{"$multiply": ["$$e.seconds", 2]}, 4]},
                                ]
                            },
                        }
                    }
                ]
            }
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=[str(row[1])[:60] for row in CONDITIONS])
def test_conditions(condition: Predicate[Any], expected: dict[str, Any]) -> None:
    """What the match language can say is said in it, and all else in one `$expr`."""
    assert str(expected) == str(match([condition], SCOPE))


def test_conditions_on_what_was_computed() -> None:
    """A label, column or accumulator that an earlier stage computed is a path, and is matched as one."""
    total = func.sum(Film.year)
    scope = DocumentScope(Film, labels={"total": "__t", "n": "__n"}, nodes={id(total): "__t"})
    labelled = total.label("total")
    assert {"__t": {"$gt": 5}} == match([labelled > 5], scope)
    assert {"__t": {"$gt": 5}} == match([total > 5], scope)
    assert {"__n": 3} == match([column("n") == 3], scope)
    assert {"$add": ["$__t", 1]} == emit(total + 1, scope)
    assert {"$expr": {"$eq": [{"$ifNull": ["$__t", None]}, {"$ifNull": ["$year", None]}]}} == match(
        [total == Film.year], scope
    )
    grouped = RowScope(lambda node: accumulator(node, SCOPE) if isinstance(node, Call) else emit(node, SCOPE),
                       [(None, "$year", "_id"), ("total", {"$sum": "$year"}, "total")])  # fmt: skip
    assert {"_id": {"$gt": 1990}, "total": {"$lt": 5}} == match([Film.year > 1990, func.sum(Film.year) < 5], grouped)
    with pytest.raises(StatementError, match=r"Film\.title is not in the grouped rows"):
        match([Film.title == "x"], grouped)


def test_conditions_on_variables() -> None:
    """A path that is a variable can stand in an expression only."""
    scope = ElementScope(Scene, "here", "$e.")
    assert {"$expr": {"$eq": ["$$e.name", "x"]}} == match([Scene.name == "x"], scope)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (func.sum(Film.year), "func.sum(Film.year) is computed over rows"),
        (func.rank(), "func.rank() is computed over rows"),
        (window(func.sum(Film.year)), "window(func.sum(Film.year)) stands in the select list"),
        (func.bucket(Film.year, boundaries=[1, 2]), "func.bucket(Film.year) stands in group_by()"),
        (score(), "score() can be used only after .like(...)"),
        (Other.year, "Other.year: the statement is about Film; join Other first"),
        (func.abs(Other.year), "Other.year: the statement is about Film; join Other first"),
    ],
    ids=repr,
)
def test_what_cannot_stand_in_an_expression(node: Any, message: str) -> None:
    """The error says where it can stand."""
    with pytest.raises(StatementError) as raised:
        emit(node, SCOPE)
    assert str(raised.value).startswith(message)


def test_what_is_in_an_expression() -> None:
    """Accumulators and windows are found wherever they are, but not those of a window as a group's."""
    running = window(func.sum(Film.year), order_by=Film.year)
    assert has_accumulator(func.round(func.avg(Film.year) + 1))
    assert not has_accumulator(running + 1)
    assert not has_accumulator(func.max(Film.year, 1))
    assert [running] == [node for _, node in walk([func.if_null(running, 0)]) if is_window(node)]
    top = func.top(Film.title, order_by=Film.year)
    assert ["Film.title", "Film.year"] == [repr(child) for child in top.children()]
    other = aliased(Film, "other")
    assert {"$sum": 1} == accumulator(func.count(other), SCOPE)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Film.year, False),
        (Film.genres, True),
        (Film.genres[0], False),
        (Film.scenes.name, True),
        (Film.genres.item(), False),
        (Film.extra, True),
        (Film.year + 1, False),
        (func.push(Film.year), True),
        (func.max(Film.genres), True),
        (func.sum(Film.year).label("n"), False),
        (case((Film.year == 1, Film.genres)), True),
        (case((Film.year == 1, 1), else_=Film.year), False),
        (column("x"), True),
        (Film.year == 1, False),
        (ADD, False),
    ],
    ids=repr,
)
def test_what_may_be_a_list(node: Any, expected: bool) -> None:
    """What declared types and operators say of a value."""
    assert expected is may_be_list(node)
