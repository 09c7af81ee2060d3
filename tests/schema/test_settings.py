"""Mistakes in class bodies beside fields' types: misspelt settings, wrong values of settings, decorators, names."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any, cast

import attrs
import numpy as np  # noqa: F401 (annotations name it)
import pytest

from superorm import Document, Embedded, Mapped, MappingError, Registry, field, vector
from superorm.schema.registry import default_registry
from tests.schema.helpers import load_one, store

registry = Registry()
loosely: Any = field
"""`field` for settings that a type checker refuses."""


def declare(base: Any = Document, annotation: str = "Mapped[int]", /, **body: Any) -> Any:
    """A class `Bad` with a field `x`."""
    keywords = {} if base is Embedded else {"registry": registry}
    return types.new_class(
        "Bad", (base,), keywords, lambda own: own.update({"__annotations__": {"x": annotation}, **body})
    )


NAMES = {
    "__collections__": "did you mean __collection__?",
    "__colection__": "did you mean __collection__?",
    "__index__": "did you mean __indexes__?",
    "__on_missmatch__": "did you mean __on_mismatch__?",
    "__extras__": "did you mean __extra__?",
    "__abstracts__": "did you mean __abstract__?",
    "__discriminators__": "did you mean __discriminator__?",
}


@pytest.mark.parametrize("base", [Document, Embedded])
@pytest.mark.parametrize("name", NAMES)
def test_settings_that_nobody_knows(base: Any, name: str) -> None:
    """Names close to those of settings are refused, with the name that was meant."""
    with pytest.raises(MappingError) as raised:
        declare(base, **{name: "films"})
    assert f"Bad.{name}: no such setting; {NAMES[name]}" in str(raised.value)
    assert "Bad" not in {mapping.name for mapping in registry}


def test_names_that_python_and_libraries_know() -> None:
    """Methods, None in the place of one, and what Python itself puts into class bodies stay."""

    class Fine(Document, registry=registry):
        """A docstring."""

        __slots__ = ("cache",)
        __match_args__ = ("x",)
        __iter__ = None

        x: Mapped[int]

        def __html__(self) -> str:
            return f"<b>{self.x}</b>"

        @property
        def __json__(self) -> int:
            return self.x

    assert ("<b>3</b>", 3) == (Fine(x=3).__html__(), Fine(x=3).__json__)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: declare(__abstract__="yes"), "Bad.__abstract__ must be True or False, not 'yes'"),
    (lambda: declare(__validate__=1), 'Bad.__validate__ must be True, False or "warn", not 1'),
    (lambda: declare(__discriminator__=None), "Bad: __discriminator__ = None cannot be a stored key"),
    (lambda: declare(Embedded, __discriminator__=3), "Bad: __discriminator__ = 3 cannot be a stored key"),
    (
        lambda: declare(Embedded, __discriminator__="x"),
        "Bad has a field stored under 'x', the key that names the class",
    ),
    (lambda: declare(__slots__=("x",)), "Bad.x: a field has no slot; leave it out of __slots__"),
    (lambda: declare(__slots__="x"), "Bad.x: a field has no slot"),
    (lambda: declare(x=loosely(primary_key="yes")), "Bad.x: primary_key='yes' is neither True nor False"),
    (lambda: declare(x=loosely(unique="x")), "Bad.x: unique='x' is neither True nor False"),
    (lambda: declare(x=loosely(unique=None)), "Bad.x: unique=None is neither True nor False"),
    (lambda: declare(x=loosely(version=1)), "Bad.x: version=1 is neither True nor False"),
    (lambda: declare(x=loosely(repr=3)), "Bad.x: repr=3 is neither True nor False"),
    (lambda: declare(x=loosely(index=3)), "Bad.x: index=3 is none of True, False, 'text'"),
    (lambda: declare(x=loosely(index=1)), "Bad.x: index=1 is none of True, False, 'text'"),
    (lambda: declare(x=loosely(init=False)), "field(init=False): every field but a version is an argument of __init__"),
    (lambda: declare(x=loosely(version=True, init=True)), "field(init=True): every field but a version"),
    (lambda: declare(Document, "Mapped[tuple[int, list[int]]]", x=field(default=(1, []))), "would be shared by all"),
    (
        lambda: declare(Document, "Mapped[np.ndarray]", x=vector(3, source=cast("Any", []), model="m")),
        "Bad.x: source=[] is no name",
    ),
    (lambda: declare(Document, "Mapped[np.ndarray]", x=vector(3, source="y", model="")), "Bad.x: model='' is no name"),
    (lambda: declare(x=attrs.field()), "Bad.x: write superorm.field(...), not that of another package"),
    (lambda: declare(x=dataclasses.field()), "Bad.x: write superorm.field(...), not that of another package"),
    (lambda: declare(y=attrs.field()), "Bad.y has no annotation; write y: Mapped[...]"),
    (lambda: declare(y=Mapped[int]), "Bad.y has no annotation; write y: Mapped[...]"),
    (lambda: declare(x=lambda self: 3), "Bad.x is a field and a function; give one of them another name"),
    (lambda: declare(x=property(lambda self: 3)), "Bad.x is a field and a property; give one of them another name"),
    (lambda: declare(Document, "Mapped[Mapped[int]]"), "Bad.x: a field cannot hold Mapped of superorm"),
    (lambda: declare(Document, "Mapped[list[Embedded]]"), "Bad.x: a field cannot hold Embedded of superorm"),
    (
        lambda: declare(__annotations__={"_id": "Mapped[str]"}),
        "Bad._id: the key of a Document is declared as id: Mapped[str] = field(primary_key=True), and stored as _id",
    ),
    (lambda: declare(__annotations__={"class": Mapped[int]}), "Bad.class: this name is reserved"),
    (lambda: declare(__annotations__={"a b": Mapped[int]}), "Bad.a b: this name is reserved"),
    (
        lambda: types.new_class("Bad", (Document,), {"registry": "x"}),
        "Bad: registry='x' is no Registry; write registry=Registry()",
    ),
]


@pytest.mark.parametrize(("declaration", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes(declaration: Callable[[], Any], message: str) -> None:
    """Each is refused where the class is declared, with the class, the field and what to do."""
    with pytest.raises(MappingError) as raised:
        declaration()
    assert message in str(raised.value)


@pytest.mark.parametrize("base", [Document, Embedded])
@pytest.mark.parametrize(
    "decorator",
    [
        dataclasses.dataclass,
        dataclasses.dataclass(frozen=True),
        attrs.define,
        attrs.frozen,
        attrs.define(slots=False),
        attrs.define(slots=False, auto_attribs=False),
    ],
)
def test_decorators_on_top(base: Any, decorator: Any) -> None:
    """They would break the class; it says that it needs none."""
    for abstract in (False, True):
        cls = declare(base, "Mapped[list[int]]", __abstract__=abstract)
        with pytest.raises(MappingError, match=r"Bad is an attrs class by itself, .* leave out the decorator"):
            decorator(cls)


def test_classes_made_by_calls() -> None:
    """They need neither a module nor a qualified name; those are the caller's and the class's name."""

    class Local(Embedded):
        n: Mapped[int]

    body: dict[str, Any] = {"__annotations__": {"x": "Mapped[Local]", "y": Mapped[int]}, "y": field(default=2)}
    before = dict(body)
    mine = Registry()
    made: Any = types.new_class("Made", (Document,), {"registry": mine}, lambda own: own.update(body))
    called: Any = type(Document)("Called", (Document,), body, registry=mine)
    for cls in (made, called):
        assert (__name__, cls.__name__) == (cls.__module__, cls.__qualname__)
        assert cls in {mapping.cls for mapping in mine}
        assert (Local(n=1), 2) == ((one := load_one(cls, store(cls(x=Local(n=1))))).x, one.y)
    assert before == body
    assert made not in {mapping.cls for mapping in default_registry}
