"""Indexes as classes declare them: stored paths, what contradicts itself, and what cannot be in one collection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypedDict, cast

import pytest

from superorm import Document, Embedded, Index, Mapped, MappingError, Registry, field
from superorm.compile.indexes import IndexModel, index_models
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.mapping import class_map

registry = Registry()


class Award(Embedded):
    name: Mapped[str] = field(index=True, name="n")
    year: Mapped[int] = field(default=0)
    given: Mapped[dt.datetime | None] = field(default=None, ttl=60)


class Person(Embedded):
    name: Mapped[str] = field(name="nm")
    email: Mapped[str | None] = field(default=None, unique=True)
    awards: Mapped[list[Award]] = field(factory=list, name="aw")
    friend: Mapped[Person | None] = field(default=None)


class Movie(Document, registry=registry):
    __collection__ = "movies"
    __indexes__ = (
        Index("title", "-year", unique=True, partial=lambda cls: cls.year > 2000),
        Index("director.awards.year"),
        Index("cast.name", "cast.awards.name", sparse=True, hidden=True, name="people"),
        Index("meta.source.lang"),
        Index("meta.$**"),
        Index("key:hashed", "year"),
        Index("place:2dsphere"),
        Index("added", ttl=dt.timedelta(days=1)),
        Index("dates", ttl=0),
        Index("title", collation={"locale": "en", "strength": 2}, name="ci"),
    )

    title: Mapped[str]
    year: Mapped[int] = field(default=0, index=True)
    plot: Mapped[str] = field(default="", name="p", index="text")
    tags: Mapped[list[str]] = field(factory=list, index="text")
    director: Mapped[Person | None] = field(default=None, name="d")
    cast: Mapped[list[Person]] = field(factory=list)
    named: Mapped[dict[str, Person]] = field(factory=dict)
    meta: Mapped[dict[str, Any]] = field(factory=dict, name="m")
    key: Mapped[str] = field(default="")
    place: Mapped[Any] = field(default=None)
    added: Mapped[dt.datetime | None] = field(default=None)
    dates: Mapped[list[dt.date]] = field(factory=list)


def models(*classes: type) -> dict[str, tuple[tuple[tuple[str, int | str], ...], dict[str, Any]]]:
    """The indexes of a collection by name: keys, and options without the name."""
    found: list[IndexModel] = index_models(index for cls in classes for index in declared_indexes(class_map(cls)))
    return {
        model.name: (model.keys, {key: value for key, value in model.options.items() if key != "name"})
        for model in found
    }


def test_stored_paths_and_options() -> None:
    """Attributes' names become stored paths, also in embedded documents and lists; text fields share one index."""
    plain: dict[str, Any] = {}
    assert {
        "year_1": ((("year", 1),), plain),
        "p_text_tags_text": ((("p", "text"), ("tags", "text")), plain),
        "d.email_1": ((("d.email", 1),), {"unique": True}),
        "d.aw.n_1": ((("d.aw.n", 1),), plain),
        "d.aw.given_1": ((("d.aw.given", 1),), {"expireAfterSeconds": 60}),
        "cast.email_1": ((("cast.email", 1),), {"unique": True}),
        "cast.aw.n_1": ((("cast.aw.n", 1),), plain),
        "cast.aw.given_1": ((("cast.aw.given", 1),), {"expireAfterSeconds": 60}),
        "title_1_year_-1": (
            (("title", 1), ("year", -1)),
            {"unique": True, "partialFilterExpression": {"year": {"$gt": 2000}}},
        ),
        "d.aw.year_1": ((("d.aw.year", 1),), plain),
        "people": ((("cast.nm", 1), ("cast.aw.n", 1)), {"sparse": True, "hidden": True}),
        "m.source.lang_1": ((("m.source.lang", 1),), plain),
        "m.$**_1": ((("m.$**", 1),), plain),
        "key_hashed_year_1": ((("key", "hashed"), ("year", 1)), plain),
        "place_2dsphere": ((("place", "2dsphere"),), plain),
        "added_1": ((("added", 1),), {"expireAfterSeconds": 86_400}),
        "dates_1": ((("dates", 1),), {"expireAfterSeconds": 0}),
        "ci": ((("title", 1),), {"collation": {"locale": "en", "strength": 2}}),
    } == models(Movie)


