"""Documents that derive from mapped ones: one collection, told apart by a discriminator."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from bson import ObjectId

from superorm import Document, Mapped, MappingError, Registry, ValidationError, field, vector
from superorm.codec.documents import load
from superorm.schema.mapping import class_map
from tests.schema.helpers import change_of, load_one, store, through_bson

registry = Registry()


class Work(Document, registry=registry):
    __collection__ = "works"

    title: Mapped[str]
    year: Mapped[int | None] = field(default=None, name="y")
    embedding: Mapped[np.ndarray | None] = vector(2)


class Book(Work):
    pages: Mapped[int] = field(default=1)
    tags: Mapped[list[str]] = field(factory=list)


class Dated(Work):
    __abstract__ = True

    day: Mapped[int] = field(default=1)


class Loud:
    def shout(self) -> str:
        return f"{self.title}!"  # type: ignore[attr-defined, no-any-return]


class Concert(Loud, Dated):
    year: Mapped[int] = field(default=2000, name="y")  # type: ignore[assignment]


class Novel(Book):
    heroes: Mapped[list[str]] = field(factory=list)


def test_one_collection() -> None:
    """Subclasses share collection, key, discriminator and fields with the root; they know one another."""
    maps = [class_map(cls) for cls in (Work, Book, Concert, Novel)]
    work, book, concert, novel = maps
    assert {"works"} == {mapping.collection for mapping in maps}
    assert {work} == {mapping.root for mapping in maps}
    assert {"_type"} == {mapping.discriminator for mapping in maps}
    assert [None, work, work, book] == [mapping.parent for mapping in maps]
    assert ["_id", "title", "y", "embedding", "pages", "tags", "heroes"] == [part.stored for part in novel.fields]
    assert ["_id", "title", "y", "embedding", "day"] == [part.stored for part in concert.fields]
    assert ((book, concert, novel), (novel,), (), ()) == tuple(mapping.subclasses for mapping in maps)
    assert {Work, Book, Concert, Novel} == {mapping.cls for mapping in registry}
    assert [field.spec for field in work.vectors] == [field.spec for field in novel.vectors]


def test_type_filters() -> None:
    """A root's queries need no filter, a leaf's one name, those between a list."""
    filters = [class_map(cls).type_filter() for cls in (Work, Concert, Book)]
    assert [{}, {"_type": "Concert"}, {"_type": {"$in": ["Book", "Novel"]}}] == filters


def test_objects() -> None:
    """Constructor, repr, inherited methods and defaults; an override has the type and default of the subclass."""
    novel = Novel(title="Emma", pages=300, id=ObjectId("0" * 24))
    text = f"Novel(id={novel.id!r}, title='Emma', year=None, pages=300, tags=[], heroes=[])"
    assert text == repr(novel)
    assert isinstance(novel, Work)
    assert ("Live!", 2000, 1) == (
        (concert := Concert(title="Live")).shout(), concert.year, concert.day,
    )  # fmt: skip
    with pytest.raises(TypeError):
        Novel(title="Emma", day=3)  # type: ignore[call-arg]
    assert repr(novel) == repr(pickle.loads(pickle.dumps(novel)))


def test_what_is_stored() -> None:
    """Subclasses write their name, after the key; the root does not, so that subclasses may come later."""
    assert "_type" not in store(Work(title="x"))
    stored = store(Novel(title="Emma"))
    assert ["_id", "_type"] == list(stored)[:2]
    assert "Novel" == stored["_type"]
    with pytest.raises(ValidationError, match=r"Novel .*: title cannot be stored"):
        store(Novel(title=3))  # type: ignore[arg-type]
    assert "Novel" == store(Novel(title=np.str_("Emma")))["_type"]  # by the slow path


def test_loading() -> None:
    """Each document is read as its own class, in order; without a discriminator as the root."""
    documents = [
        store(Novel(title="n", heroes=["a"])),
        store(Work(title="w", year=3)),
        store(Book(title="b", tags=["t"])),
        {**store(Work(title="named")), "_type": "Work"},
        store(Concert(title="c")),
        store(Novel(title="m")),
        {"_id": ObjectId(), "_type": "Book", "title": "short"},
    ]
    found = load(class_map(Work), documents)
    assert [Novel, Work, Book, Work, Concert, Novel, Book] == [type(one) for one in found]
    assert ["n", "w", "b", "named", "c", "m", "short"] == [one.title for one in found]
    assert (["a"], 3, ["t"], 2000, 1) == (found[0].heroes, found[1].year, found[2].tags, found[4].year, found[6].pages)
    assert [Novel, Book] == [type(one) for one in load(class_map(Book), [documents[0], documents[2]])]
    assert [] == load(class_map(Work), [])
    for one, document in zip(found, documents, strict=True):
        assert document is one._superorm_raw
        assert change_of(class_map(type(one)), one) is None
    found[0].heroes.append("b")
    change = change_of(class_map(Novel), found[0])
    assert change is not None
    assert {"$set": {"heroes": ["a", "b"]}} == change.update


@pytest.mark.parametrize("kind", ["Poem", "", 3, None, ["Book"], {"$ne": 1}])
def test_unknown_discriminators(kind: Any) -> None:
    """They are an error that names document, field, value and the classes there are, unless the class keeps them."""
    document = through_bson({"_id": ObjectId(), "_type": kind, "title": "x"})
    for cls, known in ((Work, "Work, Book, Concert, Novel"), (Novel, "Novel")):
        if kind is None and cls is Work:
            continue
        with pytest.raises(ValidationError) as raised:
            load(class_map(cls), [document])
        message = (
            f"{cls.__name__} {document['_id']!r}: the stored value of _type does not fit: "
            f"expected the name of a known class ({known}), got {type(kind).__name__} {kind!r}"
        )
        assert message == str(raised.value)
        assert (cls, document["_id"], "_type") == (
            raised.value.document_class, raised.value.key, raised.value.field,
        )  # fmt: skip


def test_siblings_are_not_taken_for_one_another() -> None:
    """A document of another class of the hierarchy is no novel."""
    with pytest.raises(ValidationError, match=r"Novel .* _type does not fit: .* \(Novel\), got str 'Concert'"):
        load(class_map(Novel), [store(Concert(title="x"))])


def test_kept_discriminators() -> None:
    """Where the class keeps what does not fit, an unknown one is read as the class that was asked for, and stays."""

    class Event(Document, registry=Registry()):
        __on_mismatch__ = "keep"

        n: Mapped[int] = field(default=0)

    class Party(Event):
        guests: Mapped[int] = field(default=0)

    event, party, other = load(
        class_map(Event),
        [
            {"_id": ObjectId(), "_type": "Wake", "n": 1},
            {"_id": ObjectId(), "_type": "Party", "n": 2},
            {"_id": ObjectId(), "_type": [1], "n": 3},
        ],
    )
    assert [Event, Party, Event] == [type(event), type(party), type(other)]
    event.n = 5
    change = change_of(class_map(Event), event)
    assert change is not None
    assert ({"$set": {"n": 5}}, "Wake") == (change.update, change.snapshot["_type"])


def test_fields_in_statements() -> None:
    """A field belongs to the class it is taken from, also an abstract one's and an overridden one."""
    assert ["Work.title", "Book.title", "Novel.title", "Concert.year", "Concert.day"] == [
        repr(one) for one in (Work.title, Book.title, Novel.title, Concert.year, Concert.day)
    ]
    assert "Dated.day" == repr(Dated.day)
    assert "Work.title" == repr(Dated.title)
    assert not hasattr(Work, "pages")
    assert "title" == Novel.title._path  # pyright: ignore[reportPrivateUsage]


