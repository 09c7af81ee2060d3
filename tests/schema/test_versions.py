"""Versions: what a declaration makes of them, and how they count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bson import Int64, ObjectId

from superorm import Document, Embedded, Mapped, MappingError, Registry, ValidationError, field
from superorm.codec.documents import dump, guard_of, written
from superorm.schema.mapping import class_map
from tests.schema.helpers import apply, change_of, exact, load_one, store, through_bson


class Page(Document, registry=Registry()):
    title: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    version: Mapped[int] = field(version=True, name="v")


PAGE = class_map(Page)


def test_the_constructor() -> None:
    """A version is no argument; it is 0 until the document is stored, then 1."""
    page = Page(title="x")
    assert 0 == page.version
    with pytest.raises(TypeError, match="version"):
        Page(title="x", version=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert "version=0" in repr(page)
    document = dump(PAGE, page)
    assert {"_id": page.id, "title": "x", "tags": [], "v": 1} == document
    assert 0 == page.version
    written(PAGE, [page], [document])
    assert 1 == page.version


@pytest.mark.parametrize(
    ("stored", "guard", "after"),
    [
        ({"v": 1}, {"v": 1}, 2),
        ({"v": Int64(2**40)}, {"v": 2**40}, 2**40 + 1),
        ({"v": 7.0}, {"v": 7.0}, 8),
        ({}, {"v": {"$exists": False}}, 1),
    ],
)
def test_counting(stored: dict[str, Any], guard: dict[str, Any], after: int) -> None:
    """A change is written to the version that was read only, and counts it up; a missing one counts as 0."""
    page = load_one(Page, {"title": "x", "tags": [], **stored})
    assert after - 1 == page.version
    assert change_of(PAGE, page) is None
    assert page.tags == []
    assert change_of(PAGE, page) is None
    page.tags.append("a")
    change = change_of(PAGE, page)
    assert change is not None
    assert exact({"$set": {"tags": ["a"], "v": after}}, change.update)
    assert guard == guard_of(PAGE, page._superorm_raw)
    assert exact(through_bson(change.snapshot), apply(page._superorm_raw, change.update))
    written(PAGE, [page], [change.snapshot])
    assert after == page.version
    assert change_of(PAGE, page) is None


@pytest.mark.parametrize("value", [5, 2, None, "1", True, 1.5])
def test_nobody_else_sets_it(value: Any) -> None:
    """What a user assigns is refused, of stored, new and deleted documents, also where nothing else changed."""
    page = load_one(Page, {"title": "x", "tags": [], "v": 1})
    page.version = value
    message = r"Page ObjectId.*: version was set to .*; it is a version, which superorm alone changes: leave it at 1"
    with pytest.raises(ValidationError, match=message) as raised:
        change_of(PAGE, page)
    assert (Page, page.id, "version") == (raised.value.document_class, raised.value.key, raised.value.field)
    new = Page()
    new.version = value
    with pytest.raises(ValidationError, match="leave it at 0"):
        dump(PAGE, new)
    del page.version
    with pytest.raises(ValidationError, match="version was set to None"):
        change_of(PAGE, page)


def test_without_versions() -> None:
    """Other classes have no guard."""

    class Plain(Document, registry=Registry()):
        n: Mapped[int] = field(default=0)

    plain = load_one(Plain, {"n": 1})
    plain.n = 2
    change = change_of(class_map(Plain), plain)
    assert change is not None
    assert ({}, {"$set": {"n": 2}}) == (guard_of(class_map(Plain), plain._superorm_raw), change.update)
    assert class_map(Plain).version is None


def test_inherited() -> None:
    """Subclasses and abstract classes hand it down; a stored value of the wrong type is an error even where kept."""

    class Base(Document, registry=Registry()):
        __abstract__ = True
        __on_mismatch__ = "keep"

        version: Mapped[int] = field(version=True)

    class Root(Base):
        n: Mapped[int] = field(default=0)

    class Below(Root):
        pass

    assert {"n": 0, "version": 1, "_type": "Below"}.items() <= store(Below()).items()
    with pytest.raises(ValidationError, match="the stored value of version does not fit: expected int, got str 'x'"):
        load_one(Root, {"version": "x"})


def declare(**namespace: Any) -> Callable[[], Any]:
    """A declaration of a class ``Bad``."""
    base = namespace.pop("base", Document)
    kind = namespace.pop("kind", "Mapped[int]")
    names = dict.fromkeys(namespace, kind)
    body = {"__module__": __name__, "__qualname__": "Bad", "__annotations__": names, **namespace}
    return lambda: type(base)("Bad", (base,), body, registry=Registry())


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (declare(a=field(version=True), b=field(version=True)), "Bad declares more than one version: a, b"),
        (declare(a=field(version=True), kind="Mapped[str]"), "Bad.a: a version is declared as Mapped[int], not str"),
        (declare(a=field(version=True), kind="Mapped[int | None]"), "Bad.a: a version is declared as Mapped[int]"),
        (declare(a=field(version=True), base=Embedded), "Bad.a: an Embedded has no version"),
        *(
            (declare(a=field(version=True, **setting)), "Bad.a: superorm keeps a version by itself")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
            for setting in (
                {"default": 1},
                {"factory": int},
                {"primary_key": True},
                {"unique": True},
                {"converter": int},
            )
        ),
    ],
)
def test_declarations_that_are_refused(declaration: Callable[[], Any], message: str) -> None:
    """Each says which class and field."""
    with pytest.raises(MappingError) as raised:
        declaration()
    assert message in str(raised.value)


def test_the_field_may_be_indexed_and_hidden() -> None:
    """``name=``, ``index=`` and ``repr=`` are as for other fields."""

    class Hidden(Document, registry=Registry()):
        version: Mapped[int] = field(version=True, name="_v", index=True, repr=False)

    hidden = Hidden(id=ObjectId())
    assert "version" not in repr(hidden)
    assert 1 == store(hidden)["_v"]
