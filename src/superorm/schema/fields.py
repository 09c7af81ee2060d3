"""What stands on the right-hand side of a field's declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, overload

import attrs
import numpy as np
from attrs import frozen

from superorm.exc import MappingError
from superorm.schema.vector_spec import Metric

if TYPE_CHECKING:
    from superorm.expr.nodes import Field
    from superorm.schema.document import Document, Embedded

__all__ = ["MISSING", "FieldSpec", "Mapped", "VectorFieldSpec", "field", "utcnow", "vector"]

T = TypeVar("T")
M = TypeVar("M")


class _Missing(Enum):
    MISSING = "no default"


MISSING = _Missing.MISSING
"""Stands where a field has no default."""

MAX_DIM = 16_384
_MUTABLE: Any = (list, dict, set, np.ndarray)


class Mapped(Generic[T]):
    """The type of a mapped attribute: a `Field` on the class, a plain value on an object."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[M]) -> Field[M, T]: ...
        @overload
        def __get__(self, instance: Document | Embedded, owner: Any) -> T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...


def _is_stored_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", "_id") and name[0] != "$" and not {".", "\0"} & set(name)


@frozen
class FieldSpec:
    """A field's declaration, as `field` makes it."""

    default: Any = MISSING
    factory: Callable[[], Any] | None = None
    name: str | None = None
    primary_key: bool = False
    index: bool = False
    unique: bool = False
    validator: Any = None
    converter: Callable[[Any], Any] | None = None
    repr: bool = True

    def check(self, where: str) -> None:
        """Raise `MappingError` for settings that contradict one another; `where` names the field."""
        if self.default is not MISSING and self.factory is not None:
            raise MappingError(f"{where}: give field() a default or a factory, not both")
        if isinstance(self.default, _MUTABLE) or hasattr(self.default, "__superorm__"):
            raise MappingError(f"{where}: default={self.default!r} would be shared by all objects; use factory=")
        for setting, function in (
            ("factory", self.factory),
            ("converter", self.converter),
            ("validator", self.validator),
        ):
            if function is not None and not callable(function):
                raise MappingError(f"{where}: {setting}={function!r} is no function")
        if self.primary_key and self.name is not None:
            raise MappingError(f"{where}: a primary key is always stored as _id; leave out name=")
        if self.name is not None and not _is_stored_name(self.name):
            raise MappingError(
                f"{where}: name={self.name!r} cannot be a stored key: "
                "that is a text, not empty and not _id, which does not begin with $ and holds no dot and no NUL"
            )


@frozen
class VectorFieldSpec(FieldSpec):
    """A vector field's declaration, as `vector` makes it."""

    dim: int = 0
    metric: Metric = "cosine"
    source: str | None = None
    model: str | None = None

    def check(self, where: str) -> None:
        super().check(where)
        if type(self.dim) is not int or not 1 <= self.dim <= MAX_DIM:
            raise MappingError(f"{where}: the dimension must be a whole number from 1 to {MAX_DIM}, not {self.dim!r}")
        if self.metric not in get_args(Metric):
            raise MappingError(f"{where}: metric={self.metric!r} is none of {', '.join(get_args(Metric))}")
        if (self.source is None) != (self.model is None):
            raise MappingError(f"{where}: a computed vector needs both source= and model=")


def field(
    *,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    primary_key: bool = False,
    index: bool = False,
    unique: bool = False,
    validator: Callable[[Any, Any, Any], Any] | Sequence[Callable[[Any, Any, Any], Any]] | None = None,
    converter: Callable[[Any], Any] | None = None,
    repr: bool = True,
) -> Any:
    """Declare a field.

    `default` or `factory` make it optional in ``__init__``.
    `name` is the key it is stored under, if not the attribute's name.
    `primary_key` makes it the document's ``_id``.
    `index` and `unique` ask `create_all` for an index.
    `validator` and `converter` are as in attrs; they run in ``__init__``, and again when a changed value is flushed.
    Settings that contradict one another raise `MappingError` where the class is declared.
    """
    return FieldSpec(
        default=default,
        factory=factory,
        name=name,
        primary_key=primary_key,
        index=index,
        unique=unique,
        validator=validator if validator is None or callable(validator) else attrs.validators.and_(*validator),
        converter=converter,
        repr=repr,
    )


def vector(
    dim: int,
    *,
    metric: Metric = "cosine",
    source: str | None = None,
    model: str | None = None,
    name: str | None = None,
) -> Any:
    """Declare a vector field: a float32 array of shape (dim,).

    With `source` (another field's name) and `model` (a `Model`'s name) it is computed:
    superorm keeps it equal to the model's prediction for the source.
    Settings that cannot be raise `MappingError` where the class is declared.
    """
    return VectorFieldSpec(default=None, name=name, dim=dim, metric=metric, source=source, model=model, repr=False)


def utcnow() -> datetime:
    """The time now: aware, UTC, cut to milliseconds as MongoDB stores it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