def test_text_and_wildcard_options() -> None:
    """Weights and projections are by stored path too."""

    class Page(Document, registry=Registry()):
        __indexes__ = (
            Index(
                "title:text", "body:text", "-at", weights={"body": 3}, default_language="none", language_override="l"
            ),
            Index("$**", exclude=["body"], name="most"),
            Index("$**", include=["title", "meta"]),
        )
        title: Mapped[str]
        body: Mapped[str] = field(name="b")
        meta: Mapped[dict[str, str]] = field(factory=dict, name="m")
        at: Mapped[int] = field(default=0)

    assert {
        "title_text_b_text_at_-1": (
            (("title", "text"), ("b", "text"), ("at", -1)),
            {"weights": {"b": 3}, "default_language": "none", "language_override": "l"},
        ),
        "most": ((("$**", 1),), {"wildcardProjection": {"b": 0}}),
        "$**_1": ((("$**", 1),), {"wildcardProjection": {"title": 1, "m": 1}}),
    } == models(Page)


def test_fields_and_conditions_after_the_class() -> None:
    """After the class an index takes fields, orders and conditions; an abstract base's indexes are the class's."""

    class Base(Document, registry=Registry()):
        __abstract__ = True
        __indexes__ = (Index("name", partial=lambda cls: cls.live == True),)  # noqa: E712
        name: Mapped[str]
        live: Mapped[bool] = field(default=True, name="l")

    class House(Base):
        rooms: Mapped[int] = field(default=1)
        owner: Mapped[Person | None] = field(default=None, name="o")

    House.__indexes__ = [
        Index(House.owner.awards.name, House.rooms.desc(), partial=(House.rooms > 3) & House.owner.exists())
    ]
    found = models(House)
    assert {"l": True} == found["name_1"][1]["partialFilterExpression"]
    assert (
        (("o.aw.n", 1), ("rooms", -1)),
        {"partialFilterExpression": {"rooms": {"$gt": 3}, "o": {"$exists": True}}},
    ) == found["o.aw.n_1_rooms_-1"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Index(), "needs a field"),
        (lambda: Index("a", "-a"), "twice"),
        (lambda: Index("a:btree"), "is written"),
        (lambda: Index("-a:text"), "is written"),
        (lambda: Index("a..b"), "is written"),
        (lambda: Index("$**.a"), "is written"),
        (lambda: Index(3), "is written"),  # type: ignore[arg-type]
        (lambda: Index(field()), "is written"),
        (lambda: Index("a", ttl=-1), "ttl"),
        (lambda: Index("a", ttl=True), "ttl"),
        (lambda: Index("a", ttl=2**31), "ttl"),
        (lambda: Index("a", ttl=dt.timedelta(milliseconds=1)), "ttl"),
        (lambda: Index("a", ttl=float("nan")), "ttl"),  # type: ignore[arg-type]
        (lambda: Index("a", "b", ttl=1), "single field"),
        (lambda: Index("a:hashed", ttl=1), "single field"),
        (lambda: Index("a", sparse=True, partial=lambda cls: cls.a > 1), "exclude one another"),
        (lambda: Index("a", partial={"a": 1}), "partial="),  # type: ignore[arg-type]
        (lambda: Index("a:hashed", unique=True), "hashed"),
        (lambda: Index("a:text", unique=True), r"text or hashed .* not unique; add another one"),
        (lambda: Index("b", "a:text", unique=True), "not unique"),
        (lambda: Index("$**:text", unique=True), "not unique"),
        (lambda: Index("a:hashed", "b:hashed"), "hashed"),
        (lambda: Index("a", weights={"a": 2}), "are for text"),
        (lambda: Index("a", default_language="none"), "are for text"),
        (lambda: Index("a:text", weights={"b": 2}), "weights="),
        (lambda: Index("a:text", weights={"a": 100_000}), "weights="),
        (lambda: Index("a:text", collation={"locale": "en"}), "collation"),
        (lambda: Index("a", collation={"strength": 2}), "locale"),
        (lambda: Index("a", collation=cast("Any", "locale")), "takes a document with a locale"),
        (lambda: Index("a", unique=cast("Any", "no")), "unique='no' is neither True nor False"),
        (lambda: Index("a", sparse=cast("Any", None)), "sparse=None is neither True nor False"),
        (lambda: Index("a", hidden=cast("Any", 1)), "hidden=1 is neither True nor False"),
        (lambda: Index("a:text", weights=cast("Any", "a")), "weights='a' is no mapping of fields to numbers"),
        (lambda: Index("$**", include="abc"), r"include='abc' is no list of fields"),
        (lambda: Index("$**", exclude="abc"), r"exclude='abc' is no list of fields"),
        (lambda: Index("$**", unique=True), "wildcard"),
        (lambda: Index("a.$**", ttl=1), "wildcard"),
        (lambda: Index("a.$**", sparse=True), "wildcard"),
        (lambda: Index("-$**"), "wildcard"),
        (lambda: Index("$**", "a.$**"), "wildcard"),
        (
            lambda: Index("$**", "b"),
            r"wildcard over everything beside other fields needs include= or exclude=, or name",
        ),
        (lambda: Index("b", "$**"), "wildcard over everything beside other fields needs include= or exclude="),
        (lambda: Index("b", "a.$**", exclude=["b"]), "include="),
        (lambda: Index("b", "$**:text", exclude=["b"]), "include="),
        (lambda: Index("b", "$**", exclude=["b"], unique=True), "wildcard index cannot be unique"),
        (lambda: Index("a.$**:text", "b"), "can be a wildcard for text"),
        (lambda: Index("a.$**", include=["b"]), "include="),
        (lambda: Index("a", exclude=["b"]), "include="),
        (lambda: Index("$**", include=["a", "c"], exclude=["b", "d"]), "include="),
        (lambda: Index("a", name="_id_"), "name="),
        (lambda: Index("a", name=""), "name="),
        (lambda: Index("a", name="a\0b"), "name="),
        (lambda: Index("a", name=3), "name="),  # type: ignore[arg-type]
    ],
)
def test_contradictions(make: Callable[[], Index], words: str) -> None:
    """Settings that no index can have are refused where the index is written."""
    with pytest.raises(MappingError, match=words):
        make()


