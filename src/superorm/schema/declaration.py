"""Class bodies as declarations of fields, checked, and made into attrs classes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from keyword import iskeyword
from typing import Any, ClassVar, TypeAlias, get_origin

import attrs

from superorm.exc import MappingError
from superorm.schema.fields import MISSING, ArtifactFieldSpec, FieldSpec, Mapped, VectorFieldSpec
from superorm.schema.mapping import MappedField, class_map
from superorm.schema.relationships import RelationshipSpec
from superorm.schema.scope import Scope
from superorm.schema.settings import is_method
from superorm.schema.types.base import Misfit
from superorm.schema.types.scalars import IntType

__all__ = [
    "Declared",
    "check_mixin",
    "check_sources",
    "check_types",
    "inherited",
    "make_attrs",
    "only_one",
    "own_fields",
    "setting",
]

Declared: TypeAlias = dict[str, tuple[FieldSpec, Any, Scope]]
"""Fields by attribute: the declaration, the annotation, and where its names are looked up."""

_MAPPED = re.compile(r"^(\w+\.)*Mapped\[")
_CLASS_VAR = re.compile(r"^(\w+\.)*ClassVar\b")
_OTHERS: Any = (dataclasses.Field, type(attrs.field()))
"""The types of what attrs and dataclasses have for `FieldSpec`."""
_RESERVED = frozenset({"NOTHING", "attr_dict", "mro", "self"})
"""The generated ``__init__`` needs these names, or classes do."""


def own_fields(name: str, namespace: dict[str, Any]) -> dict[str, tuple[FieldSpec, Any]]:
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
        if attribute == "_id":
            raise MappingError(
                f"{name}._id: the key of a Document is declared as id: {_shown(annotation)} = field(primary_key=True), "
                "and stored as _id"
            )
        if attribute.startswith("_") or attribute in _RESERVED or iskeyword(attribute) or not attribute.isidentifier():
            raise MappingError(
                f"{name}.{attribute}: this name is reserved; choose another one and set name={attribute!r}"
            )
        if isinstance(namespace.get(attribute), RelationshipSpec):
            continue
        value = namespace.pop(attribute, MISSING)
        if value is MISSING:
            value = FieldSpec()
        elif isinstance(value, _OTHERS):
            raise MappingError(f"{name}.{attribute}: write superorm.field(...), not that of another package")
        elif is_method(value):
            raise MappingError(
                f"{name}.{attribute} is a field and a {type(value).__name__}; give one of them another name, "
                "or write field(default=...) if that is the default"
            )
        elif not isinstance(value, FieldSpec):
            raise MappingError(f"{name}.{attribute}: write field(default={value!r}), not a bare value")
        value.check(f"{name}.{attribute}")
        declared[attribute] = (value, annotation)
    for attribute, value in namespace.items():
        if isinstance(value, (FieldSpec, Mapped, *_OTHERS)) or value is Mapped or get_origin(value) is Mapped:
            raise MappingError(f"{name}.{attribute} has no annotation; write {attribute}: Mapped[...] = ...")
    return declared


def _shown(annotation: Any) -> str:
    """An annotation as it was written, as far as it is known."""
    return annotation if isinstance(annotation, str) else repr(annotation).replace("superorm.schema.fields.", "")


def inherited(name: str, bases: Sequence[type], namespace: Mapping[str, Any]) -> Declared:
    """The fields of the bases of a new class, each as the method resolution order finds it.

    Raises `MappingError` where the class has something else of that name.
    """
    declared: Declared = {}
    for base in reversed(bases):
        for attribute, entry in _declared_by(base).items():
            known = declared.get(attribute)
            if known is None or not issubclass(_origin(bases, attribute, known), _origin([base], attribute, entry)):
                declared[attribute] = entry
    for attribute in declared.keys() & namespace.keys():
        raise MappingError(
            f"{name}.{attribute}: a class above has a field of this name; "
            f"write {attribute}: Mapped[...] = field(...), or choose another name"
        )
    return declared


def check_mixin(name: str, base: type) -> None:
    """Raise `MappingError` for fields that a base class without fields declares."""
    for attribute, annotation in vars(base).get("__annotations__", {}).items():
        if _MAPPED.match(str(annotation)):
            raise MappingError(
                f"{name}: {base.__name__}.{attribute} is no field, as {base.__name__} is not derived from Document "
                "or Embedded; derive it from one of them, with __abstract__ = True"
            )


def _origin(bases: Iterable[type], attribute: str, entry: tuple[FieldSpec, Any, Scope]) -> type:
    """The class that declares the field."""
    above = [cls for base in bases for cls in base.__mro__]
    return next(cls for cls in reversed(above) if _declared_by(cls).get(attribute, (None,))[0] is entry[0])


def _declared_by(base: type) -> Declared:
    """The fields of a base class, mapped or abstract."""
    if "__superorm__" in base.__dict__:
        return {part.attribute: (part.spec, part.annotation, part.scope) for part in class_map(base).fields}
    declared: Declared = base.__dict__.get("__superorm_declared__", {})
    return declared


def setting(cls: type, name: str, default: str, other: str) -> object:
    """The value of a class's setting that has two. Raises `MappingError` for any other."""
    value: object = getattr(cls, name, default)
    if value not in (default, other):
        raise MappingError(f'{cls.__name__}.{name} must be "{default}" or "{other}", not {value!r}')
    return value


