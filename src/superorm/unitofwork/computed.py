"""Which computed vectors a flush has to compute, and what becomes of a model's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from superorm.codec.documents import key_of
from superorm.codec.vectors import as_float32
from superorm.exc import SuperormError, VectorError
from superorm.schema.mapping import ClassMap
from superorm.schema.vector_fields import VectorField
from superorm.schema.vector_spec import VectorSpec
from superorm.unitofwork.sources import sources_of

__all__ = ["Need", "Vector", "as_vectors", "blame", "checked", "in_batches", "inputs_of", "needs", "put"]


Vector: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"


@frozen
class Need:
    """Vectors of one field to compute: for each object the value of its source."""

    field: VectorField
    objects: Sequence[tuple[Any, Any]]

    @property
    def mapping(self) -> ClassMap:
        return self.field.mapping

    @property
    def spec(self) -> VectorSpec:
        return self.field.spec

    @property
    def model(self) -> str:
        """The model's name."""
        assert self.field.declared.model is not None
        return self.field.declared.model

    @property
    def values(self) -> Iterator[Any]:
        """The value of each object's source."""
        return (value for _, value in self.objects)

    @cached_property
    def texts(self) -> frozenset[str] | None:
        """Those values, each once; None where they are not all texts."""
        return frozenset(self.values) if all(isinstance(value, str) for value in self.values) else None


def needs(mapping: ClassMap, new: Iterable[Any], changed: Iterable[Any]) -> list[Need]:
    """The computed fields whose source is new or changed, or whose vector somebody changed.

    A source of None makes the vector None at once.

    Raises `ValidationError` where a source is of the wrong type: nothing of the kind reaches the model;
    `NotLoadedError` where a vector was assigned, and its source is not loaded.
    """
    found: list[Need] = []
    new, changed = list(new), list(changed)
    for field in mapping.vectors:
        if field.source is not None and (objects := list(sources_of(field, field.source, new, changed))):
            found.append(Need(field, objects))
    return found


def inputs_of(need: Need) -> list[Any]:
    """What the model is asked: each text once, the shortest first so that batches are of like lengths."""
    return list(need.values) if need.texts is None else in_batches(need.texts)


def in_batches(texts: Iterable[str]) -> list[str]:
    """The texts, the shortest first so that batches are of like lengths."""
    return sorted(texts, key=lambda text: (len(text), text))


def checked(need: Need, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Vector]:
    """The vector of each object, of a model's outputs.

    Raises `VectorError` naming class, key and field for an output of the wrong shape or not finite.
    """
    vectors = as_vectors(need, inputs, outputs)
    if need.texts is None:
        return vectors
    by_text = dict(zip(inputs, vectors, strict=True))
    return [by_text[text] for text in need.values]


def as_vectors(need: Need, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Vector]:
    """The vector of each input. Raises `VectorError` as `checked` does."""
    return [_vector(need, value, output) for value, output in zip(inputs, outputs, strict=True)]


def put(need: Need, vectors: Sequence[Vector]) -> None:
    """Put the vectors into the objects, each an array of its own."""
    for (instance, _), vector in zip(need.objects, vectors, strict=True):
        setattr(need.field.below(instance), need.field.part.attribute, vector.copy())


def _vector(need: Need, value: Any, output: Any) -> Vector:
    vector = as_float32(output)
    if vector is None:
        raise _refused(need, value, f"a {type(output).__name__}, no vector")
    if vector.shape != (need.spec.dim,):
        raise _refused(need, value, f"an output of shape {vector.shape}, expected ({need.spec.dim},)")
    if not np.isfinite(vector).all():
        raise _refused(need, value, "NaN or infinity")
    return vector


def _refused(need: Need, value: Any, what: str) -> VectorError:
    key, place = _place(need, value)
    return VectorError(
        f"{need.mapping.name} {key!r}: {need.field.attribute} cannot be computed: "
        f"model {need.model!r} returned {what}{place}",
        document_class=need.mapping.cls,
        key=key,
        field=need.field.attribute,
        component=need.model,
    )


def _place(need: Need, value: Any) -> tuple[Any, str]:
    """The key of the first object with this source value, and which of those to compute it is, for messages."""
    values = list(need.values)
    text = isinstance(value, str)
    number = next(n for n, given in enumerate(values) if given is value or (text and given == value))
    place = f", for {'text' if text else 'value'} {number + 1} of {len(values)}" if len(values) > 1 else ""
    return key_of(need.mapping, need.objects[number][0]), place


def blame(need: Need, inputs: Sequence[Any], error: SuperormError) -> SuperormError:
    """The model's error with the class, field and, where the input at fault is known, key."""
    position = getattr(error, "position", None)
    key, place = (None, "") if position is None else _place(need, inputs[position])
    where = need.mapping.name if position is None else f"{need.mapping.name} {key!r}"
    return type(error)(
        f"{where}: {need.field.attribute} cannot be computed: {error}{place}",
        document_class=need.mapping.cls,
        key=key,
        field=need.field.attribute,
        component=need.model,
    )
