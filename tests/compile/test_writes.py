"""Statements that write, and the commands that they become."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import pytest

from superorm import (
    Document,
    Mapped,
    Registry,
    StatementError,
    UnsupportedError,
    ValidationError,
    VectorError,
    delete,
    field,
    func,
    insert,
    select,
    update,
)
from superorm.compile.writes import compile_merge, compile_update
from superorm.expr.assignments import Assignment
from superorm.schema.mapping import class_map
from superorm.unitofwork.statement_writes import inserted_document, on_insert, upsert_of
from tests.compile.classes import Actor, Color, Imdb, Movie, Person

registry = Registry()


class Counted(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    at: Mapped[list[int] | None] = field(default=None)
    version: Mapped[int] = field(version=True, name="v")


class Base(Document, registry=registry):
    name: Mapped[str] = field(default="")


class Derived(Base, registry=registry):
    size: Mapped[int] = field(default=0)


class Box(TypedDict):
    needed: int
    more: NotRequired[int]


class Total(Document, registry=registry):
    __extra__ = "forbid"
    id: Mapped[str] = field(primary_key=True)
    sum: Mapped[int] = field(name="s")
    seen: Mapped[set[str]] = field(factory=set)


class Strict(Document, registry=registry):
    name: Mapped[str]
    code: Mapped[int | None]
    box: Mapped[Box | None] = field(default=None)


OPERATORS: list[tuple[Assignment[Movie], dict[str, Any]]] = [
    (Movie.year.to(1995), {"$set": {"year": 1995}}),
    (Movie.plot.to("$title"), {"$set": {"p": "$title"}}),
    (Movie.color.to(Color.BLUE), {"$set": {"color": 2}}),
    (Movie.imdb.to(Imdb(rating=8.3)), {"$set": {"imdb": {"rating": 8.3, "v": 0, "desc": ""}}}),
    (Movie.imdb.votes.to(3), {"$set": {"imdb.v": 3}}),
    (Movie.imdb[Imdb.desc].to("x"), {"$set": {"imdb.desc": "x"}}),
    (Movie.meta["k"].to({"a": [1, "$x"]}), {"$set": {"meta.k": {"a": [1, "$x"]}}}),
    (Movie.year.unset(), {"$unset": {"year": ""}}),
    (Movie.genres.push("a", "$b"), {"$push": {"genres": {"$each": ["a", "$b"]}}}),
    (Movie.genres.push("a", position=0), {"$push": {"genres": {"$each": ["a"], "$position": 0}}}),
    (Movie.genres.add_to_set("a"), {"$addToSet": {"genres": {"$each": ["a"]}}}),
    (Movie.genres.pull("a", "b"), {"$pullAll": {"genres": ["a", "b"]}}),
    (Movie.tags.pull(["a"]), {"$pullAll": {"tags": [["a"]]}}),
    (
        Movie.cast.pull(Actor.name == "Al", Actor.born < 1950),
        {"$pull": {"cast": {"name": "Al", "born": {"$lt": 1950}}}},
    ),
    (Movie.genres.pop(), {"$pop": {"genres": 1}}),
    (Movie.genres.pop("first"), {"$pop": {"genres": -1}}),
]


@pytest.mark.parametrize(("assignment", "expected"), OPERATORS, ids=lambda value: f"{value!r:.60}")
def test_operators(assignment: Assignment[Movie], expected: dict[str, Any]) -> None:
    """A literal change is an operator."""
    plan = update(Movie).where(Movie.title == "Heat").set(assignment).plan()
    operation = {"q": {"title": "Heat"}, "u": expected, "multi": True, "upsert": False}
    assert {"update": "movies", "updates": [operation]} == plan


@pytest.mark.parametrize(
    ("assignment", "path", "holder", "position"),
    [(Movie.genres[0].to("x"), "genres.0", "$genres", 0), (Movie.cast[1].name.to("x"), "cast.1.name", "$cast", 1)],
)
def test_elements_are_assigned_where_they_are(
    assignment: Assignment[Movie], path: str, holder: str, position: int
) -> None:
    """Where there is no such element, the server would make a document of the list."""
    (operation,) = update(Movie).where(Movie.title == "Heat").set(assignment).plan()["updates"]
    size = {"$cond": [{"$isArray": holder}, {"$size": holder}, None]}
    assert {"title": "Heat", "$expr": {"$gt": [size, position]}} == operation["q"]
    assert {"$set": {path: "x"}} == operation["u"]


def added(path: str) -> dict[str, Any]:
    """One more, unless that has more than 64 bits."""
    too_large = {"$and": [{"$eq": [{"$type": "$$v"}, "double"]}, {"$gte": [{"$abs": "$$v"}, 2.0**63]}]}
    checked = {"$cond": [too_large, {"$toInt": "$$v"}, "$$v"]}
    return {"$let": {"vars": {"v": {"$add": [path, 1]}}, "in": checked}}


PIPELINES: list[tuple[Assignment[Movie], dict[str, Any]]] = [
    (Movie.year.inc(1), {"year": added("$year")}),
    (Movie.year.to(Movie.year * 2), {"year": {"$multiply": ["$year", 2]}}),
    (Movie.title.to(Movie.plot), {"title": {"$ifNull": ["$p", None]}}),
    (
        Movie.title.to(func.concat("$", Movie.plot)),
        {"title": {"$ifNull": [{"$concat": [{"$literal": "$"}, "$p"]}, None]}},
    ),
    (
        Movie.imdb.votes.inc(1),
        {
            "imdb": {
                "$cond": [
                    {
                        "$and": [
                            {"$in": [{"$type": "$imdb"}, ["null", "missing"]]},
                            {"$eq": [{"$ifNull": [added("$imdb.v"), None]}, None]},
                        ]
                    },
                    "$imdb",
                    {
                        "$cond": [
                            {"$in": [{"$type": "$imdb"}, ["object", "missing"]]},
                            {"$mergeObjects": ["$imdb", {"v": added("$imdb.v")}]},
                            {"$toInt": {"$concat": ["imdb is no document: ", {"$type": "$imdb"}]}},
                        ]
                    },
                ]
            }
        },
    ),
]


@pytest.mark.parametrize(("assignment", "expected"), PIPELINES, ids=lambda value: f"{value!r:.60}")
def test_pipelines(assignment: Assignment[Movie], expected: dict[str, Any]) -> None:
    """A change that computes is a stage of a pipeline."""
    (operation,) = update(Movie).all().set(assignment).plan()["updates"]
    assert [{"$set": expected}] == operation["u"]


def test_literals_in_pipelines_stay_literals() -> None:
    """What would be a path or an operator is wrapped."""
    changes = [Movie.year.inc(1), Movie.title.to("$plot"), Movie.meta.to({"a": "$x"}), Movie.plot.unset()]
    (operation,) = update(Movie).all().set(*changes).plan()["updates"]
    sets = {
        "year": added("$year"),
        "title": {"$literal": "$plot"},
        "meta": {"$literal": {"a": "$x"}},
    }
    assert [{"$set": sets}, {"$unset": ["p"]}] == operation["u"]


def test_versions_are_counted() -> None:
    """Both forms count the version; a missing one counts as 0."""
    (classic,) = update(Counted).all().values(n=3).plan()["updates"]
    assert {"$set": {"n": 3}, "$inc": {"v": 1}} == classic["u"]
    (pipeline,) = update(Counted).all().set(Counted.n.inc(1)).plan()["updates"]
    assert {"$set": {"v": {"$add": [{"$ifNull": ["$v", 0]}, 1]}}} == pipeline["u"][-1]


def test_a_list_that_may_be_null_needs_a_pipeline() -> None:
    """The server's own $push fails on null."""
    (operation,) = update(Counted).all().set(Counted.at.push(1)).plan()["updates"]
    absent = {"$eq": [{"$ifNull": ["$at", None]}, None]}
    wrong = {"$toInt": {"$concat": ["Counted.at is no list: ", {"$type": "$at"}]}}
    base = {"$cond": [{"$isArray": "$at"}, "$at", {"$cond": [absent, [], wrong]}]}
    assert {"$set": {"at": {"$concatArrays": [base, [1]]}}} == operation["u"][0]


