"""Converters, validators, factories and Enums of the user's that raise anything."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from superorm import Document, Embedded, Mapped, MappingError, Registry, StatementError, ValidationError, field, select
from superorm.schema.mapping import class_map
from tests.schema.helpers import load_one, store

registry = Registry()
broken = ""
"""The function that fails now."""


def fails(name: str) -> Callable[..., Any]:
    """A function that gives its last argument, and raises a KeyError while it is the broken one."""

    def function(*values: Any) -> Any:
        if broken == name:
            raise KeyError("gone")
        return values[-1] if values else 1

    return function


class Inner(Embedded):
    n: Mapped[int] = field(converter=fails("inner.n"), default=1)


class Outer(Document, registry=registry):
    id: Mapped[int] = field(primary_key=True)
    converted: Mapped[int] = field(converter=fails("converted"), default=1)
    validated: Mapped[int] = field(validator=fails("validated"), default=1)
    made: Mapped[int] = field(factory=fails("made"))
    tags: Mapped[list[str]] = field(converter=fails("tags"), factory=list)
    inner: Mapped[Inner] = field(factory=Inner)


@pytest.mark.parametrize("name", ["converted", "validated", "tags", "inner.n"])
def test_at_flush(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names class, key and field."""
    outer = Outer(id=7)
    monkeypatch.setitem(globals(), "broken", name)
    with pytest.raises(ValidationError, match=rf"Outer 7: {name} cannot be stored: KeyError: 'gone'") as raised:
        store(outer)
    assert (Outer, 7, name) == (raised.value.document_class, raised.value.key, raised.value.field)
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("name", ["converted", "made", "tags", "inner.n"])
def test_at_loading(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that fails where a key is missing is an error with class, key and field, too."""
    whole: dict[str, Any] = {"_id": 7, "converted": 1, "validated": 1, "made": 1, "tags": [], "inner": {"n": 1}}
    if name == "inner.n":
        whole["inner"] = {}
    else:
        del whole[name]
    monkeypatch.setitem(globals(), "broken", name)
    with pytest.raises(
        ValidationError, match=rf"Outer 7: .* {name} .*the key is missing and the default failed: KeyError: 'gone'"
    ) as raised:
        getattr(load_one(Outer, whole), name.split(".")[0])
    assert (Outer, 7, name) == (raised.value.document_class, raised.value.key, raised.value.field)
    assert isinstance(raised.value.__cause__, KeyError)


def test_defaults_that_do_not_fit() -> None:
    """The error does not say that there is none."""

    class Odd(Document, registry=registry):
        n: Mapped[int] = field(factory=lambda: "x")
        m: Mapped[int]

    with pytest.raises(
        ValidationError, match=r"key is missing and the default does not fit: expected int, got str 'x'"
    ):
        load_one(Odd, {"m": 1})
    with pytest.raises(ValidationError, match=r"the key is missing and the field has no default"):
        load_one(Odd, {"n": 1})


def test_an_enum_whose_missing_fails() -> None:
    """What `_missing_` raises names the Enum; a ValueError is a value that is none of it."""

    class Looked(Enum):
        A = "a"

        @classmethod
        def _missing_(cls, value: object) -> Any:
            raise {"v": ValueError, "k": KeyError}[str(value)](value)

    class Shelf(Document, registry=registry):
        e: Mapped[Looked]

    with pytest.raises(ValidationError, match=r"e does not fit: _missing_ of Looked failed on str 'k': KeyError: 'k'"):
        load_one(Shelf, {"e": "k"}).e  # noqa: B018
    with pytest.raises(ValidationError, match=r"e does not fit: expected Looked, got str 'v'"):
        load_one(Shelf, {"e": "v"}).e  # noqa: B018


def test_a_validator_in_a_list() -> None:
    """Several validators all see the value."""
    seen: list[Any] = []

    class Seen(Document, registry=registry):
        n: Mapped[int] = field(validator=[lambda *args: seen.append(args[2]), lambda *args: seen.append(-args[2])])

    Seen(n=3)
    assert [3, -3] == seen


def test_classes_that_are_none() -> None:
    """What is asked of a class that is not mapped says why it is not."""

    class Abstract(Document):
        __abstract__ = True

    with pytest.raises(StatementError, match=r"select\(\): Abstract is abstract; give a class that derives from it"):
        select(Abstract)
    given: Any
    for given, words in ((Abstract, "Abstract is not mapped: it is abstract"), ("x", "'x' is no class")):
        with pytest.raises(MappingError, match=words):
            class_map(given)
    with pytest.raises(MappingError, match="Inner is an Embedded: it has no key and no collection"):
        Inner.__superorm__.key  # noqa: B018
