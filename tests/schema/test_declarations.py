"""Classes: what a declaration makes of them, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Optional
from uuid import UUID

import attrs
import numpy as np
import pytest
from bson import ObjectId

import superorm
from superorm import (
    Document,
    Embedded,
    Mapped,
    MappingError,
    Registry,
    UnsupportedError,
    ValidationError,
    field,
    vector,
)
from superorm.schema.mapping import class_map
from superorm.schema.registry import default_registry
from tests.schema.helpers import load_one, store

if TYPE_CHECKING:
    from decimal import Decimal as NotThere

registry = Registry()


class Imdb(Embedded):
    rating: Mapped[float]
    votes: Mapped[int] = field(default=0)


class Movie(Document, registry=registry):
    __collection__ = "movies"

    title: Mapped[str] = field(index=True)
    year: Mapped[int] = field(default=0)
    genres: Mapped[list[str]] = field(factory=list)
    imdb: Mapped[Imdb | None] = field(default=None)
    plot: Mapped[str] = field(default="", name="p", repr=False)
    KINDS: ClassVar[list[str]] = ["long", "short"]

    def age(self, now: int) -> int:
        """Ordinary methods and class variables are left alone."""
        return now - self.year


def names_of(cls: type) -> list[tuple[str, str]]:
    """Attributes and their stored names."""
    return [(part.attribute, part.stored) for part in class_map(cls).fields]


def test_a_class() -> None:
    """A key is added, settings are kept, and the class has a constructor and a repr."""
    assert [
        ("id", "_id"),
        ("title", "title"),
        ("year", "year"),
        ("genres", "genres"),
        ("imdb", "imdb"),
        ("plot", "p"),
    ] == (names_of(Movie))
    movie = Movie(title="Heat", year=1995)
    assert isinstance(movie.id, ObjectId)
    assert f"Movie(id={movie.id!r}, title='Heat', year=1995, genres=[], imdb=None)" == repr(movie)
    assert (10, ["long", "short"]) == (movie.age(2005), Movie.KINDS)
    assert "movies" == class_map(Movie).collection
    assert attrs.has(Movie)
    assert ["title", "year", "genres", "imdb", "plot", "id"] == [*sorted_like(attrs.fields_dict(Movie))]


def sorted_like(names: Any) -> list[str]:
    """The names with the key last."""
    return sorted(names, key=lambda name: name == "id")


def test_objects() -> None:
    """Documents compare and hash by identity, embedded ones by value, also with arrays in them."""
    assert Movie(title="x") != Movie(title="x")
    assert 2 == len({Movie(title="x"), Movie(title="x")})
    assert Imdb(rating=1) == Imdb(rating=1.0, votes=0)
    assert Imdb(rating=1) != Imdb(rating=2)
    assert Imdb(rating=1) != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Imdb(rating=1))

    class Array(Embedded):
        values: Mapped[np.ndarray]

    assert Array(values=np.zeros(3)) == Array(values=np.zeros(3))
    assert Array(values=np.zeros(3)) != Array(values=np.ones(3))
    assert Array(values=np.zeros(3)) != Array(values=np.zeros(4))


def test_constructor_arguments() -> None:
    """They are keywords only; what has no default is required."""
    for arguments in ({}, {"title": "x", "nothing": 1}):
        with pytest.raises(TypeError):
            Movie(**arguments)
    with pytest.raises(TypeError):
        Movie("Heat")  # type: ignore[call-arg, misc]
    assert Movie(title="x").genres is not Movie(title="x").genres


def test_collection_names() -> None:
    """The default is the class name in snake case."""

    class HTTPRequestLog(Document, registry=registry):
        line: Mapped[str]

    assert "http_request_log" == class_map(HTTPRequestLog).collection


def test_keys() -> None:
    """A declared key replaces the ObjectId; with a factory it is not required."""

    class Person(Document, registry=registry):
        email: Mapped[str] = field(primary_key=True)

    class Place(Document, registry=registry):
        id: Mapped[UUID] = field(primary_key=True, factory=lambda: UUID(int=7))

    class Pair(Embedded):
        a: Mapped[int]
        b: Mapped[int]

    class Distance(Document, registry=registry):
        pair: Mapped[Pair] = field(primary_key=True)

    with pytest.raises(TypeError):
        Person()  # type: ignore[call-arg]
    assert [("email", "_id")] == names_of(Person)
    assert {"_id": UUID(int=7)} == store(Place())
    stored = store(Distance(pair=Pair(a=1, b=2)))
    assert {"_id": {"a": 1, "b": 2}} == stored
    assert Pair(a=1, b=2) == load_one(Distance, stored).pair
    assert not hasattr(Person, "id")


def test_abstract_bases() -> None:
    """Fields of abstract classes, also of several and of mixins, belong to each class that derives from them."""

    class Stamped(Document, registry=registry):
        __abstract__ = True

        at: Mapped[int] = field(default=1)
        by: Mapped[str] = field(default="")

    class Keyed(Document):
        __abstract__ = True

        key: Mapped[str] = field(primary_key=True)

    class Loud:
        def shout(self) -> str:
            return f"{self.title}!"  # type: ignore[attr-defined, no-any-return]

    class Both(Loud, Stamped, Keyed):
        title: Mapped[str]
        by: Mapped[str] = field(default="me", name="author")

    class Other(Stamped):
        pass

    assert [("key", "_id"), ("at", "at"), ("by", "author"), ("title", "title")] == names_of(Both)
    both = Both(key="k", title="x")
    assert ("me", 1, "x!") == (both.by, both.at, both.shout())
    assert "" == Other().by
    assert "Stamped.by" == repr(Stamped.by)
    assert {Both, Other} <= {mapping.cls for mapping in registry}
    assert not {Both, Other, Stamped} & {mapping.cls for mapping in default_registry}
    with pytest.raises(MappingError, match="Stamped is not mapped"):
        class_map(Stamped)
    with pytest.raises(AttributeError, match="Stamped has no attribute 'nothing'; it has at, by"):
        Stamped.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_extra_is_inherited() -> None:
    """Settings of an abstract class hold for those that derive from it."""

    class Strict(Document, registry=registry):
        __abstract__ = True
        __extra__ = "forbid"

    class Row(Strict):
        n: Mapped[int] = field(default=0)

    class Part(Embedded):
        __extra__ = "forbid"

        n: Mapped[int] = field(default=0)

    class Whole(Document, registry=registry):
        part: Mapped[Part]

    assert 3 == load_one(Row, {"n": 3}).n
    for raw in ({"n": 3, "m": 4}, {"m": 4}):
        with pytest.raises(ValidationError, match=r"Row .*: the stored value of m does not fit: Row has no key 'm'"):
            load_one(Row, raw)
        with pytest.raises(ValidationError, match=r"stored value of part\.m does not fit: Part has no key 'm'"):
            load_one(Whole, {"part": raw}).part  # noqa: B018


def test_a_class_defined_again_replaces_the_old_one() -> None:
    """So that notebooks work."""
    mine = Registry()

    def define() -> type:
        class Again(Document, registry=mine):
            n: Mapped[int]

        return Again

    define()
    assert [define()] == [mapping.cls for mapping in mine]


def test_annotations() -> None:
    """Names of the function, of the class body and of later classes are found, quoted or not."""

    class Later(Document, registry=registry):
        Kind = Literal["a", "b"]

        kind: Mapped[Kind] = field(default="a")
        part: Mapped[Part | None] = field(default=None)
        parts: Mapped[list[Part]] = field(factory=list)
        quoted: Mapped[Optional["Part"]] = field(default=None)  # noqa: UP037, UP045
        noted: Mapped[Annotated[int, "years"]] = field(default=3)
        date: Mapped[date | None] = field(default=None)
        dotted: superorm.Mapped[superorm.ObjectId | None] = field(default=None)

    class Part(Embedded):
        n: Mapped[int]
        more: Mapped[list[Part]] = field(factory=list)
        there: Mapped[Part | None] = field(default=None)

    later = Later(part=Part(n=1, more=[Part(n=2)]), parts=[Part(n=3)], quoted=Part(n=4), date=date(2020, 1, 2))
    again = load_one(Later, store(later))
    assert (later.part, later.parts, later.quoted, 3, date(2020, 1, 2)) == (
        again.part,
        again.parts,
        again.quoted,
        again.noted,
        again.date,
    )
    with pytest.raises(ValidationError, match="kind"):
        store(Later(kind="c"))  # type: ignore[arg-type]


def test_annotations_without_the_future_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes whose annotations are objects, as in modules without ``from __future__ import annotations``."""
    source = """
from superorm import Document, Embedded, Mapped, Registry, field
from typing import ClassVar, Optional
class Part(Embedded):
    n: Mapped[int]
    more: Mapped["list[Part]"] = field(factory=list)
class Whole(Document, registry=Registry()):
    limit: ClassVar[int] = 3
    part: Mapped[Optional[Part]] = field(default=None)
    named: Mapped[dict[str, "Later"]] = field(factory=dict)
class Later(Embedded):
    n: Mapped[int]
"""
    module: Any = ModuleType("module_without_future_import")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "module", "exec", dont_inherit=True), vars(module))
    whole = module.Whole(part=module.Part(n=1, more=[module.Part(n=2)]), named={"x": module.Later(n=3)})
    again = load_one(module.Whole, store(whole))
    assert (whole.part, whole.named) == (again.part, again.named)