class Tagged(Embedded):
    tags: Mapped[list[str]] = field(factory=list)
    more: Mapped[list[str]] = field(factory=list)
    name: Mapped[str] = field(default="")


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (("a", "b"), "a and b are lists"),
        (("-b", "n", "a"), "b and a are lists"),
        (("parts.tags", "a"), "parts.tags and a are lists"),
        (("parts.tags", "parts.more"), "parts.tags and parts.more are lists"),
        (("parts.tags", "parts.name"), None),
        (("a", "n"), None),
        (("a", "maybe"), None),
        (("maybe", "parts.tags"), None),
        (("named.x", "a"), None),
        (("some.tags", "a"), None),
        (("a:text", "b:text"), None),
    ],
)
def test_lists_side_by_side(keys: tuple[str, ...], refused: str | None) -> None:
    """Where documents surely have two lists in one index, none could be stored; None or nothing makes no list."""

    def make() -> type[Document]:
        class Lists(Document, registry=Registry()):
            __indexes__ = (Index(*keys),)
            n: Mapped[int] = field(default=0)
            a: Mapped[list[int]] = field(factory=list)
            b: Mapped[tuple[int, str]] = field(default=(1, ""))
            maybe: Mapped[list[int] | None] = field(default=None)
            parts: Mapped[list[Tagged]] = field(factory=list)
            some: Mapped[Tagged | None] = field(default=None)
            named: Mapped[dict[str, list[int]]] = field(factory=dict)

        return Lists

    if refused is None:
        assert 1 == len(declared_indexes(class_map(make())))
        return
    with pytest.raises(MappingError, match=rf"Lists\.__indexes__\[0\]: {refused}, .* an index for each"):
        make()


def test_lists_side_by_side_by_fields() -> None:
    """The same where the index is declared after the class."""

    class Lists(Document, registry=Registry()):
        a: Mapped[list[int]] = field(factory=list)
        b: Mapped[set[int]] = field(factory=set)

    Lists.__indexes__ = [Index(Lists.a, Lists.b.desc())]
    with pytest.raises(MappingError, match=r"Lists\.__indexes__\[0\]: a and b are lists"):
        declared_indexes(class_map(Lists))