def test_only_documents_of_the_class() -> None:
    """A statement on a derived class leaves the others' documents alone."""
    only = {"_type": "Derived"}
    (operation,) = update(Derived).all().values(size=1, name="x").plan()["updates"]
    assert (only, {"$set": {"size": 1, "name": "x"}}) == (operation["q"], operation["u"])
    assert {"delete": "base", "deletes": [{"q": {**only, "size": 3}, "limit": 0}]} == delete(Derived).where(
        Derived.size == 3
    ).plan()
    assert [{"q": {}, "limit": 0}] == delete(Base).all().plan()["deletes"]


def test_update_upsert() -> None:
    """The inserted document has what the conditions say, the defaults, and the changes."""
    statement = update(Counted).where(Counted.id == "k", Counted.n < 5).values(at=[1]).upsert()
    plan = compile_update(statement)
    document = inserted_document(plan)
    assert {"_id": "k", "n": 0, "at": [1], "v": 0} == document
    assert {"$set": {"at": [1]}, "$inc": {"v": 1}, "$setOnInsert": {"n": 0}} == on_insert(plan, document)
    with pytest.raises(StatementError, match="needs a value for id"):
        inserted_document(compile_update(update(Counted).where(Counted.n == 1).values(at=None).upsert()))
    several = update(Counted).where(Counted.id == "k", Counted.n < 5, Counted.n == 3).values(at=[1]).upsert()
    assert {"_id": "k", "n": 3, "at": [1], "v": 0} == inserted_document(compile_update(several))


