"""Wildcards beside other fields of an index, as servers take them since MongoDB 7.0."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Document, Embedded, Index, Mapped, MappingError, Registry, field
from superorm.compile.indexes import index_models
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.mapping import class_map


class Inner(Embedded):
    x: Mapped[int] = field(default=0, name="i")
    y: Mapped[int] = field(default=0)


def declare(*indexes: Index) -> type[Document]:
    class Page(Document, registry=Registry()):
        __indexes__ = indexes
        id: Mapped[int] = field(primary_key=True)
        title: Mapped[str] = field(default="")
        body: Mapped[str] = field(default="", name="b")
        inner: Mapped[Inner] = field(factory=Inner, name="n")
        meta: Mapped[dict[str, str]] = field(factory=dict, name="m")

    return Page


@pytest.mark.parametrize(
    ("index", "document"),
    [
        (
            Index("title", "$**", exclude=["title"]),
            {"key": {"title": 1, "$**": 1}, "wildcardProjection": {"title": 0}, "name": "title_1_$**_1"},
        ),
        (
            Index("$**", "-body", exclude=["body", "title"]),
            {"key": {"$**": 1, "b": -1}, "wildcardProjection": {"b": 0, "title": 0}, "name": "$**_1_b_-1"},
        ),
        (
            Index("inner.x", "$**", exclude=["inner"]),
            {"key": {"n.i": 1, "$**": 1}, "wildcardProjection": {"n": 0}, "name": "n.i_1_$**_1"},
        ),
        (
            Index("inner.x", "$**", "title", include=["inner.y", "meta"]),
            {
                "key": {"n.i": 1, "$**": 1, "title": 1},
                "wildcardProjection": {"n.y": 1, "m": 1},
                "name": "n.i_1_$**_1_title_1",
            },
        ),
        (
            Index("title", "$**", include=["id", "meta"], name="all"),
            {"key": {"title": 1, "$**": 1}, "wildcardProjection": {"_id": 1, "m": 1}, "name": "all"},
        ),
        (
            Index("title", "$**", include=["id"], exclude=["title", "body"], name="all"),
            {"key": {"title": 1, "$**": 1}, "wildcardProjection": {"_id": 1, "title": 0, "b": 0}, "name": "all"},
        ),
        (
            Index("title", "$**", include=["meta"], exclude=["id"], name="all"),
            {"key": {"title": 1, "$**": 1}, "wildcardProjection": {"m": 1, "_id": 0}, "name": "all"},
        ),
        (
            Index("title", "$**", exclude=["id"], name="all"),
            {"key": {"title": 1, "$**": 1}, "wildcardProjection": {"_id": 0}, "name": "all"},
        ),
        (
            Index("$**", include=["id"], exclude=["body"], name="all"),
            {"key": {"$**": 1}, "wildcardProjection": {"_id": 1, "b": 0}, "name": "all"},
        ),
    ],
)
def test_what_is_sent(index: Index, document: dict[str, Any]) -> None:
    """The projection is by stored path, and stands beside the key."""
    (model,) = index_models(declared_indexes(class_map(declare(index))))
    assert document == model.document
    assert [*document["key"]] == [*model.document["key"]]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (Index("title", "$**", exclude=["body"]), r"exclude= has to name title too"),
        (Index("title", "body", "$**", exclude=["title", "meta"]), r"exclude= has to name b too"),
        (Index("inner.x", "$**", exclude=["inner.y"]), r"exclude= has to name n\.\w too"),
        (
            Index("title", "$**", include=["title"]),
            "title is a field of the index itself, and cannot be in include= too",
        ),
        (Index("inner.x", "$**", include=["inner"]), r"n\.\w is a field of the index itself"),
        (Index("title", "$**", include=["inner", "inner.x"]), r"include= has both n and n\.\w, which is part of it"),
        (Index("$**", exclude=["inner.x", "inner"]), r"exclude= has both n and n\.\w"),
        (Index("$**", include=["title"], exclude=["body"]), "only the primary key goes into include= beside exclude="),
        (Index("title", "$**", include=["id", "body"], exclude=["title"]), "only the primary key"),
        (Index("inner", "inner.$**"), r"n is in the wildcard n\.\$\*\* already"),
        (Index("inner.x", "inner.$**"), r"is in the wildcard n\.\$\*\* already"),
        (Index("title", "$**", exclude=["titel"]), "no field 'titel'"),
    ],
)
def test_what_servers_refuse(index: Index, message: str) -> None:
    """It is refused where the class is declared, and names the index."""
    with pytest.raises(MappingError, match=rf"Page\.__indexes__\[0\]: .*{message}"):
        declare(index)


def test_fields_after_the_class() -> None:
    """An index of fields is checked where it is used."""
    page: Any = declare()
    page.__indexes__ = [Index(page.inner.x, "$**", exclude=["title"])]
    with pytest.raises(MappingError, match=r"exclude= has to name n\.i too"):
        declared_indexes(class_map(page))
    page.__indexes__ = [Index(page.inner.x, "$**", exclude=["inner.x"])]
    (index,) = declared_indexes(class_map(page))
    assert {"wildcardProjection": {"n.i": 0}} == index.options