def test_defaults_pass_the_converter() -> None:
    """Converters and validators are those of attrs, and run again when a changed value is flushed."""

    class Loud(Document, registry=registry):
        name: Mapped[str] = field(converter=str.upper, default="me")
        n: Mapped[int] = field(default=1, validator=[attrs.validators.ge(0), attrs.validators.lt(10)])
        part: Mapped[Checked | None] = field(default=None)

    class Checked(Embedded):
        n: Mapped[int] = field(default=1, converter=int, validator=attrs.validators.ge(0))

    assert ("ME", "YOU") == (Loud().name, Loud(name="you").name)
    with pytest.raises(ValueError, match="must be >= 0"):
        Loud(n=-1)
    assert "ME" == load_one(Loud, {}).name
    loud = Loud()
    loud.name = "they"
    assert "THEY" == store(loud)["name"]
    assert "THEY" == loud.name
    loud.n = 11
    with pytest.raises(ValidationError, match=r"Loud ObjectId.*: n cannot be stored: ValueError: 'n' must be < 10"):
        store(loud)
    loud.n = 3
    loud.part = Checked(n="5")  # type: ignore[arg-type]
    loud.part.n = "6"  # type: ignore[assignment]
    assert {"n": 6} == store(loud)["part"]
    assert 6 == loud.part.n
    loud.part.n = -6
    with pytest.raises(ValidationError, match=r"part\.n cannot be stored: ValueError: 'n' must be >= 0") as raised:
        store(loud)
    assert isinstance(raised.value.__cause__, ValueError)