def test_a_discriminator_of_ones_own() -> None:
    """A root that names the key is a hierarchy from the start, and writes its own name too."""

    class Base(Document, registry=Registry()):
        __abstract__ = True
        __discriminator__ = "kind"

    class Animal(Base):
        name: Mapped[str] = field(default="")

    assert {"kind": "Animal", "name": ""}.items() <= store(Animal()).items()
    assert "x" == load_one(Animal, {"name": "x"}).name
    with pytest.raises(ValidationError, match="the stored value of kind does not fit"):
        load_one(Animal, {"name": "x", "kind": "Dog"})

    class Dog(Animal):
        pass

    assert ({"kind": "Dog"}, "Dog") == (class_map(Dog).type_filter(), store(Dog())["kind"])
    assert isinstance(load_one(Animal, {"name": "x", "kind": "Dog"}), Dog)

    class Stone(Base):
        pass

    assert class_map(Stone).root is class_map(Stone)


def test_later_and_redefined_subclasses() -> None:
    """A subclass counts from its declaration on; one defined again replaces the old one, wherever it was."""

    class Base(Document, registry=Registry()):
        n: Mapped[int] = field(default=0)

    class Middle(Base):
        pass

    def define(above: Any) -> Any:
        class Leaf(above):  # type: ignore[misc]
            m: Mapped[int] = field(default=0)

        return Leaf

    document = {"n": 1, "_type": "Leaf"}
    with pytest.raises(ValidationError, match="known class"):
        load_one(Base, document)
    first = define(Middle)
    assert type(load_one(Base, document)) is first
    assert {"_type": {"$in": ["Middle", "Leaf"]}} == class_map(Middle).type_filter()
    second = define(Middle)
    assert type(load_one(Base, document)) is type(load_one(Middle, document)) is second
    assert [second] == [mapping.cls for mapping in class_map(Middle).subclasses]
    third = define(Base)
    assert type(load_one(Base, document)) is third
    assert {"_type": "Middle"} == class_map(Middle).type_filter()
    assert [Base, Middle, third] == [mapping.cls for mapping in class_map(Base).family.values()]


