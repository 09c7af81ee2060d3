"""Vector fields as they are declared: their indexes, the fields to filter by, and those of embedded documents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Any, TypedDict

import numpy as np
import pytest

from superorm import Document, Embedded, Mapped, MappingError, ObjectId, UnsupportedError, VectorError, field, vector
from superorm.codec.documents import dump
from superorm.schema.mapping import class_map
from superorm.schema.registry import Registry
from superorm.schema.vector_spec import FilterField, IndexSpec

registry = Registry()


class Genre(Enum):
    CRIME = "crime"


class Size(Embedded):
    width: Mapped[int] = field(name="w")
    names: Mapped[list[str]] = field(factory=list)


class Sleeve(Embedded):
    text: Mapped[str | None] = field(default=None)
    embedding: Mapped[np.ndarray | None] = vector(3, metric="dot", name="e", filter_fields=["text", "size.width"])
    size: Mapped[Size | None] = field(default=None, name="s")


class Package(Embedded):
    sleeve: Mapped[Sleeve | None] = field(default=None, name="sl")


class Album(Document, registry=registry):
    """Every kind of field that can be mirrored."""

    __collection__ = "vector_fields_albums"
    title: Mapped[str] = field(default="", name="t")
    year: Mapped[int | None] = field(default=None)
    price: Mapped[float] = field(default=0.0)
    live: Mapped[bool] = field(default=False)
    out: Mapped[date | None] = field(default=None)
    genre: Mapped[Genre] = field(default=Genre.CRIME)
    label: Mapped[ObjectId | None] = field(default=None)
    size: Mapped[Size | None] = field(default=None)
    package: Mapped[Package | None] = field(default=None, name="p")
    embedding: Mapped[np.ndarray | None] = vector(
        2,
        index={"kind": "hnsw_sq", "m": 16},
        filter_fields=["id", "title", "year", "price", "live", "out", "genre", "label", "size.width"],
    )


def test_fields_by_their_stored_paths() -> None:
    """Own and embedded vectors, at any depth, with what is mirrored beside them."""
    inner, own = class_map(Album).vectors
    assert ("package.sleeve.embedding", "embedding") == (inner.attribute, own.attribute)
    assert ("p.sl.e", 3, "dot") == (inner.spec.path, inner.spec.dim, inner.spec.metric)
    assert (FilterField("p.sl.text", "str"), FilterField("p.sl.s.w", "int")) == inner.spec.filter_fields
    assert "vector_fields_albums.p.sl.e" == inner.spec.name
    assert None is inner.spec.index
    assert IndexSpec("hnsw_sq", {"m": 16}) == own.spec.index
    kinds = {one.path: one.kind for one in own.spec.filter_fields}
    expected = {"_id": "ObjectId", "t": "str", "year": "int", "price": "float", "live": "bool", "out": "datetime"}
    assert {**expected, "genre": "str", "label": "ObjectId", "size.w": "int"} == kinds


@pytest.mark.parametrize(
    ("update", "touched"),
    [
        ({"$set": {"p.sl.e": 1}}, True),
        ({"$set": {"year": 1}, "$unset": {"p": ""}}, True),
        ({"$set": {"p.sl": {}}}, True),
        ({"$set": {"p.sl.s": None}}, True),
        ({"$set": {"p.sl.text": "x"}}, True),
        ({"$set": {"p.sl.s.names": []}}, False),
        ({"$set": {"p.other": 1, "e": 2}}, False),
    ],
)
def test_updates_that_touch_an_index(update: Any, touched: bool) -> None:
    """Those of the vector, of what it is in, and of what is mirrored."""
    assert touched == class_map(Album).vectors[0].spec.touched_by(update)


def declare(annotation: str, declared: Any = None, base: Any = Document, **others: tuple[Any, Any]) -> Any:
    """A class with such a field `x`, and others."""
    fields = {"x": (annotation, declared), **others}
    namespace: dict[str, Any] = {"__annotations__": {name: kind for name, (kind, _) in fields.items()}}
    namespace |= {name: spec for name, (_, spec) in fields.items() if spec is not None}
    if base is Document:
        return type(Document)("Bad", (Document,), {**namespace, "__module__": __name__}, registry=registry)
    return type(Embedded)("Bad", (Embedded,), {**namespace, "__module__": __name__})


VECTOR = "Mapped[np.ndarray | None]"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("hsnw", r"Bad\.x: index='hsnw' names no kind of index; write one of 'flat', 'ivf_flat'"),
        (True, "index=True names no kind"),
        ({"m": 3}, "names no kind"),
        ({"kind": "ivf_flat", "m": 3}, r"Bad\.x: .*'ivf_flat' has no parameter 'm'; it takes num_partitions"),
        ({"kind": "flat", "m": 3}, "it takes none"),
        ({"kind": "hnsw_sq", "m": 0}, "m is a whole number from 1 on, not 0"),
        ({"kind": "hnsw_sq", "m": "8"}, "m is a whole number"),
        ({"kind": "ivf_pq", "num_sub_vectors": 3}, "must divide the dimension 8"),
    ],
    ids=repr,
)
def test_indexes_that_there_are_not(index: Any, message: str) -> None:
    """They are refused where the class is declared."""
    with pytest.raises(MappingError, match=message):
        declare(VECTOR, vector(8, index=index))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["nope"], r"Bad\.x: filter_fields='nope': Bad has no field 'nope'; it has id, x, tags, size, raw"),
        (["size.depth"], r"filter_fields='size\.depth': .*'depth'"),
        (["tags"], r"Bad\.tags holds list\[str\]; what can be mirrored is one bool, int, float, str"),
        (["sizes.width"], r"Bad\.sizes is a list"),
        (["size.names"], r"Size\.names holds list\[str\]"),
        (["size"], r"Bad\.size holds Size"),
        (["raw"], r"Bad\.raw holds Any"),
        (["x"], r"Bad\.x holds vector of 2 numbers"),
        ("tags", "is no list of the names"),
        ([3], "is no list of the names"),
        ([""], "is no list of the names"),
    ],
    ids=repr,
)
def test_fields_that_cannot_be_mirrored(fields: Any, message: str) -> None:
    """They are refused where the class is declared, naming class and field."""
    others = {"tags": "Mapped[list[str]]", "size": "Mapped[Size]", "raw": "Mapped[Any]", "sizes": "Mapped[list[Size]]"}
    with pytest.raises(MappingError, match=message):
        declare(VECTOR, vector(2, filter_fields=fields), **{name: (kind, None) for name, kind in others.items()})


class Cover(TypedDict):
    sleeve: Sleeve


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("Mapped[list[Sleeve]]", r"Bad\.x: Sleeve\.embedding is a vector in a list"),
        ("Mapped[tuple[int, Sleeve]]", r"Sleeve\.embedding is a vector in a list"),
        ("Mapped[list[Package]]", r"Sleeve\.embedding is a vector in a list"),
        ("Mapped[dict[str, Package]]", r"Sleeve\.embedding is a vector in a dict"),
        ("Mapped[Cover]", r"Sleeve\.embedding is a vector in a dict"),
    ],
)
def test_vectors_in_containers(annotation: str, message: str) -> None:
    """Vectors in lists and dicts of embedded documents are refused by name, at any depth."""
    with pytest.raises(UnsupportedError, match=message):
        declare(annotation)


def test_vectors_in_keys_and_in_what_embeds_itself() -> None:
    """They are refused too; what embeds itself without a vector is not."""
    with pytest.raises(UnsupportedError, match=r"Bad\.x: Sleeve\.embedding is a vector in a key"):
        declare("Mapped[Package]", field(primary_key=True))

    class Node(Embedded):
        child: Mapped[Node | None] = field(default=None)
        e: Mapped[np.ndarray | None] = vector(2)

    class Chain(Embedded):
        next: Mapped[Chain | None] = field(default=None)
        sleeve: Mapped[Sleeve | None] = field(default=None)

    class Link(Embedded):
        next: Mapped[Link | None] = field(default=None)

    for kind in (Node, Chain):
        with pytest.raises(UnsupportedError, match="a document that embeds itself"):
            type(Document)(
                "Bad", (Document,), {"__annotations__": {"x": Mapped[kind]}, "__module__": __name__}, registry=registry
            )

    class Linked(Document, registry=registry):
        link: Mapped[Link]

    assert () == class_map(Linked).vectors


def test_classes_that_are_not_there_yet_are_checked_at_first_use() -> None:
    """A name that is declared later cannot be looked into before."""
    found = declare("Mapped[list[Later]]")
    globals()["Later"] = type(Embedded)(
        "Later", (Embedded,), {"__annotations__": {"e": VECTOR}, "e": vector(2), "__module__": __name__}
    )
    with pytest.raises(UnsupportedError, match=r"Bad\.x: Later\.e is a vector in a list"):
        class_map(found).vectors  # noqa: B018
    found = declare("Mapped[Later2]")
    globals()["Later2"] = type(Embedded)(
        "Later2",
        (Embedded,),
        {"__annotations__": {"e": VECTOR}, "e": vector(2, filter_fields=["e"]), "__module__": __name__},
    )
    with pytest.raises(MappingError, match=r"Later2\.e: filter_fields='e'"):
        class_map(found).vectors  # noqa: B018


def test_subclasses_of_embedded_classes_that_come_later() -> None:
    """Their vectors are found from then on; they must agree where they share a path."""

    class Picture(Embedded):
        title: Mapped[str] = field(default="")

    class Owner(Document, registry=registry):
        picture: Mapped[Picture | None] = field(default=None)

    assert () == class_map(Owner).vectors

    class Photo(Picture):
        e: Mapped[np.ndarray | None] = vector(2)

    assert ["picture.e"] == [found.spec.path for found in class_map(Owner).vectors]

    class Drawing(Picture):
        e: Mapped[np.ndarray | None] = vector(3)

    with pytest.raises(MappingError, match=r"Owner\.picture\.e: Drawing\.e and Photo\.e differ"):
        class_map(Owner).vectors  # noqa: B018


def test_sources_of_embedded_vectors() -> None:
    """A source is a field of the same embedded class."""
    with pytest.raises(MappingError, match=r"Bad\.x: source='title' is no other field"):
        declare(VECTOR, vector(2, source="title", model="m"), base=Embedded)


@pytest.mark.parametrize("value", [[1, 2], [1, 2, float("nan")], "abc", [[1, 2, 3]]], ids=repr)
def test_embedded_vectors_that_do_not_fit(value: Any) -> None:
    """A vector's error, with the path to it; other fields of the embedded document keep theirs."""
    album = Album(package=Package(sleeve=Sleeve(embedding=value)))
    with pytest.raises(VectorError, match=r"package\.sleeve\.embedding cannot be stored") as caught:
        dump(class_map(Album), album)
    assert "package.sleeve.embedding" == caught.value.field


def test_two_classes_with_different_vectors_in_one_place() -> None:
    """Classes of one collection that store different vectors under one path are refused at first use."""
    from superorm.schema.vector_fields import vector_fields

    def make(name: str, dim: int, attribute: str) -> Callable[[], Any]:
        body = {"__annotations__": {attribute: VECTOR}, attribute: vector(dim, name="e"), "__module__": __name__}
        body["__collection__"] = "vector_fields_shared"
        return type(Document)(name, (Document,), body, registry=registry)

    one = make("One", 2, "e")
    make("Same", 2, "vec")
    assert ["vector_fields_shared.e"] == [found.spec.name for found in vector_fields(class_map(one))]
    make("Other", 3, "emb")
    with pytest.raises(MappingError, match=r"Other\.emb and One\.e are vectors of different dimension"):
        vector_fields(class_map(one))
