"""The base classes that users derive from, and the metaclass that maps them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast, get_origin

import attrs
from bson import ObjectId
from typing_extensions import dataclass_transform

from superorm.exc import MappingError, StatementError, UnsupportedError
from superorm.expr.literals import register_literal
from superorm.expr.nodes import Field
from superorm.schema import embedded
from superorm.schema.fields import MISSING, FieldSpec, Mapped, VectorFieldSpec, field
from superorm.schema.mapping import ClassMap, MappedField, Scope, class_map
from superorm.schema.registry import Registry, default_registry
from superorm.schema.state import LazyPart
from superorm.schema.types.base import Misfit

__all__ = ["Document", "Embedded"]

Declared: TypeAlias = dict[str, tuple[FieldSpec, Any, Scope]]
"""Fields by attribute: the declaration, the annotation, and where its names are looked up."""

_MAPPED = re.compile(r"^(\w+\.)*Mapped\[")
_CLASS_VAR = re.compile(r"^(\w+\.)*ClassVar\b")
_RESERVED = frozenset({"mro", "self"})


class MappedMeta(type):
    """What Document's and Embedded's metaclasses share: collecting the declarations."""

    if TYPE_CHECKING:
        __superorm__: ClassMap

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, registry: Registry | None = None
    ) -> Any:
        if not any(isinstance(base, MappedMeta) for base in bases):  # Document and Embedded themselves
            return super().__new__(mcs, name, bases, namespace)
        own = _own_fields(name, namespace)
        around = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage]
        scope = Scope.of(namespace, around)
        declared: Declared = {}
        for base in reversed(bases):
            _check_base(name, base)
            declared |= base.__dict__.get("__superorm_declared__", {})
        declared |= {attribute: (spec, annotation, scope) for attribute, (spec, annotation) in own.items()}
        if registry is not None:
            namespace["__superorm_registry__"] = registry
        if namespace.pop("__abstract__", False):
            return super().__new__(mcs, name, bases, {**namespace, "__superorm_declared__": declared})
        parts = mcs._parts(name, declared, namespace)
        sides = {part.attribute: _class_side(part) for part in parts}
        cls: type = type.__new__(cast("type[type]", type(f"{name}Meta", (mcs,), sides)), name, bases, namespace)
        scope.declare(cls)
        mapping = ClassMap(cls, namespace.get("__collection__"), tuple(parts), _extra_forbidden(cls))
        _make_attrs(cls, parts)
        type.__setattr__(cls, "__superorm__", mapping)
        _check_types(parts)
        mcs._finish(mapping)
        return cls

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, registry: Registry | None = None
    ) -> None:
        super().__init__(name, bases, namespace)

    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> Any:
            """The fields of abstract classes, for statements on the classes that derive from them."""
            declared: Declared = cls.__dict__.get("__superorm_declared__", {})
            if name not in declared:
                raise AttributeError(f"{cls.__name__} has no attribute {name!r}")
            part = _mapped_field(cls.__name__, name, *declared[name])
            return Field(cls, part.stored, (part,))

    @classmethod
    def _parts(mcs, name: str, declared: Declared, namespace: dict[str, Any]) -> list[MappedField]:
        """The class's fields; what follows from them goes into its namespace."""
        return [_mapped_field(name, attribute, *rest) for attribute, rest in declared.items()]

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        """What is left to do with a new class."""


def _own_fields(name: str, namespace: dict[str, Any]) -> dict[str, tuple[FieldSpec, Any]]:
    """The mapped attributes of a class body; their right-hand sides are taken out of it."""
    declared: dict[str, tuple[FieldSpec, Any]] = {}
    for attribute, annotation in namespace.get("__annotations__", {}).items():
        text = isinstance(annotation, str)
        if not (_MAPPED.match(annotation) if text else get_origin(annotation) is Mapped):
            class_var = _CLASS_VAR.match(annotation) if text else get_origin(annotation) is ClassVar
            if not class_var and not attribute.startswith("__"):
                raise MappingError(
                    f"{name}.{attribute}: write its type as Mapped[...], or as ClassVar[...] if it is no field"
                )
            continue
        if attribute.startswith("_") or attribute in _RESERVED:
            raise MappingError(
                f"{name}.{attribute}: this name is reserved; choose another one and set name={attribute!r}"
            )
        value = namespace.pop(attribute, MISSING)
        if value is MISSING:
            value = FieldSpec()
        elif not isinstance(value, FieldSpec):
            raise MappingError(f"{name}.{attribute}: write field(default={value!r}), not a bare value")
        value.check(f"{name}.{attribute}")
        declared[attribute] = (value, annotation)
    for attribute, value in namespace.items():
        if isinstance(value, FieldSpec):
            raise MappingError(f"{name}.{attribute} has no annotation; write {attribute}: Mapped[...] = ...")
    return declared


def _check_base(name: str, base: type) -> None:
    if "__superorm__" in base.__dict__:
        raise UnsupportedError(
            f"{name} derives from {base.__name__}, which is mapped; only classes with __abstract__ = True "
            "can be derived from for now"
        )


def _mapped_field(owner: str, attribute: str, spec: FieldSpec, annotation: Any, scope: Scope) -> MappedField:
    return MappedField(owner, attribute, "_id" if spec.primary_key else spec.name or attribute, spec, annotation, scope)


def _class_side(part: MappedField) -> property:
    cache: list[Field[Any, Any]] = []

    def get(cls: type) -> Field[Any, Any]:
        if not cache:
            cache.append(Field(cls, part.stored, (part,)))
        return cache[0]

    return property(get)


