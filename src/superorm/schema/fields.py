"""What stands on the right-hand side of a field's declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, overload

import attrs
import numpy as np
from attrs import frozen

from superorm.exc import MappingError
from superorm.expr.narrow import is_list, is_tuple
from superorm.schema.indexes import KINDS, IndexKind, check_bool, ttl_seconds
from superorm.schema.vector_index import index_spec
from superorm.schema.vector_spec import IndexSpec, Metric, VectorIndexKind, VectorIndexOptions

if TYPE_CHECKING:
    from superorm.expr.nodes import Field
    from superorm.schema.document import Document, Embedded

__all__ = [
    "MISSING",
    "ArtifactFieldSpec",
    "FieldSpec",
    "Mapped",
    "VectorFieldSpec",
    "artifact",
    "field",
    "is_stored_name",
    "utcnow",
    "vector",
]

T = TypeVar("T")
M = TypeVar("M")


class _Missing(Enum):
    MISSING = "no default"


MISSING = _Missing.MISSING
"""Stands where a field has no default."""

MAX_DIM = 16_384
_MUTABLE: Any = (list, dict, set, np.ndarray)
_FACTORY: Any = attrs.Factory


class Mapped(Generic[T]):
    """The type of a mapped attribute: a `Field` on the class, a plain value on an object."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[M]) -> Field[M, T]: ...
        @overload
        def __get__(self, instance: Document | Embedded, owner: Any) -> T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...


def is_stored_name(name: object) -> bool:
    """Whether fields can be stored under this key."""
    return isinstance(name, str) and name not in ("", "_id") and name[0] != "$" and not {".", "\0"} & set(name)


def _is_mutable(value: object) -> bool:
    """Whether a default is known to be changed by whoever changes it in one object."""
    if is_tuple(value):
        return any(map(_is_mutable, value))
    return isinstance(value, _MUTABLE) or hasattr(value, "__superorm__")


