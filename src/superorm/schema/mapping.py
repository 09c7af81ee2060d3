"""What superorm knows of a mapped class."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeAlias, cast, get_args, get_origin
from weakref import WeakValueDictionary

import attrs
import numpy as np
from attrs import define, field

from superorm.exc import MappingError
from superorm.schema.fields import MISSING, FieldSpec, VectorFieldSpec
from superorm.schema.types.arrays import VectorType
from superorm.schema.types.base import BsonType, Misfit, Missing, Rejected
from superorm.schema.types.containers import UnionType
from superorm.schema.types.resolve import resolve
from superorm.schema.types.scalars import NoneType
from superorm.schema.vector_spec import VectorSpec

__all__ = ["ClassMap", "MappedField", "Scope", "class_map"]

_local_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
"""The mapped classes inside functions, by module and qualified name, for annotations that come before them."""

_Class: TypeAlias = type


@define
class Scope:
    """Where a class was declared, and so where the names in its annotations are looked up."""

    module: str
    qualname: str
    names: dict[str, Any]
    """Names of the class body and of the function around it that stand in the annotations."""

    @classmethod
    def of(cls, body: Mapping[str, Any], around: Mapping[str, Any]) -> Scope:
        """The scope of a class by its body and the names `around` it."""
        mentioned = set(re.findall(r"\w+", " ".join(map(str, body.get("__annotations__", {}).values()))))
        names = {name: namespace[name] for namespace in (around, body) for name in mentioned & namespace.keys()}
        return cls(body["__module__"], body["__qualname__"], names)

    def declare(self, cls: type) -> None:
        """Let annotations name the class itself, before its name is bound."""
        self.names[cls.__name__] = cls
        if "<locals>" in self.qualname:
            _local_classes[f"{self.module}.{self.qualname}"] = cls

    def __call__(self, text: str) -> Any:
        """The value of an annotation. Raises `NameError` for what is not there yet."""
        around = f"{self.module}.{self.qualname.rpartition('.')[0]}."
        local = {name: cls for path, cls in _local_classes.items() if (name := path.removeprefix(around)) != path}
        return eval(text, dict(vars(sys.modules.get(self.module, builtins))), local | self.names)


@define(eq=False)
class MappedField:
    """One field of a class. Expressions hold it as their `FieldType`, so that its type is resolved only when needed."""

    owner: str
    attribute: str
    stored: str
    spec: FieldSpec
    annotation: Any
    scope: Scope
    lazy: bool = False
    """Whether objects convert the stored value at first access only."""
    bit: int = 0
    """Of a lazy field: its bit in the attribute `TOUCHED` of objects."""
    _type: BsonType | None = None

    @property
    def type(self) -> BsonType:
        """The declared type. Raises `MappingError` where the annotation cannot be resolved."""
        try:
            return self._type or self._resolve()
        except NameError as error:
            raise MappingError(
                f"{self.where}: {error}, in the annotation {self.annotation!r}; "
                "import it where the class is declared, outside of `if TYPE_CHECKING`"
            ) from None

    def resolved(self) -> BsonType | None:
        """The declared type, or None where the annotation names what is not there yet."""
        try:
            return self._type or self._resolve()
        except NameError:
            return None

    @property
    def where(self) -> str:
        """``Movie.title``, for messages."""
        return f"{self.owner}.{self.attribute}"

    def _resolve(self) -> BsonType:
        try:
            annotation = self.scope(self.annotation) if isinstance(self.annotation, str) else self.annotation
            (inner,) = get_args(annotation)
            inner = self.scope(inner) if isinstance(inner, str) else inner
            if isinstance(self.spec, VectorFieldSpec):
                self._type = self._vector_type(inner, self.spec.dim)
            else:
                self._type = resolve(inner, self.where, self.scope)
        except (AttributeError, SyntaxError, TypeError) as error:
            raise MappingError(f"{self.where}: the annotation {self.annotation!r} cannot be read: {error}") from error
        return self._type

    def _vector_type(self, annotation: Any, dim: int) -> BsonType:
        members = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
        if any((get_origin(member) or member) not in (np.ndarray, type(None)) for member in members):
            raise MappingError(f"{self.where}: a vector is declared as Mapped[np.ndarray | None], not {annotation!r}")
        kind = VectorType(dim)
        return UnionType((kind, NoneType())) if len(members) > 1 else kind

    @property
    def is_list(self) -> bool:
        return self.type.is_list

    @property
    def embedded(self) -> _Class | None:
        return self.type.embedded

    def member(self, name: str) -> MappedField:
        return self.type.member(name)

    def missing(self) -> tuple[Any, Any]:
        """The default for an object whose document lacks the key, and the same as BSON.

        Raises `Misfit` where the field has none, or one that its type does not hold.
        """
        value = self.spec.default if self.spec.factory is None else self.spec.factory()
        if value is MISSING:
            raise Missing(self.type.name)
        if self.spec.converter is not None:
            value = self.spec.converter(value)
        try:
            return value, self.type.to_bson(value)
        except Misfit:
            raise Missing(self.type.name) from None

    @property
    def checked(self) -> bool:
        """Whether the field has a converter or a validator."""
        return self.spec.converter is not None or self.spec.validator is not None

    def store(self, instance: object, value: Any) -> Any:
        """The BSON value of a field of an object, once its converter and validator have seen it.

        A plain value that is normalised is written back to the object.
        Raises `Misfit`.
        """
        before = value
        if self.checked:
            value = self._check(instance, value)
        stored = self.type.to_bson(value)
        if self.type.plain:
            value = stored
        if value is not before:
            setattr(instance, self.attribute, value)
        return stored

    def _attribute(self, instance: object) -> Any:
        """The field as attrs knows it."""
        return attrs.fields_dict(cast("type[attrs.AttrsInstance]", type(instance)))[self.attribute]

    def _check(self, instance: object, value: Any) -> Any:
        try:
            if self.spec.converter is not None:
                value = self.spec.converter(value)
            if self.spec.validator is not None:
                self.spec.validator(instance, self._attribute(instance), value)
        except (ValueError, TypeError, AssertionError) as error:
            raise Rejected(value, error) from error
        return value


def _not_generated(*_: Any) -> Any:
    raise NotImplementedError


@define(eq=False, slots=False)
class ClassMap:
    """One mapped class: a Document where `collection` is a name, an Embedded where it is None."""

    cls: type
    collection: str | None
    fields: tuple[MappedField, ...]
    extra_forbidden: bool = False
    by_attribute: dict[str, MappedField] = field(init=False)
    load: Callable[[dict[str, Any]], Any] = field(default=_not_generated, init=False)
    """Of an Embedded: an object from a stored document."""
    dump: Callable[[Any], dict[str, Any]] = field(default=_not_generated, init=False)
    """Of an Embedded: the document to store for an object."""
    unchanged: Callable[[Any, dict[str, Any]], bool] = field(default=_not_generated, init=False)
    """Of an Embedded: whether an object is what a stored document reads as."""
    functions: dict[str, Any] = field(factory=dict[str, Any], init=False)
    """Further functions generated for the class, by name."""

    def __attrs_post_init__(self) -> None:
        self.by_attribute = {part.attribute: part for part in self.fields}
        stored: dict[str, MappedField] = {}
        for part in self.fields:
            other = stored.setdefault(part.stored, part)
            if other is not part:
                raise MappingError(f"{part.where} and {other.where} are both stored under {part.stored!r}")

    @property
    def name(self) -> str:
        return self.cls.__name__

    @cached_property
    def lazy_fields(self) -> tuple[MappedField, ...]:
        """The fields that objects convert at first access only."""
        return tuple(part for part in self.fields if part.lazy)

    @cached_property
    def stored_names(self) -> frozenset[str]:
        """The keys that the class maps."""
        return frozenset(part.stored for part in self.fields)

    def refuse_extra(self, document: Mapping[str, Any]) -> None:
        """Raise `Misfit` for a key that the class does not map."""
        for key, value in document.items():
            if key not in self.stored_names:
                raise Misfit(value, f"no key that {self.name} does not declare").within(key)

    @cached_property
    def key(self) -> MappedField:
        """The primary key's field."""
        return next(part for part in self.fields if part.stored == "_id")

    @cached_property
    def vectors(self) -> tuple[tuple[MappedField, VectorFieldSpec, VectorSpec], ...]:
        """The vector fields with what they declare."""
        assert self.collection is not None
        return tuple(
            (part, part.spec, VectorSpec(self.collection, part.stored, part.spec.dim, part.spec.metric))
            for part in self.fields
            if isinstance(part.spec, VectorFieldSpec)
        )


def class_map(cls: type) -> ClassMap:
    """What superorm knows of a mapped class. Raises `MappingError` for any other class."""
    found = cls.__dict__.get("__superorm__")
    if not isinstance(found, ClassMap):
        raise MappingError(f"{cls.__name__} is not mapped: derive it from Document or Embedded", document_class=cls)
    return found
