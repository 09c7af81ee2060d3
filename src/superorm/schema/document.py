"""The base classes that users derive from, and the metaclass that maps them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bson import ObjectId
from typing_extensions import dataclass_transform

from superorm.exc import MappingError, StatementError
from superorm.expr.literals import register_literal
from superorm.expr.nodes import Field
from superorm.expr.relations import Related
from superorm.expr.storable import on_classes
from superorm.expr.typed import on_types
from superorm.schema import embedded
from superorm.schema.declaration import (
    Declared,
    check_mixin,
    check_sources,
    check_types,
    inherited,
    make_attrs,
    only_one,
    own_fields,
    setting,
)
from superorm.schema.declared_indexes import check_indexes
from superorm.schema.expression_values import ExpressionTypes
from superorm.schema.fields import MISSING, ArtifactFieldSpec, FieldSpec, Mapped, artifact, field
from superorm.schema.indexes import Index
from superorm.schema.inheritance import check_overrides, join, parent_of
from superorm.schema.lookup import class_finder, python_value
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.registry import Registry, default_registry
from superorm.schema.relationships import (
    AbstractRelationship,
    DeclaredRelationships,
    Relationship,
    accept_relationships,
    class_side,
    inherited_relationships,
    object_side,
    own_relationships,
)
from superorm.schema.reprs import repr_of
from superorm.schema.scope import Scope
from superorm.schema.settings import around, check_body, check_undecorated, is_unpickling
from superorm.schema.state import LazyPart
from superorm.schema.types.base import Misfit
from superorm.schema.vector_fields import check_vectors

__all__ = ["Document", "Embedded"]

_PART = r"[^.$\0\ud800-\udfff]+"
"""Of a collection's name: what may stand between dots."""
_OF_THE_SERVER = re.compile(r"system\.(?!(js|profile|users|views)$|buckets\.)|.*\.system\.")
"""Names of collections that the server refuses because it keeps them for itself."""
_MAX_COLLECTION_BYTES = 253
"""As many bytes as are left of the server's 255 by a database's name of one byte, and a dot."""


class MappedMeta(type):
    """What Document's and Embedded's metaclasses share: collecting the declarations."""

    if TYPE_CHECKING:
        __superorm__: ClassMap

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        registry: Registry | None = None,
        **keywords: Any,
    ) -> Any:
        if not any(isinstance(base, MappedMeta) for base in bases):  # Document and Embedded themselves
            return super().__new__(mcs, name, bases, namespace, **keywords)
        frame = around(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if is_unpickling(frame):
            return super().__new__(mcs, name, bases, namespace, **keywords)
        check_undecorated(name, namespace)  # a class made again, with slots
        here = {"__module__": frame.f_globals.get("__name__", "builtins"), "__qualname__": name}
        namespace = {**here, **namespace}  # of a class made by a call these may be missing
        own = own_fields(name, namespace)
        check_body(name, namespace, own)
        scope = Scope.of(namespace, frame)
        related = own_relationships(name, namespace, scope)
        for above in {above: None for base in bases for above in base.__mro__}:
            if not isinstance(above, MappedMeta):
                check_mixin(name, above)
        declared = inherited(name, bases, namespace)
        declared |= {attribute: (spec, annotation, scope) for attribute, (spec, annotation) in own.items()}
        related = inherited_relationships(name, bases, namespace, related, declared)
        if related:
            namespace["__superorm_relationships__"] = related
        if registry is not None:
            namespace["__superorm_registry__"] = _checked_registry(name, registry)
        if namespace.pop("__abstract__", False):
            namespace["__superorm_declared__"] = declared
            return super().__new__(mcs, name, bases, namespace, **keywords)
        parts = mcs._parts(name, declared, namespace, bases)
        owner: list[type] = []
        sides = {part.attribute: property(_ClassSide(part, owner).__getitem__) for part in parts}
        relations = mcs._relations(name, related)
        sides |= {attribute: class_side(relation) for attribute, relation in relations.items()}
        namespace |= {attribute: object_side(attribute) for attribute in relations}
        found = {"__module__": namespace["__module__"], "__qualname__": f"{namespace['__qualname__']}.__class__"}
        made: Any = type(f"{name}Meta", (mcs,), {**sides, **found})  # pickled by its name where the class is
        cls: type = type.__new__(made, name, bases, namespace, **keywords)
        owner[:] = [cls]
        scope.declare(cls)
        extra_forbidden = setting(cls, "__extra__", "keep", "forbid") == "forbid"
        mapping = ClassMap(cls, namespace.get("__collection__"), tuple(parts), extra_forbidden)
        keep = setting(cls, "__on_mismatch__", "error", "keep") == "keep"
        for part in parts:
            part.keep = keep and not part.spec.version
        make_attrs(cls, parts)
        if relations:
            mapping.relationships = relations
            for relation in relations.values():
                relation.mapping = mapping
                relation.check_own_key()
            if "__init__" not in namespace:
                accept_relationships(cls, relations)
        type.__setattr__(cls, "__superorm__", mapping)
        check_types(parts)
        mcs._finish(mapping)
        for part in parts:
            part.resolve_again()
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)

    if not TYPE_CHECKING:

        def __setattr__(cls, name: str, value: Any) -> None:
            if is_unpickling(sys._getframe(1)):
                _unpickle(cls, name, value)
                return
            if {"__superorm__", "__superorm_declared__"} & cls.__dict__.keys():
                check_undecorated(cls.__name__, (name,))
            super().__setattr__(name, value)

        def __getattr__(cls, name: str) -> Any:
            """The fields and relationships of abstract classes, for statements on the classes that derive from them."""
            declared: Declared = cls.__dict__.get("__superorm_declared__", {})
            related: DeclaredRelationships = cls.__dict__.get("__superorm_relationships__", {})
            if name in related:
                return Related(cls, AbstractRelationship(cls, name, *related[name]))
            if name not in declared:
                raise AttributeError(f"{cls.__name__} has no attribute {name!r}{_known(cls, name)}")
            part = _mapped_field(cls.__name__, name, *declared[name])
            return Field(cls, part.stored, (part,))

    @classmethod
    def _parts(
        mcs, name: str, declared: Declared, namespace: dict[str, Any], bases: tuple[type, ...]
    ) -> list[MappedField]:
        """The class's fields; what follows from them goes into its namespace."""
        return [_mapped_field(name, attribute, *rest) for attribute, rest in declared.items()]

    @classmethod
    def _relations(mcs, name: str, related: DeclaredRelationships) -> dict[str, Relationship]:
        """The class's relationships."""
        return {attribute: Relationship(name, attribute, *declared) for attribute, declared in related.items()}

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        """What is left to do with a new class."""