def _extra_forbidden(cls: type) -> bool:
    extra = getattr(cls, "__extra__", "keep")
    if extra not in ("keep", "forbid"):
        raise MappingError(f'{cls.__name__}.__extra__ must be "keep" or "forbid", not {extra!r}')
    return bool(extra == "forbid")


def _make_attrs(cls: type, parts: list[MappedField]) -> None:
    """Make it an attrs class: a keyword-only ``__init__`` and a repr, plain attribute writes."""
    these = {part.attribute: _attribute(part.spec) for part in parts}
    setattr_hook = attrs.setters.NO_OP
    attrs.define(cls, these=these, auto_attribs=False, slots=False, kw_only=True, eq=False, on_setattr=setattr_hook)


def _attribute(spec: FieldSpec) -> Any:
    arguments: dict[str, Any] = {"validator": spec.validator, "converter": spec.converter, "repr": spec.repr}
    if spec.factory is not None:
        return attrs.field(factory=spec.factory, **arguments)
    if spec.default is not MISSING:
        arguments["default"] = spec.default
    return attrs.field(**arguments)


def _check_types(parts: list[MappedField]) -> None:
    """Raise `MappingError` for annotations and defaults that cannot be; names not there yet are left for later."""
    for part in parts:
        kind = part.resolved()
        if kind is None:
            continue
        if part.spec.primary_key and kind.is_list:
            raise MappingError(
                f"{part.where}: a primary key cannot be a {kind.name}, which MongoDB takes for many keys"
            )
        if isinstance(part.spec, VectorFieldSpec) or part.spec.converter is not None or part.spec.default is MISSING:
            continue
        try:
            kind.to_bson(part.spec.default)
        except Misfit as misfit:
            raise MappingError(f"{part.where}: the default does not fit: {misfit.describe()}") from None


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class DocumentMeta(MappedMeta):
    """The metaclass of documents."""

    @classmethod
    def _parts(mcs, name: str, declared: Declared, namespace: dict[str, Any]) -> list[MappedField]:
        collection = namespace.setdefault("__collection__", _snake_case(name))
        if not isinstance(collection, str) or not collection or "$" in collection or "\0" in collection:
            raise MappingError(f"{name}.__collection__: {collection!r} is no name of a collection")
        keys = [attribute for attribute, (spec, _, _) in declared.items() if spec.primary_key]
        if len(keys) > 1:
            raise MappingError(f"{name} declares more than one primary key: {', '.join(keys)}")
        if not keys:
            if "id" in declared:
                raise MappingError(f"{name}.id: a field called id must be the primary key; add primary_key=True")
            scope = Scope(__name__, name, {})
            declared = {"id": (FieldSpec(factory=ObjectId, primary_key=True), Mapped[ObjectId], scope), **declared}
        parts = super()._parts(name, declared, namespace)
        _check_sources(parts)
        for number, part in enumerate(parts):
            kind = part.resolved()
            part.lazy = kind is None or not kind.plain
            if part.lazy:
                part.bit = 1 << number
                namespace[part.attribute] = LazyPart(part)
        return parts

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        registry: Registry = getattr(mapping.cls, "__superorm_registry__", default_registry)
        registry.add(mapping)


def _check_sources(parts: list[MappedField]) -> None:
    """A computed vector's source must be another field of the class."""
    known = {part.attribute: part for part in parts}
    for part in parts:
        if isinstance(part.spec, VectorFieldSpec) and part.spec.source is not None:
            source = known.get(part.spec.source)
            if source is None or source is part:
                others = ", ".join(attribute for attribute in known if attribute != part.attribute)
                raise MappingError(f"{part.where}: source={part.spec.source!r} is no other field; there are {others}")


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class EmbeddedMeta(MappedMeta):
    """The metaclass of embedded documents."""

    @classmethod
    def _parts(mcs, name: str, declared: Declared, namespace: dict[str, Any]) -> list[MappedField]:
        parts = super()._parts(name, declared, namespace)
        if "__collection__" in namespace:
            raise MappingError(f"{name}.__collection__: an Embedded has no collection; derive it from Document")
        for part in parts:
            if part.spec.primary_key:
                raise MappingError(f"{part.where}: an Embedded has no primary key")
            if part.spec.index or part.spec.unique:
                raise UnsupportedError(f"{part.where}: indexes in embedded documents are not supported yet")
            if isinstance(part.spec, VectorFieldSpec):
                raise UnsupportedError(f"{part.where}: vectors in embedded documents are not supported yet")
        return parts

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        embedded.install(mapping)


class Document(metaclass=DocumentMeta):
    """A class of documents with a collection of its own.

    Declare fields as ``name: Mapped[type] = field(...)``.
    Without a primary key an ObjectId key ``id`` is added.
    Objects compare and hash by identity.
    """

    __collection__: ClassVar[str]
    _superorm_gone: ClassVar[dict[str, Any] | None] = None

    if TYPE_CHECKING:
        id: Mapped[Any] = field(factory=ObjectId, primary_key=True)


class Embedded(metaclass=EmbeddedMeta):
    """A class of documents inside documents. Objects compare by value."""

    _superorm_source: ClassVar[dict[str, Any] | None] = None

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        names = class_map(type(self)).by_attribute
        return all(embedded.equal(mine.get(name, MISSING), theirs.get(name, MISSING)) for name in names)


def _embedded_literal(value: Embedded) -> Any:
    try:
        return class_map(type(value)).dump(value)
    except Misfit as misfit:
        where = ".".join([type(value).__name__, *misfit.path])
        raise StatementError(f"{where} cannot stand in a statement: {misfit.describe()}") from None


register_literal(Embedded, _embedded_literal)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