def declare(annotation: Any, value: Any = None, *, base: Any = Document, **namespace: Any) -> type:
    """A class ``Bad`` with one field ``x``."""
    namespace |= {"__module__": __name__, "__qualname__": "Bad", "__annotations__": {"x": annotation}}
    if value is not None:
        namespace["x"] = value
    return type(base)("Bad", (base,), namespace, registry=Registry())  # type: ignore[no-any-return]


BAD_FIELDS: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: declare("Mapped[int]", field(default=1, factory=int)),
        "Bad.x: give field() a default or a factory, not both",
    ),
    (lambda: declare("Mapped[list[int]]", field(default=[])), "Bad.x: default=[] would be shared"),
    (lambda: declare("Mapped[Imdb]", field(default=Imdb(rating=1))), "would be shared by all objects; use factory="),
    (lambda: declare("Mapped[np.ndarray]", field(default=np.zeros(1))), "Bad.x: default=array([0.]) would be shared"),
    (lambda: declare("Mapped[int]", field(factory=3)), "Bad.x: factory=3 is no function"),  # type: ignore[arg-type]
    (lambda: declare("Mapped[int]", field(converter=3)), "Bad.x: converter=3 is no function"),  # type: ignore[arg-type]
    (lambda: declare("Mapped[int]", field(primary_key=True, name="y")), "Bad.x: a primary key is always stored as _id"),
    (lambda: declare("Mapped[int]", field(name="")), "Bad.x: name='' cannot be a stored key"),
    (lambda: declare("Mapped[int]", field(name="_id")), "Bad.x: only the key is stored as _id; it is declared as id: "),
    (lambda: declare("Mapped[int]", field(name="$x")), "Bad.x: name='$x' cannot"),
    (lambda: declare("Mapped[int]", field(name="a.b")), "Bad.x: name='a.b' cannot"),
    (lambda: declare("Mapped[int]", field(name="a\0b")), "Bad.x: name='a\\x00b' cannot"),
    (lambda: declare("Mapped[int]", field(name=5)), "Bad.x: name=5 cannot be a stored key"),  # type: ignore[arg-type]
    (lambda: declare("Mapped[int]", field(default="a")), "Bad.x: the default does not fit: expected int, got str 'a'"),
    (lambda: declare("Mapped[Imdb]", field(default=None)), "Bad.x: the default does not fit: expected Imdb, got None"),
    (
        lambda: declare("Mapped[np.ndarray | None]", vector(0)),
        "Bad.x: the dimension must be a whole number from 1 to 16384",
    ),
    (lambda: declare("Mapped[np.ndarray | None]", vector(True)), "Bad.x: the dimension must be a whole number"),
    (lambda: declare("Mapped[np.ndarray | None]", vector(20_000)), "from 1 to 16384, not 20000"),
    (
        lambda: declare("Mapped[np.ndarray | None]", vector(3, metric="l2")),  # type: ignore[arg-type]
        "Bad.x: metric='l2' is none of cosine, dot, euclidean",
    ),
    (
        lambda: declare("Mapped[np.ndarray]", vector(3, source="y")),
        "Bad.x: a computed vector needs both source= and model=",
    ),
    (
        lambda: declare("Mapped[np.ndarray | None]", vector(3, source="y", model="m")),
        "Bad.x: source='y' is no other field; there are id",
    ),
    (
        lambda: declare("Mapped[np.ndarray | None]", vector(3, source="x", model="m")),
        "Bad.x: source='x' is no other field",
    ),
    (
        lambda: declare("Mapped[list[float]]", vector(3)),
        "Bad.x: a vector is declared as Mapped[np.ndarray | None], not list",
    ),
    (lambda: declare("int", field()), "Bad.x: write its type as Mapped[...]"),
    (lambda: declare("int"), "Bad.x: write its type as Mapped[...], or as ClassVar[...] if it is no field"),
    (lambda: declare("Mapped[int]", 3), "Bad.x: write field(default=3), not a bare value"),
    (lambda: declare("ClassVar[int]", y=field()), "Bad.y has no annotation; write y: Mapped[...] = ..."),
    (lambda: declare("Mapped[object]"), "Bad.x: no type <class 'object'> is known; use one of"),
    (lambda: declare("Mapped[Movie]"), "Bad.x: no type <class 'tests.schema.test_declarations.Movie'> is known"),
    (lambda: declare("Mapped[dict[int, str]]"), "Bad.x: the keys of a dict must be str, not <class 'int'>"),
    (lambda: declare("Mapped[set[Imdb]]"), "Bad.x: a set cannot hold Imdb, which has no hash; use a list"),
    (lambda: declare("Mapped[set[list[int]]]"), "Bad.x: a set cannot hold list[int]"),
    (lambda: declare("Mapped[Strange]"), "Bad.x: the value of Strange.PAIR cannot be stored as it is: (1, 2)"),
    (
        lambda: declare("Mapped[np.nothing]"),
        "Bad.x: the annotation 'Mapped[np.nothing]' cannot be read: module 'numpy'",
    ),
    (lambda: declare("Mapped[int, str]"), "Bad.x: the annotation 'Mapped[int, str]' cannot be read"),
    (lambda: declare("Mapped[list[int]]", field(primary_key=True)), "Bad.x: a primary key cannot be a list[int]"),
    (lambda: declare("Mapped[int]", __collection__="a$b"), "Bad.__collection__: 'a$b' is no name of a collection"),
    (lambda: declare("Mapped[int]", __collection__=5), "Bad.__collection__: 5 is no name"),
    (lambda: declare("Mapped[int]", __collection__="a..b"), "Bad.__collection__: 'a..b' is no name"),
    (lambda: declare("Mapped[int]", __collection__=".a"), "Bad.__collection__: '.a' is no name"),
    (lambda: declare("Mapped[int]", __collection__="a."), "Bad.__collection__: 'a.' is no name"),
    (
        lambda: declare("Mapped[int]", __collection__="system.x"),
        "'system.x' is no name of a collection: the server keeps",
    ),
    (lambda: declare("Mapped[int]", __collection__="a.system.x"), "the server keeps such names for itself"),
    (lambda: declare("Mapped[int]", __collection__="system.profiles"), "the server keeps such names for itself"),
    (
        lambda: declare("Mapped[int]", __collection__="\u00e9" * 127),
        "it has 254 bytes, and the server takes 255 together",
    ),
    (lambda: declare("Mapped[int]", __collection__="\ud800"), "Bad.__collection__: '\\ud800' is no name"),
    (lambda: declare("Mapped[int]", field(validator=5)), "Bad.x: validator=5 is no function"),  # type: ignore[arg-type]
    (lambda: declare("Mapped[int]", field(validator=[5])), "Bad.x: validator=[5] is no function"),  # type: ignore[list-item]
    (
        lambda: declare("Mapped[int]", field(converter=attrs.Converter(lambda v, it: v, takes_self=True))),  # type: ignore[arg-type, misc]
        "Bad.x: the converter gets the value only; leave out takes_self=",
    ),
    (lambda: declare("Mapped[list[int]]", field(default=attrs.Factory(list))), "give the function itself as factory="),
    (
        lambda: declare("Mapped[Naive]"),
        "Bad.x: the value of Naive.AT cannot be stored as it is: datetime.datetime(2020",
    ),
    (lambda: declare("Mapped[Fine]"), "Bad.x: the value of Fine.AT cannot be stored as it is"),
    (lambda: declare("Mapped[NotANumber]"), "Bad.x: the value of NotANumber.NAN cannot be stored as it is: nan"),
    (lambda: declare("Mapped[list[Large]]"), "Bad.x: the value of Large.LARGE cannot be stored as it is"),
    (lambda: declare("Mapped[Torn]"), "Bad.x: the value of Torn.TORN cannot be stored as it is: '\\ud800'"),
    (lambda: declare(Mapped[Literal["\ud800"]]), "Bad.x: '\\ud800' cannot be stored as it is"),
    (lambda: declare(Mapped[Literal[2**63]]), "Bad.x: 9223372036854775808 cannot be stored as it is"),  # type: ignore[valid-type]
    (lambda: declare("Mapped[tuple[int, ..., str]]"), "Bad.x: tuple[int, ..., str] is no type of a field"),
    (lambda: declare("Mapped[tuple[..., ...]]"), "Bad.x: tuple[..., ...] is no type"),
    (lambda: declare("Mapped[tuple[()]]"), "Bad.x: tuple[()] is no type of a field; write list[int]"),
    (lambda: declare("Mapped[list[int, str]]"), "Bad.x: list[int, str] is no type"),
    (lambda: declare("Mapped[dict[str]]"), "Bad.x: dict[str] is no type"),
    (
        lambda: declare("Mapped[Unborn]"),
        "Bad.x: Unborn is abstract (__abstract__ = True), so that no field can hold it",
    ),
    (lambda: declare("Mapped[int]", __extra__="drop"), 'Bad.__extra__ must be "keep" or "forbid", not \'drop\''),
    (lambda: declare("Mapped[int]", field(primary_key=True), base=Embedded), "Bad.x: an Embedded has no primary key"),
    (
        lambda: declare("Mapped[int]", base=Embedded, __collection__="c"),
        "Bad.__collection__: an Embedded has no collection",
    ),
]