def _unpickle(cls: type, name: str, value: Any) -> None:
    """Set an attribute of a class that was pickled by value; one that is known here stays as it is."""
    if name in cls.__dict__ and name != "__doc__":
        return
    meta = type(cls)
    type.__setattr__(cls, "__class__", MappedMeta)  # the properties of its own metaclass cannot be set
    try:
        type.__setattr__(cls, name, value)
    finally:
        type.__setattr__(cls, "__class__", meta)
    if name == "__superorm__":
        embedded.join_families(value)  # of bases that are not pickled by value
        if value.registry is None:
            embedded.generate(value)
        else:
            value.registry.add(value)


def _mapped_field(owner: str, attribute: str, spec: FieldSpec, annotation: Any, scope: Scope) -> MappedField:
    return MappedField(owner, attribute, "_id" if spec.primary_key else spec.name or attribute, spec, annotation, scope)


class _ClassSide(dict[type, Field[Any, Any]]):
    """A field by the classes that have it: the one that `owner` will hold, and abstract ones that derive from it.

    A dict, as its ``__getitem__`` makes a property that runs no Python.
    """

    def __init__(self, part: MappedField | str, owner: list[type]) -> None:
        super().__init__()
        self._part = part
        self._owner = owner

    def __missing__(self, cls: type) -> Field[Any, Any]:
        if not self._owner:  # in the __init_subclass__ of a base
            self._owner.append(cls)
        owner = self._owner[0]
        if cls is owner:
            part = class_map(owner).by_attribute[self._part] if isinstance(self._part, str) else self._part
            self[owner] = Field(owner, part.stored, (part,))
        return self[owner]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by the attribute's name."""
        return _ClassSide, (self._part if isinstance(self._part, str) else self._part.attribute, self._owner)


def _known(cls: Any, name: str) -> str:
    """The fields and relationships of a class, for the message of a name that it does not have."""
    mapping: ClassMap | None = cls.__dict__.get("__superorm__")
    fields = cls.__dict__.get("__superorm_declared__", {}) if mapping is None else mapping.by_attribute
    related = cls.__dict__.get("__superorm_relationships__", {}) if mapping is None else mapping.relationships
    known = ", ".join((*fields, *related))
    return "" if name.startswith("_") or not known else f"; it has {known}"


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, artifact))
class DocumentMeta(MappedMeta):
    """The metaclass of documents."""

    @classmethod
    def _parts(
        mcs, name: str, declared: Declared, namespace: dict[str, Any], bases: tuple[type, ...]
    ) -> list[MappedField]:
        parent = parent_of(bases)
        if parent is not None and "__collection__" in namespace:
            raise MappingError(
                f"{name}.__collection__: {name} shares the collection of {parent.root.name}; "
                "for one of its own, derive both from a class with __abstract__ = True"
            )
        collection = namespace.setdefault("__collection__", parent.collection if parent else _snake_case(name))
        if (problem := _collection_problem(collection)) is not None:
            raise MappingError(f"{name}.__collection__: {collection!r:.80} is no name of a collection{problem}")
        keys = only_one(name, declared, "primary_key", "primary key")
        only_one(name, declared, "version", "version")
        if not keys:
            if "id" in declared:
                raise MappingError(f"{name}.id: a field called id must be the primary key; add primary_key=True")
            if "id" in namespace:
                raise MappingError(f"{name}.id: this name is the key's; choose another one, or declare a primary key")
            scope = Scope(__name__, name, {}, globals())
            declared = {"id": (FieldSpec(factory=ObjectId, primary_key=True), Mapped[ObjectId], scope), **declared}
        parts = super()._parts(name, declared, namespace, bases)
        check_sources(parts)
        if parent is not None:
            check_overrides(parts, parent)
        for number, part in enumerate(parts):
            kind = part.resolved()
            part.lazy = kind is None or not kind.plain
            if part.lazy:
                part.bit = 1 << number
                namespace[part.attribute] = LazyPart(part)
        return parts

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        mapping.parent = parent_of(mapping.cls.__mro__[1:])
        registry = _registry(mapping.cls)
        if registry is not _registry(mapping.root.cls):
            raise MappingError(f"{mapping.name} must be in the registry of {mapping.root.name}; leave out registry=")
        check_indexes(mapping)
        check_vectors(mapping)
        join(mapping)
        registry.add(mapping)