def declare(annotation: str = "Mapped[str]", spec: Any = None, base: type = Document, **body: Any) -> Any:
    """A class with one field ``a``, declared now."""
    namespace = {"__module__": __name__, "__qualname__": "Holder", "__annotations__": {"a": annotation}, **body}
    if spec is not None:
        namespace["a"] = spec
    return type(base)("Holder", (base,), namespace, registry=Registry())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: declare(spec=field(index="btree")), r"Holder\.a: index='btree' is none of True, False, 'text'"),  # type: ignore[arg-type]
        (lambda: declare(spec=field(index="hashed", unique=True)), r"Holder\.a: .*hashed"),
        (
            lambda: declare(spec=field(index="text", unique=True)),
            r"Holder\.a: .*'text' is not unique; .*add Index\('a', unique=True\) to __indexes__",
        ),
        (lambda: declare(spec=field(index="text", ttl=3)), r"Holder\.a: .*ttl"),
        (lambda: declare(spec=field(ttl=3)), r"Holder\.a: a ttl counts from a date or datetime, not from str"),
        (lambda: declare("Mapped[dt.date]", field(ttl=-3)), r"Holder\.a: ttl="),
        (lambda: declare("Mapped[dt.date]", field(primary_key=True, ttl=3)), r"Holder\.a: .*primary key"),
        (lambda: declare(__indexes__=Index("a")), r"Holder\.__indexes__ is a list"),
        (lambda: declare(__indexes__=["a"]), r"Holder\.__indexes__ is a list"),
        (lambda: declare(__indexes__=[Index("b")]), r"__indexes__\[0\]: Holder has no field 'b'; it has id, a"),
        (lambda: declare(__indexes__=[Index("a"), Index("$**", include=["b"])]), r"__indexes__\[1\].* 'b'"),
        (lambda: declare(__validate__="yes"), r"Holder\.__validate__"),
        (lambda: declare(base=Embedded, __indexes__=[Index("a")]), r"Holder\.__indexes__: an Embedded"),
        (lambda: declare(base=Embedded, __validate__=True), r"Holder\.__validate__: an Embedded"),
    ],
)
def test_refused_where_the_class_is_declared(make: Callable[[], Any], words: str) -> None:
    """What is wrong with the class's own names and fields is an error at once, with class and field."""
    with pytest.raises(MappingError, match=words):
        make()


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (
            Index("director.nobody"),
            r"Movie\.__indexes__\[0\]: Person has no field 'nobody'; it has name, email, awards",
        ),
        (Index("title.x"), r"__indexes__\[0\]: .*str.* has no part 'x'"),
        (Index("year", ttl=3), "counts from a date or datetime, not from int"),
        (Index("id"), "primary key"),
        (Index("-id"), "primary key"),
        (Index("title", partial=lambda cls: cls.year), "which is no condition"),
        (
            Index("title", partial=lambda cls: cls.zz > 5),
            r"Movie\.__indexes__\[0\]: partial= failed: AttributeError: .*zz",
        ),
        (Index("title", partial=lambda: None), r"__indexes__\[0\]: partial= failed: TypeError"),  # type: ignore[arg-type, misc]
        (Index("title", partial=lambda cls: ~(cls.year > 3)), r"takes no \$nor"),
        (Index("title", partial=lambda cls: cls.year != 3), r"takes no \$ne"),
        (Index("title", partial=lambda cls: (cls.year > 1) & cls.title.startswith("x")), r"takes no \$regex"),
        (Index("title", partial=lambda cls: cls.tags.contains(None)), r"takes no \$elemMatch"),
    ],
)
def test_refused_by_create_all(index: Index, words: str) -> None:
    """What needs all types to be known is an error before anything is made."""

    namespace = {"__module__": __name__, "__qualname__": "Movie", "__collection__": "m", "__indexes__": [index]}
    annotations = {"title": Mapped[str], "year": Mapped[int], "tags": Mapped[list[str]], "director": Mapped[Person]}
    cls = type(Document)("Movie", (Document,), {**namespace, "__annotations__": annotations}, registry=Registry())
    with pytest.raises(MappingError, match=words):
        models(cls)


def test_literals_in_conditions_are_no_operators() -> None:
    """A document in a condition of a partial index is compared with, whatever its keys are."""

    class Thing(Document, registry=Registry()):
        __indexes__ = (Index("a", partial=lambda cls: cls.meta == {"$nor": 1}),)
        a: Mapped[int] = field(default=0)
        meta: Mapped[Any] = field(default=None)

    assert {"meta": {"$eq": {"$nor": 1}}} == models(Thing)["a_1"][1]["partialFilterExpression"]


def test_field_of_another_class() -> None:
    """A field of another class is refused."""

    class Thing(Document, registry=Registry()):
        __indexes__ = (Index(Movie.title),)
        title: Mapped[str]

    with pytest.raises(MappingError, match=r"Movie\.title is no field of Thing"):
        models(Thing)


class Vehicle(Document, registry=Registry()):
    __indexes__ = (Index("maker", "n", unique=True),)
    maker: Mapped[str] = field(default="", index=True)
    n: Mapped[int] = field(default=0, unique=True)


class Fleet(TypedDict):
    owner: Person
    fleets: list[Fleet]


class Car(Vehicle):
    __indexes__ = (
        Index("plate", "maker", unique=True, partial=lambda cls: cls.n > 1, name="own"),
        Index("plate", "n", unique=True, sparse=True),
    )
    plate: Mapped[str] = field(unique=True, name="pl")
    color: Mapped[str] = field(default="", index=True)


class Van(Car):
    sold: Mapped[dt.datetime | None] = field(default=None, ttl=60)