class Strange(Enum):
    PAIR = (1, 2)


class Naive(Enum):
    AT = datetime(2020, 1, 1)  # noqa: DTZ001


class Fine(Enum):
    AT = datetime(2020, 1, 1, microsecond=1, tzinfo=UTC)


class NotANumber(Enum):
    NAN = float("nan")


class Large(Enum):
    SMALL = 1
    LARGE = 2**63


class Torn(Enum):
    TORN = "\ud800"


class Unborn(Embedded):
    __abstract__ = True

    a: Mapped[int]


@pytest.mark.parametrize(("declaration", "message"), BAD_FIELDS, ids=[message for _, message in BAD_FIELDS])
def test_declarations_that_are_refused(declaration: Callable[[], Any], message: str) -> None:
    """Each says which class and field, and what to do."""
    with pytest.raises(MappingError) as raised:
        declaration()
    assert message in str(raised.value)


UNIONS = [
    "Imdb | dict[str, int]",
    "date | datetime",
    "Color | str",
    "list[int] | set[int]",
    "Imdb | np.ndarray",
]


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize("union", UNIONS)
def test_unions_that_cannot_be_told_apart(union: str) -> None:
    """What would be read as one type although it was written as the other is refused."""
    with pytest.raises(UnsupportedError, match=r"Bad\.x: .* cannot be told apart once they are stored"):
        declare(f"Mapped[{union}]")


