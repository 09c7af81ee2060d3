"""What the database holds and the class does not expect: an error, or kept where the class says so."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import numpy as np
import pytest
from bson import Decimal128, ObjectId

from superorm import Document, Embedded, Mapped, MappingError, Registry, ValidationError, VectorError, field, vector
from superorm.codec.documents import dump, possibly_changed, restore, written
from superorm.schema.mapping import class_map
from superorm.schema.state import GONE
from tests.schema.helpers import apply, change_of, exact, load_one, store, through_bson


class Part(Embedded):
    __on_mismatch__ = "keep"

    n: Mapped[int]
    names: Mapped[list[str]] = field(factory=list)


class Strict(Embedded):
    n: Mapped[int]


class Kept(Document, registry=Registry()):
    __on_mismatch__ = "keep"

    a: Mapped[int]
    b: Mapped[str] = field(default="", name="bb")
    at: Mapped[dt.date | None] = field(default=None)
    names: Mapped[list[str]] = field(factory=list)
    part: Mapped[Part | None] = field(default=None)
    strict: Mapped[Strict | None] = field(default=None)
    embedding: Mapped[np.ndarray | None] = vector(2)


class Whole(Document, registry=Registry()):
    part: Mapped[Part]
    parts: Mapped[list[Part]] = field(factory=list)


class KeptParts(Document, registry=Registry()):
    __on_mismatch__ = "keep"

    parts: Mapped[list[Strict]] = field(factory=list)


KEPT = class_map(Kept)

WRONG: list[tuple[str, str, Any]] = [
    ("a", "a", "one"),
    ("a", "a", None),
    ("a", "a", [1, {"x": 2}]),
    ("b", "bb", 5),
    ("b", "bb", {"x": [1]}),
    ("at", "at", dt.datetime(2020, 1, 1, 5, tzinfo=dt.UTC)),
    ("names", "names", "Heist"),
    ("names", "names", ["a", 5]),
    ("part", "part", [1]),
    ("strict", "strict", {"n": "x", "more": 1}),
    ("embedding", "embedding", [1.0, 2.0, 3.0]),
    ("embedding", "embedding", Decimal128("1")),
]


@pytest.mark.parametrize(("attribute", "key", "value"), WRONG)
def test_kept_values(attribute: str, key: str, value: Any) -> None:
    """The raw value is the attribute, nothing is written, and the other fields work as ever."""
    kept = load_one(Kept, {"a": 1, "names": ["x"], key: value})
    raw = copy.deepcopy(kept._superorm_raw)
    assert exact(through_bson({"": value})[""], getattr(kept, attribute))
    assert change_of(KEPT, kept) is None
    other = "b" if attribute == "a" else "a"
    setattr(kept, other, "new" if other == "b" else 7)
    change = change_of(KEPT, kept)
    assert change is not None
    assert {"$set": {"bb": "new"} if other == "b" else {"a": 7}} == change.update
    written(KEPT, [kept], [change.snapshot])
    assert exact(through_bson({"": value})[""], change.snapshot[key])
    assert change_of(KEPT, kept) is None
    assert raw.keys() | {"bb", "a"} == change.snapshot.keys() | {"bb", "a"}


@pytest.mark.parametrize(("attribute", "key", "value"), WRONG)
def test_kept_values_that_change(attribute: str, key: str, value: Any) -> None:
    """What the user puts there is checked; a right value is written, a wrong one is refused."""
    kept = load_one(Kept, {"a": 1, key: value})
    setattr(kept, attribute, object())
    with pytest.raises((ValidationError, VectorError), match=f"Kept .*: {attribute} cannot be stored"):
        change_of(KEPT, kept)
    right = {"a": 5, "b": "x", "names": ["y"], "part": Part(n=1), "strict": Strict(n=2)}.get(attribute)
    setattr(kept, attribute, right)
    change = change_of(KEPT, kept)
    assert change is not None
    assert {key} == change.fields
    assert exact(through_bson(change.snapshot), apply(kept._superorm_raw, change.update))


def test_kept_values_changed_in_place() -> None:
    """The attribute is a copy, so a change in it is seen, and checked."""
    kept = load_one(Kept, {"a": [1], "names": ["a", 5]})
    kept.names.pop()
    change = change_of(KEPT, kept)
    assert change is not None
    assert {"$set": {"names": ["a"]}} == change.update
    assert ["a", 5] == kept._superorm_raw["names"]
    kept.a.append(2)
    with pytest.raises(ValidationError, match="a cannot be stored"):
        change_of(KEPT, kept)
    restore(kept)
    assert ([1], ["a", 5]) == (kept.a, kept.names)


@pytest.mark.parametrize("stored", [[None], [1], [{"n": "x"}]])
def test_kept_lists_replaced_by_new_objects(stored: list[Any]) -> None:
    """What stands in a kept list is not compared as if it were a document."""
    kept = load_one(KeptParts, {"parts": stored})
    assert stored == kept.parts
    kept.parts = [Strict(n=1)]
    mapping = class_map(KeptParts)
    assert [kept] == possibly_changed(mapping, [kept])
    change = change_of(mapping, kept)
    assert change is not None
    assert {"$set": {"parts": [{"n": 1}]}} == change.update


def test_missing_keys() -> None:
    """A missing key without a default is None, and stays missing until it is set."""
    kept = load_one(Kept, {})
    assert (None, "", []) == (kept.a, kept.b, kept.names)
    assert change_of(KEPT, kept) is None
    kept.a = 3
    change = change_of(KEPT, kept)
    assert change is not None
    assert {"$set": {"a": 3}} == change.update


def test_deleted_and_added_again() -> None:
    """What was kept is inserted again as it was."""
    kept = load_one(Kept, {"a": "one", "names": [1], "more": 2})
    assert [1] == kept.names
    setattr(kept, GONE, vars(kept).pop("_superorm_raw"))
    document = dump(KEPT, kept)
    assert {"a": "one", "names": [1], "more": 2}.items() <= document.items()


def test_embedded_documents() -> None:
    """An Embedded has a setting of its own; without it, its value is its document's affair."""
    whole = load_one(Whole, {"part": {"n": "x", "names": "y", "z": 1}, "parts": [{"n": 1}, {"names": [1]}]})
    assert ("x", "y", [1, None], [[], [1]]) == (
        whole.part.n, whole.part.names, [part.n for part in whole.parts], [part.names for part in whole.parts],
    )  # fmt: skip
    mapping = class_map(Whole)
    assert change_of(mapping, whole) is None
    whole.part.names = ["a"]
    change = change_of(mapping, whole)
    assert change is not None
    assert {"$set": {"part.names": ["a"]}} == change.update
    written(mapping, [whole], [change.snapshot])
    whole.parts[0].names.append("b")
    change = change_of(mapping, whole)
    assert change is not None
    assert {"$set": {"parts": [{"n": 1, "names": ["b"]}, {"names": [1]}]}} == change.update
    whole.parts[1].n = "y"
    with pytest.raises(ValidationError, match=r"parts\.1\.n cannot be stored: expected int, got str 'y'"):
        change_of(mapping, whole)
    with pytest.raises(ValidationError, match="stored value of part does not fit: expected Part"):
        load_one(Whole, {"part": 3}).part  # noqa: B018
    strict = load_one(Kept, {"a": 1, "strict": {"n": "x"}})
    assert {"n": "x"} == strict.strict


def test_new_objects_are_checked() -> None:
    """The setting is about what is there already."""
    with pytest.raises(ValidationError, match=r"Kept .*: a cannot be stored"):
        store(Kept(a="x"))  # type: ignore[arg-type]


def test_the_default_is_an_error() -> None:
    """It names document, field and value; subclasses inherit the setting, and may change it."""

    class Base(Document, registry=Registry()):
        __on_mismatch__ = "keep"

        n: Mapped[int] = field(default=0)

    class Below(Base):
        pass

    class Careful(Base):
        __on_mismatch__ = "error"

    key = ObjectId()
    assert "x" == load_one(Base, {"_id": key, "n": "x", "_type": "Below"}).n
    with pytest.raises(ValidationError) as raised:
        load_one(Base, {"_id": key, "n": "x", "_type": "Careful"})
    assert f"Careful {key!r}: the stored value of n does not fit: expected int, got str 'x'" == str(raised.value)
    assert (Careful, key, "n") == (raised.value.document_class, raised.value.key, raised.value.field)
    with pytest.raises(MappingError, match=r'Bad\.__on_mismatch__ must be "error" or "keep", not \'ignore\''):

        class Bad(Document, registry=Registry()):
            __on_mismatch__ = "ignore"