def test_insert_upsert() -> None:
    """What was given is set, the rest only on insertion; the key never changes."""
    mapping = class_map(Counted)
    document = {"_id": "k", "n": 5, "at": None, "v": 1}
    by_key = upsert_of(mapping, [mapping.key], document, Counted(id="k", n=5), ["id", "n"])
    assert {"_id": "k"} == by_key.op["q"]
    assert {"$set": {"n": 5}, "$setOnInsert": {"at": None}, "$inc": {"v": 1}} == by_key.op["u"]
    by_n = upsert_of(mapping, [mapping.by_attribute["n"]], document, Counted(id="k", n=5), ["id", "n", "at"])
    assert {"n": 5} == by_n.op["q"]
    assert {"$set": {"at": None}, "$setOnInsert": {"_id": "k"}, "$inc": {"v": 1}} == by_n.op["u"]


def test_merges() -> None:
    """The rows have stored names; versions are counted by a pipeline."""
    plan = compile_merge(select(Movie.title.label("_id"), Movie.plot).merge_into("other", when_matched="replace"))
    merge = {"into": "other", "on": "_id", "whenMatched": "replace", "whenNotMatched": "insert"}
    assert [{"$project": {"_id": "$title", "p": "$p"}}, {"$merge": merge}] == plan.read.pipeline
    assert ("movies", [{"$project": {"_id": "$title", "p": "$p"}}]) == (plan.rows.collection, plan.rows.pipeline)
    whole = compile_merge(select(Person).where(Person.name == "x").merge_into(Counted, on="name"))
    counted = {"_id": "$_id", "v": {"$add": [{"$ifNull": ["$v", 0]}, 1]}}
    assert [{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new", counted]}}] == whole.read.pipeline[-1]["$merge"][
        "whenMatched"
    ]


LISTED = func.push(Movie.year)


def test_merges_by_attributes() -> None:
    """A label that is an attribute of the target is its stored name; one that is a stored name stays."""
    for sum in "sum", "s":
        columns = select(Movie.title.label("id"), Movie.year.label(sum))
        for on in "id", "_id":
            plan = compile_merge(columns.merge_into(Total, on=on))
            assert [{"$project": {"_id": "$title", "s": "$year"}}] == plan.rows.pipeline
            assert ("_id", ("_id",)) == (plan.read.pipeline[-1]["$merge"]["on"], plan.on)
    two = compile_merge(columns.merge_into(Total, on=["id", "sum"]))
    assert ("_id", "s") == two.on
    assert [{"$project": {"id": "$title", "s": "$year", "_id": 0}}] == compile_merge(
        columns.merge_into("totals", on="id")
    ).rows.pipeline


@pytest.mark.parametrize(
    ("columns", "options", "field", "match"),
    [
        ((Movie.title, Movie.plot), {}, "s", r"^merge_into\(Total\): Total\.sum holds int, and 's' is str$"),
        ((Movie.year, Movie.year), {}, "_id", r"Total\.id holds str, and '_id' is int"),
        ((Movie.title, LISTED), {}, "s", r"Total\.sum holds int, and 's' is list\[int"),
        ((Movie.title, Movie.genres), {}, "s", r"Total\.sum holds int, and 's' is list\[str\]"),
        (
            (Movie.title,),
            {"when_matched": "keepExisting"},
            "s",
            r"no column is Total\.sum, .*\.label\('sum'\) a column, .*when_matched=\"merge\"$",
        ),
        (
            (Movie.title,),
            {"when_matched": "replace", "when_not_matched": "discard"},
            "s",
            r"no column is Total\.sum, .* when_matched=\"merge\"",
        ),
        (
            (Movie.title, Movie.year, Movie.year.label("zz")),
            {},
            "zz",
            "Total has no field for 'zz', and __extra__ = \"forbid\" refuses .*; it has id, sum, seen$",
        ),
    ],
)
def test_merges_of_what_a_class_cannot_hold(columns: Any, options: Any, field: str, match: str) -> None:
    """Columns of another type, missing ones and unknown ones are refused with class and column."""
    labelled = [one.label(name) for one, name in zip(columns, ["id", "sum"], strict=False)]
    statement = select(*labelled, *columns[2:])
    if columns[-1] is LISTED:
        statement = statement.group_by(Movie.title)
    with pytest.raises(StatementError, match=match) as raised:
        compile_merge(statement.merge_into(Total, **options))
    assert (Total, field) == (raised.value.document_class, raised.value.field)


def test_merges_of_what_a_class_can_hold() -> None:
    """Items of unwound lists count as such, and documents that may be there may get a part."""
    items = select(Movie.genres.label("id"), func.count().label("sum")).unwind(Movie.genres).group_by(Movie.genres)
    assert compile_merge(items.merge_into(Total))
    own = select(Total.id, (Total.sum * 2).label("sum"))
    assert compile_merge(own.merge_into(Total))
    part = select(Total.id, Total.seen)
    computed = select(func.concat(Total.id, "x").label("id"), Total.seen)
    joined = select(Movie.title.label("id"), Total.seen).select_from(Movie).join(Total, Total.id == Movie.title)
    for there in part, part.union_all(part), computed, joined, select(Movie.title.label("id")):
        assert compile_merge(there.merge_into(Total))
        assert compile_merge(there.merge_into(Total, when_not_matched="discard"))
        for how in "replace", "keepExisting", "fail":
            with pytest.raises(StatementError, match=r"no column is Total\.sum"):
                compile_merge(there.merge_into(Total, when_matched=how))  # type: ignore[call-overload,arg-type]
    whole = select(Counted).where(Counted.n > 1)
    assert compile_merge(whole.merge_into(Counted))
    with pytest.raises(StatementError, match="Total has no field for 'n'"):
        compile_merge(whole.merge_into(Total))
    with pytest.raises(StatementError, match=r"Counted\.at holds list\[int\] \| None, and 'at' is str"):
        compile_merge(select(Counted.id, Counted.id.label("at")).merge_into(Counted))


class Part(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)


class Whole(Part):
    size: Mapped[int]


class Sized(Document, registry=registry):
    id: Mapped[str] = field(primary_key=True)
    size: Mapped[int]
    at: Mapped[int] = field(default=0)


class Kept(Document, registry=registry):
    __on_mismatch__ = "keep"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int]