def test_more_bad_classes() -> None:
    """Two fields under one key, two primary keys, an id that is none, reserved names."""
    with pytest.raises(MappingError, match=r"Two\.b and Two\.a are both stored under 'a'"):

        class Two(Document, registry=registry):
            a: Mapped[int]
            b: Mapped[int] = field(name="a")

    with pytest.raises(MappingError, match="Keys declares more than one primary key: a, b"):

        class Keys(Document, registry=registry):
            a: Mapped[int] = field(primary_key=True)
            b: Mapped[int] = field(primary_key=True)

    with pytest.raises(MappingError, match=r"Id\.id: a field called id must be the primary key; add primary_key=True"):

        class Id(Document, registry=registry):
            id: Mapped[int]  # type: ignore[assignment]

    for name in ("_private", "mro", "self", "attr_dict", "NOTHING", "__dunder__"):
        with pytest.raises(MappingError, match=rf"Bad\.{name}: this name is reserved; choose another one"):
            type(Document)(
                "Bad",
                (Document,),
                {"__module__": __name__, "__qualname__": "Bad", "__annotations__": {name: "Mapped[int]"}},
            )
    assert not {"Two", "Keys", "Id", "Bad"} & {mapping.name for mapping in registry}


def test_names_that_do_not_resolve() -> None:
    """They are an error at first use, which says what to do."""

    class Unready(Document, registry=registry):
        x: Mapped[NotThere | None] = field(default=None)

    with pytest.raises(
        MappingError, match=r"Unready\.x: name 'NotThere' is not defined.* outside of `if TYPE_CHECKING`"
    ):
        store(Unready())