def test_a_root_without_subclasses_reads_all() -> None:
    """As long as no class derives from it, a key of that name is one like any other."""

    class Plain(Document, registry=Registry()):
        n: Mapped[int] = field(default=0)

    assert 3 == load_one(Plain, {"n": 3, "_type": "Other"}).n
    assert {} == class_map(Plain).type_filter()
    assert not class_map(Plain).family


def test_extra_keys() -> None:
    """A hierarchy that forbids other keys still has its discriminator."""

    class Strict(Document, registry=Registry()):
        __extra__ = "forbid"

        n: Mapped[int] = field(default=0)

    class Stricter(Strict):
        m: Mapped[int] = field(default=0)

    assert (1, 0) == (
        (found := load_one(Strict, {"_type": "Stricter", "n": 1})).n, found.m,
    )  # fmt: skip
    assert 2 == load_one(Strict, {"_type": "Stricter", "n": 1, "m": 2}).m
    assert 1 == load_one(Strict, {"_type": "Strict", "n": 1}).n
    for raw in ({"n": 1, "x": 2}, {"_type": "Stricter", "n": 1, "m": 2, "x": 3}, {"_type": "Stricter", "x": 3}):
        with pytest.raises(ValidationError, match="stored value of x does not fit"):
            load_one(Strict, raw)


def test_a_field_that_becomes_plain() -> None:
    """A list above that is a text below is read and deleted as a text."""

    class Base(Document, registry=Registry()):
        x: Mapped[Any] = field(default=None)

    class Below(Base):
        x: Mapped[str] = field(default="")

    found = load_one(Base, {"_type": "Below", "x": "a"})
    assert "a" == found.x
    del found.x
    with pytest.raises(AttributeError, match="'Below' object has no attribute 'x'"):
        found.x  # noqa: B018


def declare(base: Any, name: str = "Bad", **namespace: Any) -> Any:
    """A class with the fields among the arguments."""
    annotations = {key: value[0] for key, value in namespace.items() if isinstance(value, tuple)}
    values = {key: value[1] if isinstance(value, tuple) else value for key, value in namespace.items()}
    body = {"__module__": __name__, "__qualname__": name, "__annotations__": annotations, **values}
    return type(base)(name, (base,), body)


class Rooted(Document, registry=Registry()):
    n: Mapped[int] = field(default=0)


class Vectors(Rooted):
    extra: Mapped[np.ndarray | None] = vector(3, name="v")


class Typed(Document, registry=Registry()):
    kind: Mapped[str] = field(default="", name="_type")


class Versioned(Document, registry=Registry()):
    version: Mapped[int] = field(version=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Work, {"__collection__": "other"}), "Bad.__collection__: Bad shares the collection of Work"),
        ((Work, {"__validate__": True}), "Bad.__validate__: the collection has one validator, that of Work"),
        ((Work, {"__discriminator__": "kind"}), "Bad.__discriminator__: that of Work is '_type'"),
        ((Work, {"id": ("Mapped[str]", field(primary_key=True))}), "Bad.id: the key and the version of Work cannot be"),
        ((Work, {"key": ("Mapped[str]", field(primary_key=True))}), "Bad declares more than one primary key: id, key"),
        (
            (Versioned, {"version": ("Mapped[int]", field())}),
            "Bad.version: the key and the version of Versioned cannot",
        ),
        ((Versioned, {"v": ("Mapped[int]", field(version=True))}), "Bad declares more than one version: version, v"),
        ((Work, {"title": ("Mapped[str]", field(name="t"))}), "Bad.title: Work.title is stored under 'title'"),
        (
            (Work, {"other": ("Mapped[str]", field(name="title"))}),
            "Bad.other and Bad.title are both stored under 'title'",
        ),
        ((Work, {"embedding": ("Mapped[np.ndarray | None]", vector(3))}), "Bad.embedding: Work.embedding, which is"),
        ((Work, {"title": ("Mapped[np.ndarray | None]", vector(3))}), "Bad.title: Work.title, which is stored under"),
        (
            (Rooted, {"v": ("Mapped[int]", field(default=0))}),
            "Bad.v: Vectors.extra, which is stored under the same key",
        ),
        ((Work, {"kind": ("Mapped[str]", field(name="_type"))}), "Bad has a field stored under '_type'"),
        ((Typed, {}), "Typed has a field stored under '_type', the key that names the class"),
        ((Work, {"title": "x"}), "Bad.title: a class above has a field of this name"),
        ((Work, {"year": property(lambda self: 5)}), "Bad.year: a class above has a field of this name"),
    ],
)
def test_what_cannot_be(arguments: tuple[Any, dict[str, Any]], message: str) -> None:
    """Each error says which class and field, and leaves the hierarchy as it was."""
    base, namespace = arguments
    before = class_map(base).family
    with pytest.raises(MappingError) as raised:
        declare(base, **namespace)
    assert message in str(raised.value)
    assert before == class_map(base).family
    assert "Bad" not in {mapping.name for mapping in registry}