def make_attrs(cls: type, parts: list[MappedField]) -> None:
    """Make it an attrs class: a keyword-only ``__init__``, plain attribute writes."""
    these = {part.attribute: _attribute(part.spec) for part in parts}
    hook = attrs.setters.NO_OP
    attrs.define(cls, these=these, auto_attribs=False, slots=False, kw_only=True, repr=False, eq=False, on_setattr=hook)


def _attribute(spec: FieldSpec) -> Any:
    arguments: dict[str, Any] = {"validator": spec.validator, "converter": spec.converter}
    if spec.version:
        return attrs.field(init=False, default=0)
    if spec.factory is not None:
        return attrs.field(factory=spec.factory, **arguments)
    if spec.default is not MISSING:
        arguments["default"] = spec.default
    return attrs.field(**arguments)


def check_types(parts: list[MappedField]) -> None:
    """Raise `MappingError` for annotations and defaults that cannot be; names not there yet are left for later."""
    for part in parts:
        kind = part.resolved()
        if kind is None:
            continue
        if part.spec.primary_key and kind.is_list:
            raise MappingError(
                f"{part.where}: a primary key cannot be a {kind.name}, which MongoDB takes for many keys"
            )
        if part.spec.primary_key and part.spec.default is None:
            raise MappingError(
                f"{part.where}: None cannot be the default of a primary key, as one document alone can have the key "
                "null; leave the default out, or give default_factory= what makes keys"
            )
        if part.spec.version and not isinstance(kind, IntType):
            raise MappingError(f"{part.where}: a version is declared as Mapped[int], not {kind.name}")
        if isinstance(part.spec, VectorFieldSpec) or part.spec.converter is not None or part.spec.default is MISSING:
            continue
        try:
            kind.to_bson(part.spec.default)
        except Misfit as misfit:
            raise MappingError(f"{part.where}: the default does not fit: {misfit.describe()}") from None


def only_one(name: str, declared: Declared, setting: str, what: str) -> list[str]:
    """The attributes declared with a setting that at most one can have. Raises `MappingError`."""
    found = [attribute for attribute, (spec, _, _) in declared.items() if getattr(spec, setting)]
    if len(found) > 1:
        raise MappingError(f"{name} declares more than one {what}: {', '.join(found)}")
    return found


def check_sources(parts: list[MappedField]) -> None:
    """A computed vector's source must be another field of the class."""
    known = {part.attribute: part for part in parts}
    for part in parts:
        if isinstance(part.spec, VectorFieldSpec) and part.spec.source is not None:
            source = known.get(part.spec.source)
            if source is None or source is part:
                others = ", ".join(attribute for attribute in known if attribute != part.attribute)
                raise MappingError(f"{part.where}: source={part.spec.source!r} is no other field; there are {others}")
            if isinstance(source.spec, ArtifactFieldSpec):
                raise MappingError(
                    f"{part.where}: source={part.spec.source!r} is an artifact, which no model is given; "
                    "store the vector yourself, with vector(...) alone"
                )