def test_fields_are_read_only_on_the_class() -> None:
    """A field cannot be overwritten by accident."""
    with pytest.raises(AttributeError):
        Movie.year = 5  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        Movie.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_pickles_and_copies() -> None:
    """Objects pickle, new ones and stored ones, read or unread."""
    movie = Movie(title="Heat", imdb=Imdb(rating=8))
    stored = load_one(Movie, store(movie))
    unread = load_one(Movie, store(movie))
    assert repr(stored) == repr(movie)
    for instance in (movie, stored, unread):
        for again in (pickle.loads(pickle.dumps(instance)), copy.deepcopy(instance)):
            assert repr(movie) == repr(again)
            assert getattr(instance, "_superorm_raw", None) == getattr(again, "_superorm_raw", None)
    assert movie.imdb == pickle.loads(pickle.dumps(movie.imdb))


def test_many_fields() -> None:
    """A class of any width works."""
    names = [f"f{n}" for n in range(120)]
    namespace = {
        "__module__": __name__,
        "__qualname__": "Wide",
        "__annotations__": dict.fromkeys(names, "Mapped[int]"),
        **{name: field(default=0) for name in names},
    }
    wide = type(Document)("Wide", (Document,), namespace, registry=Registry())
    assert {*names, "_id"} == store(wide()).keys()
    assert 119 == load_one(wide, {name: n for n, name in enumerate(names)}).f119


def test_own_methods_win() -> None:
    """A class may write its own ``__init__``, ``__repr__`` and ``__attrs_post_init__``."""

    class Own(Document, registry=registry):
        n: Mapped[int] = field(default=1)
        at: Mapped[datetime | None] = field(default=None)

        def __attrs_post_init__(self) -> None:
            self.n += 1

        def __repr__(self) -> str:
            return "own"

    assert (2, "own") == (Own().n, repr(Own()))


def test_keywords_of_ones_own() -> None:
    """They go to `__init_subclass__`, which finds the fields there; unknown ones are refused as Python does."""
    seen: list[tuple[str, str]] = []

    class Tagged(Document):
        __abstract__ = True

        n: Mapped[int]

        def __init_subclass__(cls, tag: str = "", **others: Any) -> None:
            super().__init_subclass__(**others)
            seen.append((tag, repr(cls.n)))

    class One(Tagged, tag="x", registry=Registry()):
        pass

    class Two(One, tag="y"):
        m: Mapped[int] = field(default=0)

    assert [("x", "One.n"), ("y", "Two.n")] == seen
    assert [1, 2] == [load_one(One, {"n": 1}).n, load_one(Two, {"n": 2, "_type": "Two"}).n]
    assert "One.n" == repr(One.n)
    with pytest.raises(TypeError, match="keyword"):
        type("Three", (Document,), {"__module__": __name__, "__qualname__": "Three"}, tga="x")
    assert "Three" not in {mapping.name for mapping in default_registry}