def _check_name(where: str, setting: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise MappingError(f"{where}: {setting}={value!r} is no name")


@frozen
class FieldSpec:
    """A field's declaration, as `field` makes it."""

    default: Any = MISSING
    factory: Callable[[], Any] | None = None
    name: str | None = None
    primary_key: bool = False
    index: bool | IndexKind = False
    unique: bool = False
    ttl: timedelta | int | None = None
    validator: Any = None
    converter: Callable[[Any], Any] | None = None
    repr: bool = True
    version: bool = False

    def check(self, where: str) -> None:
        """Raise `MappingError` for settings that contradict one another; `where` names the field."""
        if self.default is not MISSING and self.factory is not None:
            raise MappingError(f"{where}: give field() a default or a factory, not both")
        if isinstance(self.default, _FACTORY):
            raise MappingError(f"{where}: default={self.default!r} makes values; give the function itself as factory=")
        if _is_mutable(self.default):
            raise MappingError(f"{where}: default={self.default!r} would be shared by all objects; use factory=")
        for setting, value in (
            ("primary_key", self.primary_key),
            ("unique", self.unique),
            ("repr", self.repr),
            ("version", self.version),
        ):
            check_bool(where, setting, value)
        for setting, function in (
            ("factory", self.factory),
            ("converter", self.converter),
            ("validator", self.validator),
        ):
            if function is not None and not callable(function):
                raise MappingError(f"{where}: {setting}={function!r} is no function")
        if any(getattr(self.converter, setting, False) for setting in ("takes_self", "takes_field")):  # attrs.Converter
            raise MappingError(f"{where}: the converter gets the value only; leave out takes_self= and takes_field=")
        self._check_index(where)
        self._check_version(where)
        if self.primary_key and self.name is not None:
            raise MappingError(f"{where}: a primary key is always stored as _id; leave out name=")
        if self.name == "_id":
            raise MappingError(
                f"{where}: only the key is stored as _id; it is declared as id: Mapped[...] = field(primary_key=True), "
                "without name="
            )
        if self.name is not None and not is_stored_name(self.name):
            raise MappingError(
                f"{where}: name={self.name!r} cannot be a stored key: "
                "that is a text, not empty and not _id, which does not begin with $ and holds no dot and no NUL"
            )

    def _check_version(self, where: str) -> None:
        if self.version and self != FieldSpec(name=self.name, index=self.index, repr=self.repr, version=True):
            raise MappingError(
                f"{where}: superorm keeps a version by itself; only name=, index= and repr= can stand beside it"
            )

    def _check_index(self, where: str) -> None:
        if type(self.index) is not bool and self.index not in KINDS:
            raise MappingError(f"{where}: index={self.index!r} is none of True, False, {', '.join(map(repr, KINDS))}")
        if isinstance(self.index, str) and self.ttl is not None:
            raise MappingError(f"{where}: an index={self.index!r} has no ttl=")
        if self.index in ("text", "hashed") and self.unique:
            attribute = where.rpartition(".")[2]
            raise MappingError(
                f"{where}: an index={self.index!r} is not unique; "
                f"leave out unique=True and add Index({attribute!r}, unique=True) to __indexes__"
            )
        if self.ttl is not None:
            if self.primary_key:
                raise MappingError(f"{where}: the index of the primary key has no ttl=")
            try:
                ttl_seconds(self.ttl)
            except MappingError as error:
                raise MappingError(f"{where}: {error}") from None


@frozen
class VectorFieldSpec(FieldSpec):
    """A vector field's declaration, as `vector` makes it."""

    dim: int = 0
    metric: Metric = "cosine"
    source: str | None = None
    model: str | None = None
    vector_index: VectorIndexKind | VectorIndexOptions | None = None
    filter_fields: Sequence[str] = ()

    @property
    def index_spec(self) -> IndexSpec | None:
        """The index asked for. Raises `MappingError` for one that there is not."""
        return index_spec(self.vector_index, self.dim)

    def check(self, where: str) -> None:
        super().check(where)
        if type(self.dim) is not int or not 1 <= self.dim <= MAX_DIM:
            raise MappingError(f"{where}: the dimension must be a whole number from 1 to {MAX_DIM}, not {self.dim!r}")
        if self.metric not in get_args(Metric):
            raise MappingError(f"{where}: metric={self.metric!r} is none of {', '.join(get_args(Metric))}")
        if (self.source is None) != (self.model is None):
            raise MappingError(f"{where}: a computed vector needs both source= and model=")
        for setting, value in (("source", self.source), ("model", self.model)):
            _check_name(where, setting, value)
        try:
            index_spec(self.vector_index, self.dim)
        except MappingError as error:
            raise MappingError(f"{where}: {error}") from None
        given: object = self.filter_fields
        if not (is_list(given) or is_tuple(given)) or not all(isinstance(name, str) and name for name in given):
            raise MappingError(f"{where}: filter_fields={given!r} is no list of the names of fields")


@frozen
class ArtifactFieldSpec(FieldSpec):
    """An artifact field's declaration, as `artifact` makes it."""

    codec: str | None = None

    def check(self, where: str) -> None:
        super().check(where)
        _check_name(where, "codec", self.codec)
        if self.default is not MISSING and self.default is not None:
            raise MappingError(f"{where}: an artifact's default is None, or there is none; leave out default=")


@overload
def field(
    *,
    version: Literal[True],
    name: str | None = None,
    index: bool = False,
    repr: bool = True,
    init: Literal[False] = False,
) -> Any: ...
@overload
def field(
    *,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    primary_key: bool = False,
    index: bool | IndexKind = False,
    unique: bool = False,
    ttl: timedelta | int | None = None,
    validator: Callable[[Any, Any, Any], Any] | Sequence[Callable[[Any, Any, Any], Any]] | None = None,
    converter: Callable[[Any], Any] | None = None,
    repr: bool = True,
) -> Any: ...
def field(
    *,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    primary_key: bool = False,
    index: bool | IndexKind = False,
    unique: bool = False,
    ttl: timedelta | int | None = None,
    validator: Callable[[Any, Any, Any], Any] | Sequence[Callable[[Any, Any, Any], Any]] | None = None,
    converter: Callable[[Any], Any] | None = None,
    repr: bool = True,
    version: bool = False,
    init: object = MISSING,
) -> Any:
    """Declare a field.

    `default` or `factory` make it optional in ``__init__``.
    `name` is the key it is stored under, if not the attribute's name.
    `primary_key` makes it the document's ``_id``.
    `index` and `unique` ask `create_all` for an index, also where the class is embedded in documents and in lists.
    `index` may name another kind: ``"text"`` (which such fields of a collection share), ``"hashed"``, ``"2dsphere"``.
    `ttl`, a timedelta or seconds, asks for an index by which the server deletes documents that long after a date.
    For more than these see `Index`.
    `validator` and `converter` are as in attrs; they run in ``__init__``, and again when a changed value is flushed.
    `version` makes it the document's version, an int that superorm counts up with each change:
    writing a document whose version somebody else changed raises `StaleDocumentError`.
    It is no argument of ``__init__`` (`init` is there for type checkers only).
    Settings that contradict one another raise `MappingError` where the class is declared.
    """
    if init is not MISSING and not (version and init is False):
        raise MappingError(
            f"field(init={init!r}): every field but a version is an argument of __init__; leave out init=, "
            "and give default= or factory= to what need not be given"
        )
    return FieldSpec(
        default=default,
        factory=factory,
        name=name,
        primary_key=primary_key,
        index=index,
        unique=unique,
        ttl=ttl,
        validator=_one_validator(validator),
        converter=converter,
        repr=repr,
        version=version,
    )


def _one_validator(given: object) -> Any:
    """Several validators as one; what is none stays as it is."""
    if (is_list(given) or is_tuple(given)) and all(map(callable, given)):
        return attrs.validators.and_(*given)
    return given


def vector(
    dim: int,
    *,
    metric: Metric = "cosine",
    source: str | None = None,
    model: str | None = None,
    index: VectorIndexKind | VectorIndexOptions | None = None,
    filter_fields: Sequence[str] = (),
    name: str | None = None,
) -> Any:
    """Declare a vector field: a float32 array of shape (dim,).

    With `source` (another field's name) and `model` (a `Model`'s name) it is computed:
    superorm keeps it equal to the model's prediction for the source.
    `index` is the kind of index that a vector database with several is to build, or a dict of ``kind`` and parameters;
    by default that follows from the number of vectors.
    `filter_fields` are scalar fields that such a database mirrors, for searches that filter by them:
    attributes of the class, dotted for those of embedded documents (``"imdb.rating"``).
    A change of one of them is applied to the vector database as a change of the vector is.
    Settings that cannot be raise `MappingError` where the class is declared.
    """
    return VectorFieldSpec(
        default=None,
        name=name,
        dim=dim,
        metric=metric,
        source=source,
        model=model,
        vector_index=index,
        filter_fields=filter_fields,
        repr=False,
    )


def artifact(*, codec: str | None = None, default: Any = MISSING, name: str | None = None) -> Any:
    """Declare an artifact field: its object is kept in the artifact store, and the document holds a reference to it.

    `codec` names how the object becomes bytes: ``"bytes"``, ``"npy"``, ``"cloudpickle"`` and so on.
    Without it that follows from each object.
    `default` may be None, `name` is the key that the reference is stored under, if not the attribute's name.
    In a session the object is read at the first access; in an `AsyncSession` by ``await session.load(...)``.
    Settings that cannot be raise `MappingError` where the class is declared.
    """
    return ArtifactFieldSpec(codec=codec, default=default, name=name, repr=False)


def utcnow() -> datetime:
    """The time now: aware, UTC, cut to milliseconds as MongoDB stores it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