def test_indexes_of_subclasses() -> None:
    """What a subclass adds that refuses or deletes documents is limited to its own, also where it is asked alone."""
    cars, vans = {"_type": {"$in": ["Car", "Van"]}}, {"_type": "Van"}
    of_vehicles: dict[str, Any] = {
        "maker_1": ((("maker", 1),), {}),
        "n_1": ((("n", 1),), {"unique": True}),
        "maker_1_n_1": ((("maker", 1), ("n", 1)), {"unique": True}),
    }
    assert of_vehicles == models(Vehicle)
    of_cars: dict[str, Any] = {
        "pl_1_Car": ((("pl", 1),), {"unique": True, "partialFilterExpression": cars}),
        "color_1": ((("color", 1),), {}),
        "own": (
            (("pl", 1), ("maker", 1)),
            {"unique": True, "partialFilterExpression": {**cars, "n": {"$gt": 1}}},
        ),
        "pl_1_n_1": ((("pl", 1), ("n", 1)), {"unique": True, "sparse": True}),
    }
    assert of_cars == models(Car)
    of_vans = {"sold_1_Van": ((("sold", 1),), {"expireAfterSeconds": 60, "partialFilterExpression": vans})}
    assert of_vans == models(Van)
    assert {**of_vehicles, **of_cars, **of_vans} == models(Vehicle, Car, Van)


def test_keys_of_typed_dicts() -> None:
    """Embedded classes under them have a path."""

    class Holder(Document, registry=Registry()):
        fleet: Mapped[Fleet] = field(name="f")

    assert {"f.owner.email_1", "f.owner.aw.n_1", "f.owner.aw.given_1"} == models(Holder).keys()


class Contact(Embedded):
    kind: Mapped[str] = field(default="", index=True)


class Phone(Contact):
    number: Mapped[str] = field(default="", name="no", unique=True)


class Site(Embedded):
    url: Mapped[str] = field(default="", index=True)


def test_indexes_of_classes_that_may_be_embedded() -> None:
    """What a subclass asks for, and each class of a union, counts wherever its objects may stand."""

    class Holder(Document, registry=Registry()):
        contact: Mapped[Contact | None] = field(default=None, name="c")
        several: Mapped[list[Contact | Site]] = field(factory=list)

    expected: dict[str, Any] = {
        "c.kind_1": ((("c.kind", 1),), {}),
        "c.no_1": ((("c.no", 1),), {"unique": True}),
        "several.kind_1": ((("several.kind", 1),), {}),
        "several.no_1": ((("several.no", 1),), {"unique": True}),
        "several.url_1": ((("several.url", 1),), {}),
    }
    assert expected == models(Holder)


def classes(*bodies: dict[str, Any]) -> list[type]:
    """Classes A, B, ... of one collection."""
    common = {"__module__": __name__, "__collection__": "c", "__annotations__": {"a": Mapped[str], "b": Mapped[str]}}
    shared = Registry()
    return [
        type(Document)(name, (Document,), {**common, "__qualname__": name, **body}, registry=shared)
        for name, body in zip("AB", bodies, strict=False)
    ]


def test_classes_of_one_collection_share_indexes() -> None:
    """The same index of two classes is one; a name that one of them gives is its name; text fields are put together."""
    first, second = classes(
        {"__indexes__": [Index("a", "b"), Index("-a")], "a": field(index="text")},
        {"__indexes__": [Index("a", "b", name="both"), Index("-a")], "b": field(index="text")},
    )
    assert {"a_text_b_text", "both", "a_-1"} == models(first, second).keys()


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"a": field(index=True)}, {"a": field(unique=True)}, r"A\.a and B\.a are both called a_1"),
        ({"__indexes__": [Index("a", name="x")]}, {"__indexes__": [Index("b", name="x")]}, "both called x"),
        ({"__indexes__": [Index("a", name="x")]}, {"__indexes__": [Index("a", name="y")]}, "the same, but for their"),
        ({"__indexes__": [Index("a:text")]}, {"b": field(index="text")}, "put their fields together"),
    ],
)
def test_what_cannot_be_in_one_collection(one: dict[str, Any], other: dict[str, Any], words: str) -> None:
    """Two indexes of one name, or two for text, are refused, naming both declarations."""
    with pytest.raises(MappingError, match=words):
        models(*classes(one, other))


def test_types_that_come_later() -> None:
    """A path into a class that is declared later is checked once it is there."""

    class Early(Document, registry=Registry()):
        __indexes__ = (Index("later.name"),)
        later: Mapped[Later | None] = field(default=None, name="l")

    with pytest.raises(MappingError, match="Later"):
        models(Early)

    class Later(Embedded):
        name: Mapped[str] = field(name="n")

    assert {"l.n_1"} == models(Early).keys()