def _collection_problem(name: object) -> str | None:
    """What to say of a name that no database takes; None for others."""
    if not isinstance(name, str) or re.fullmatch(rf"{_PART}(\.{_PART})*", name) is None:
        return ""
    if _OF_THE_SERVER.match(name):
        return ": the server keeps such names for itself"
    if (size := len(name.encode())) > _MAX_COLLECTION_BYTES:
        return f": it has {size} bytes, and the server takes 255 together with the database's name and a dot"
    return None


def _checked_registry(name: str, registry: object) -> Registry:
    if not isinstance(registry, Registry):
        raise MappingError(f"{name}: registry={registry!r} is no Registry; write registry=Registry()")
    return registry


def _registry(cls: type) -> Registry:
    registry: Registry = getattr(cls, "__superorm_registry__", default_registry)
    return registry


@dataclass_transform(kw_only_default=True, field_specifiers=(field, artifact))
class EmbeddedMeta(MappedMeta):
    """The metaclass of embedded documents."""

    @classmethod
    def _parts(
        mcs, name: str, declared: Declared, namespace: dict[str, Any], bases: tuple[type, ...]
    ) -> list[MappedField]:
        parts = super()._parts(name, declared, namespace, bases)
        for attribute in ("__collection__", "__indexes__", "__validate__"):
            if attribute in namespace:
                raise MappingError(f"{name}.{attribute}: an Embedded has no collection; that is for a Document")
        for part in parts:
            if part.spec.primary_key or part.spec.version:
                what = "primary key" if part.spec.primary_key else "version"
                raise MappingError(f"{part.where}: an Embedded has no {what}")
            if isinstance(part.spec, ArtifactFieldSpec):
                raise MappingError(f"{part.where}: an Embedded has no artifacts; declare it in the Document")
        check_sources(parts)
        return parts

    @classmethod
    def _relations(mcs, name: str, related: DeclaredRelationships) -> dict[str, Relationship]:
        for attribute in related:
            raise MappingError(f"{name}.{attribute}: an Embedded has no relationships; that is for a Document")
        return {}

    @classmethod
    def _finish(mcs, mapping: ClassMap) -> None:
        embedded.install(mapping)


class Document(metaclass=DocumentMeta):
    """A class of documents with a collection of its own.

    Declare fields as ``name: Mapped[type] = field(...)``.
    Without a primary key an ObjectId key ``id`` is added.
    Objects compare and hash by identity.

    Settings of a class, all inherited but the first two:
    ``__collection__`` (by default the class's name in snake case),
    ``__abstract__ = True`` (a class without a collection, to derive from),
    ``__discriminator__`` (the key that tells apart the classes which derive from a mapped one, by default ``_type``),
    ``__extra__ = "forbid"`` (keys in the database that no field maps are an error; by default they are kept),
    ``__on_mismatch__ = "keep"`` (a stored value of the wrong type is read as it is; by default it is an error),
    ``__indexes__`` (a list of `Index`, to which derived classes add theirs),
    ``__validate__ = True`` or ``"warn"`` (`create_all` makes a ``$jsonSchema`` validator of the class).
    """

    __collection__: ClassVar[str]
    __indexes__: ClassVar[Sequence[Index]] = ()
    __validate__: ClassVar[bool | Literal["warn"]] = False
    _superorm_gone: ClassVar[dict[str, Any] | None] = None
    _superorm_touched: ClassVar[int] = 0

    __repr__ = repr_of

    if TYPE_CHECKING:
        id: Mapped[Any] = field(factory=ObjectId, primary_key=True)


class Embedded(metaclass=EmbeddedMeta):
    """A class of documents inside documents. Objects compare by value.

    As a Document, it can derive from one mapped class only; others to derive from have ``__abstract__ = True``.
    """

    _superorm_source: ClassVar[dict[str, Any] | None] = None

    __repr__ = repr_of

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
on_classes(class_finder, python_value)
on_types(ExpressionTypes())


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