@pytest.mark.parametrize(
    ("statement", "target", "options"),
    [
        (select(Counted).stage({"$set": {"size": 1, "at": 2}}), Sized, {"when_matched": "replace"}),
        (select(Counted).stage({"$project": {"s": "$n"}}), Total, {"when_matched": "replace"}),
        (select(Counted.id, Counted.at).stage({"$unwind": "$at"}), Sized, {}),
        (select(Counted.id, Counted.at).unwind(Counted.at), Sized, {}),
        (select(Counted.id, Counted.at).unwind(Counted.at).union_all(select(Counted.id, Counted.n)), Sized, {}),
        (select(Part), Sized, {"when_matched": "replace"}),
        (select(Counted.id, Counted.id.label("n")), Kept, {}),
        (select(Counted.n.label("id")), Kept, {"when_matched": "replace"}),
        (select(Kept.n.label("id"), Kept.n.label("size")), Sized, {}),
        (select(Kept.n.label("id"), Kept.n.label("size")), Sized, {"when_matched": "replace"}),
    ],
)
def test_merges_of_what_is_not_known(statement: Any, target: Any, options: Any) -> None:
    """Nothing is said of raw stages, of subclasses' fields and of classes that keep what does not fit."""
    assert compile_merge(statement.merge_into(target, **options))


