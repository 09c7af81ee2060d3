"""Which vectors are computed, and what is made of a model's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import Document, Mapped, PredictionError, Registry, ValidationError, VectorError, field, vector
from superorm.schema.mapping import class_map
from superorm.unitofwork.computed import Need, blame, checked, inputs_of, needs, put
from tests.schema.helpers import load_one
from tests.unitofwork.classes import Film, stored

FILM = class_map(Film)


def need(*instances: Any) -> Need:
    """What the new objects need."""
    (found,) = needs(FILM, instances, [])
    return found


def test_new_and_changed_sources() -> None:
    """New objects and those whose source changed, not those whose other fields did, or were only read."""
    same, changed, read = (load_one(Film, stored(n, title="t")) for n in range(3))
    same.year = 3
    changed.title = "u"
    assert "t" == read.title
    new = Film(id=7, title="n")
    (found,) = needs(FILM, [new], [same, changed, read])
    assert [(new, "n"), (changed, "u")] == found.objects
    assert ("m", "embedding", 2) == (found.model, found.spec.path, found.spec.dim)
    assert [] == needs(FILM, [], [same, read])


def test_a_source_that_is_missing_or_gone() -> None:
    """A source of None makes the vector None; a default that was only read asks for nothing."""

    class Note(Document, registry=Registry()):
        text: Mapped[str | None] = field(default=None)
        words: Mapped[str] = field(default="none")
        vec: Mapped[np.ndarray | None] = vector(2, source="text", model="m")
        other: Mapped[np.ndarray | None] = vector(2, source="words", model="m")

    mapping = class_map(Note)
    note = load_one(Note, {"text": "x", "vec": [1, 2]})
    note.text = None
    assert [] == needs(mapping, [], [note])
    assert note.vec is None
    note = load_one(Note, {"text": "x", "vec": [1, 2]})
    del note.text
    assert [] == needs(mapping, [], [note])
    assert note.vec is None


def test_inputs_are_asked_once() -> None:
    """Each text once, the shortest first; every object gets an array of its own."""
    films = [Film(id=n, title=title) for n, title in enumerate(["ccc", "a", "ccc", "bb"])]
    found = need(*films)
    assert ["a", "bb", "ccc"] == inputs_of(found)
    put(found, checked(found, inputs_of(found), [[1, 0], np.array([2.0, 0]), (3, 0)]))
    assert [3.0, 1.0, 3.0, 2.0] == [film.embedding[0] for film in films]  # type: ignore[index]
    assert films[0].embedding is not films[2].embedding
    assert {np.dtype(np.float32)} == {film.embedding.dtype for film in films}  # type: ignore[union-attr]


def test_inputs_that_are_no_texts() -> None:
    """Other sources are given one for each object, in their order."""

    class Shape(Document, registry=Registry()):
        id: Mapped[int] = field(primary_key=True)
        points: Mapped[np.ndarray] = field()
        vec: Mapped[np.ndarray | None] = vector(2, source="points", model="m")

    shapes = [Shape(id=n, points=np.full(3, n)) for n in range(3)]
    (found,) = needs(class_map(Shape), shapes, [])
    inputs = inputs_of(found)
    assert [0, 1, 2] == [points[0] for points in inputs]
    put(found, checked(found, inputs, np.arange(6).reshape(3, 2)))
    assert [0.0, 2.0, 4.0] == [shape.vec[0] for shape in shapes]  # type: ignore[index]
    with pytest.raises(VectorError, match="Shape 2: vec cannot be computed: model 'm' returned NaN or infinity"):
        put(found, checked(found, inputs, [[0, 0], [0, 0], [np.nan, 0]]))


def test_a_source_that_does_not_fit() -> None:
    """It is refused before a model sees it."""
    with pytest.raises(ValidationError, match="Film 1: title cannot be stored: expected str, got int 5"):
        needs(FILM, [Film(id=1, title=5)], [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([1, 2, 3], r"returned an output of shape \(3,\), expected \(2,\)"),
        (1.5, r"returned an output of shape \(\), expected \(2,\)"),
        ([np.inf, 1], "returned NaN or infinity"),
        ([1e300, 1], "returned NaN or infinity"),
        ("x", "returned a str, no vector"),
        (None, r"returned an output of shape \(\)|returned a NoneType"),
        ([10**400, 0], "returned a list, no vector"),
    ],
)
def test_outputs_that_are_no_vectors(output: Any, message: str) -> None:
    """Class, key, field and model are named, and no object is changed."""
    films = [Film(id=1, title="a"), Film(id=2, title="b")]
    found = need(*films)
    with pytest.raises(VectorError, match=f"Film 2: embedding cannot be computed: model 'm' {message}") as raised:
        put(found, checked(found, inputs_of(found), [[1, 2], output]))
    assert (Film, 2, "embedding", "m") == (
        raised.value.document_class,
        raised.value.key,
        raised.value.field,
        raised.value.component,
    )
    assert [None, None] == [film.embedding for film in films]


def test_blame() -> None:
    """A model's error names the class, the field, and the key where the input at fault is known."""
    found = need(Film(id=1, title="aa"), Film(id=2, title="b"))
    inputs = inputs_of(found)
    known = blame(found, inputs, PredictionError("it failed", position=0))
    assert "Film 2: embedding cannot be computed: it failed, for text 2 of 2" == str(known)
    assert (2, "embedding", "m") == (known.key, known.field, known.component)
    unknown = blame(found, inputs, PredictionError("it failed"))
    assert ("Film: embedding cannot be computed: it failed", None) == (str(unknown), unknown.key)