def test_several_bases() -> None:
    """A field is that of the first class in the method resolution order; plain classes cannot hand down fields."""

    class Base(Document, registry=Registry()):
        __abstract__ = True
        n: Mapped[int] = field(default=0)
        m: Mapped[int] = field(default=0)

    class Left(Base):
        __abstract__ = True
        m: Mapped[int] = field(default=1)

    class Right(Base):
        __abstract__ = True
        n: Mapped[int] = field(default=2, name="nn")

    class Both(Left, Right):
        pass

    class Turned(Right, Left):
        m: Mapped[int] = field(default=3)

    assert {"_id": 1, "nn": 2, "m": 1} == {**store(Both()), "_id": 1}
    assert {"_id": 1, "nn": 2, "m": 3} == {**store(Turned()), "_id": 1}

    class Mixin:
        x: Mapped[int]

    with pytest.raises(MappingError, match=r"Bad: Mixin\.x is no field, as Mixin is not derived from Document"):

        class Bad(Mixin, Document, registry=Registry()):
            pass


def test_names_are_used_once() -> None:
    """Two classes of one name could not be told apart, wherever they are."""

    class Base(Document, registry=Registry()):
        pass

    def one() -> Any:
        class Same(Base):
            pass

        return Same

    def other() -> Any:
        class Same(Base):
            pass

        return Same

    def third() -> Any:
        class Base(base):  # type: ignore[misc, valid-type]
            pass

        return Base

    base, same = Base, one()
    for function, name in ((other, "other"), (third, "third")):
        with pytest.raises(MappingError, match=rf"{name}.*has the same name and the same collection"):
            function()
    assert [same] == [mapping.cls for mapping in class_map(Base).subclasses]
    with pytest.raises(MappingError, match="Elsewhere must be in the registry of Base"):

        class Elsewhere(Base, registry=Registry()):
            pass

    for key in ("", "a.b", "$x", "_id", 3):
        with pytest.raises(MappingError, match="cannot be a stored key"):
            declare(Document, __discriminator__=key)


def test_registries_find_by_name() -> None:
    """The qualified name leads to the class that has it now."""
    assert class_map(Book) is registry.find(f"{__name__}.Book")
    assert registry.find("Book") is None
    assert registry.find(f"{__name__}.Dated") is None


def test_one_mapped_base() -> None:
    """A class derives from one mapped class at most, and the class statement fails; abstract bases may be many."""
    own = Registry()

    class Film(Document, registry=own):
        __collection__ = "films_of_one_base"

    class Play(Document, registry=own):
        __collection__ = "plays_of_one_base"

    class Rated(Document, registry=own):
        __abstract__ = True
        stars: Mapped[int] = field(default=0)

    with pytest.raises(TypeError, match="metaclass conflict"):

        class Both(Film, Play):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
            pass

    class Priced(Document, registry=own):
        __abstract__ = True
        price: Mapped[int] = field(default=1)

    class Shown(Film, Rated, Priced):
        pass

    assert {Film, Play, Shown} == {mapping.cls for mapping in own}
    assert {"_id", "stars", "price"} == {part.stored for part in class_map(Shown).fields}
    assert class_map(Film) is class_map(Shown).parent


def test_a_class_derived_after_its_base_was_read() -> None:
    """Documents of the new class are objects of it from then on, though the base has a function to load its own."""

    class Early(Document, registry=Registry()):
        n: Mapped[int] = field(default=0)

    assert Early is type(load_one(Early, {"n": 1}))

    class Late(Early):
        pass

    assert Late is type(load_one(Early, {"n": 1, "_type": "Late"}))