def test_merges_into_subclasses() -> None:
    """New documents name their class, and those that are there keep theirs."""
    pipeline = compile_merge(select(Movie.id, Movie.title.label("name")).merge_into(Derived)).read.pipeline
    _, named, merge = pipeline
    assert {"$set": {"_type": "Derived"}} == named
    (replaced,) = merge["$merge"]["whenMatched"]
    *documents, kept = replaced["$replaceWith"]["$mergeObjects"]
    assert ["$$ROOT", "$$new"] == documents
    assert {"$in": ["$_type", ["Derived"]]} == kept["_type"]["$cond"][0]
    assert "$$ROOT._type" == kept["_type"]["$cond"][1]
    whole = compile_merge(select(Derived).merge_into(Derived)).read.pipeline
    assert [{"_type": "Derived"}] == [stage["$match"] for stage in whole if "$match" in stage]
    assert not any("$set" in stage for stage in whole)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: insert(Imdb), StatementError, "takes a document class"),  # type: ignore[type-var]
        (lambda: update(3), StatementError, "takes a document class"),  # type: ignore[type-var]
        (lambda: insert(Movie).values([3]), StatementError, "objects and dicts"),  # type: ignore[list-item]
        (lambda: insert(Movie).values(nope=3), StatementError, "Movie has no 'nope'; there are id, added, title"),
        (lambda: insert(Counted).values(id="x", version=3), StatementError, "has no 'version'"),
        (lambda: insert(Movie).upsert(Movie.imdb.votes), StatementError, "takes fields such as"),
        (lambda: insert(Movie).upsert("title"), StatementError, "takes fields such as"),  # type: ignore[arg-type]
        (lambda: insert(Movie).returning(), StatementError, "needs the document class"),  # type: ignore[call-overload]
        (lambda: insert(Movie).returning("title"), StatementError, "takes document classes"),  # type: ignore[call-overload]
        (lambda: update(Movie).where(True), StatementError, "takes conditions"),  # type: ignore[arg-type]
        (lambda: update(Movie).set(3), StatementError, "takes changes"),  # type: ignore[arg-type]
        (lambda: update(Movie).values(year="x"), ValidationError, "Movie.year cannot be stored"),
        (lambda: update(Movie).values(embedding=[1.0]), VectorError, "Movie.embedding cannot be stored"),
        (lambda: Movie.year.inc("x"), StatementError, "arithmetic takes numbers"),  # type: ignore[arg-type]
        (lambda: Movie.year.inc(True), StatementError, "arithmetic takes numbers"),
        (lambda: Movie.title.push("x"), StatementError, "no list"),  # type: ignore[misc]
        (lambda: Movie.genres.pop("middle"), StatementError, '"first" or "last"'),  # type: ignore[arg-type]
        (lambda: update(Movie).all().set(Movie.genres.item().to("x")).plan(), StatementError, "item"),
        (lambda: update(Movie).all().set(Movie.genres[0].unset()).plan(), StatementError, "leave null"),
        (
            lambda: update(Movie).all().set(Movie.imdb.rating.unset()).plan(),
            StatementError,
            r"^Movie\.imdb\.rating cannot be assigned: documents cannot be read without it; give it a default",
        ),
        (
            lambda: update(Strict).all().set(Strict.name.unset()).plan(),
            StatementError,
            r"Strict\.name cannot be assigned",
        ),
        (
            lambda: update(Strict).all().set(Strict.code.unset()).plan(),
            StatementError,
            r"Strict\.code cannot be assigned",
        ),
        (
            lambda: update(Strict).all().set(Strict.box["needed"].unset()).plan(),
            StatementError,
            "cannot be read without",
        ),
        (lambda: update(Movie).all().set(Movie.imdb.votes.to(1), Movie.imdb.unset()).plan(), StatementError, "twice"),
        (
            lambda: compile_update(update(Movie).all().set(Movie.year.inc(1)), frozenset({"$add"}), "x"),
            UnsupportedError,
            r"x has no \$add",
        ),
        *[
            (
                lambda condition=condition: update(Movie).where(condition).values(year=3).upsert().plan(),
                StatementError,
                why,
            )
            for condition, why in [
                (Movie.genres.contains("a"), r"Movie\.genres.* expected list\[str\], got str 'a'"),
                (Movie.genres[0] == "a", "elements of a list"),
                (Movie.cast.name == "a", "elements of a list"),
                (Movie.genres.all_(["a"]), r"an element would be in the place of the list; .* \.in_\("),
                (Movie.title.in_([5]), "expected str, got int 5"),  # type: ignore[list-item]
                ((Movie.year == 3) & (Movie.title == 5), "expected str, got int 5"),  # type: ignore[operator]
                ((Movie.title == "a") & Movie.title.in_(["a"]), "another condition says its value"),
                ((Movie.imdb == Imdb(rating=1.0)) & (Movie.imdb.votes == 1), "another condition says its value"),
            ]
        ],
        (
            lambda: update(Movie).where(Movie.title == 5).set(Movie.year.inc(1)).upsert().plan(),  # type: ignore[arg-type]
            StatementError,
            "expected str, got int 5",
        ),
        (
            lambda: update(Movie).where(Movie.year == 5).set(Movie.genres[0].to("a")).upsert().plan(),
            StatementError,
            "a new document has no elements",
        ),
        (lambda: compile_merge(select(Movie.title, Movie.title).merge_into("x")), StatementError, "called the same"),
        (lambda: compile_merge(select(Movie.title).merge_into("x")), StatementError, r"label\('_id'\)"),
        (lambda: compile_merge(select(Movie.title).merge_into("x", on="p")), StatementError, "no column is called 'p'"),
    ],
)
def test_refusals(make: Any, error: type[Exception], match: str) -> None:
    """What cannot be is an error before anything is sent."""
    with pytest.raises(error, match=match):
        make()


def test_plans_share_nothing_with_their_statements() -> None:
    """Who changes a plan changes no statement."""
    for statement in (
        update(Movie).where(Movie.year.in_([1, 2])).set(Movie.genres.to(["a"])),
        update(Movie).where(Movie.year.in_([1, 2])).set(Movie.genres.push("a"), Movie.title.to(Movie.plot)),
        delete(Movie).where(Movie.year.in_([1, 2])),
    ):
        before = repr(statement.plan())
        _empty(statement.plan())
        assert before == repr(statement.plan())


def _empty(value: Any) -> None:
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _empty(part)
    if isinstance(value, (dict, list)):
        value.clear()


def test_upserts_of_what_is_assigned() -> None:
    """What a condition says of a field does not count where the field is given another value."""
    where = update(Movie).where(Movie.title == "x", Movie.genres == "a")
    with pytest.raises(StatementError, match=r"Movie\.genres: the new document would hold what does not fit"):
        where.set(Movie.year.to(3)).upsert().plan()
    (operation,) = where.set(Movie.genres.to(["a"])).upsert().plan()["updates"]
    assert {"title": "x", "genres": "a"} == operation["q"]
