"""The vector fields of documents: their own, and those of the documents embedded in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen
from bson import Int64, ObjectId

from superorm.exc import MappingError, StatementError, UnsupportedError
from superorm.expr.narrow import is_dict
from superorm.schema.fields import VectorFieldSpec
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.typed_dict import TypedDictType
from superorm.schema.vector_spec import FilterField, FilterKind, VectorSpec, meet

if TYPE_CHECKING:
    from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["VectorField", "check_vectors", "classes_declared", "declared", "vector_fields", "vectors_of"]

_KINDS: dict[frozenset[type], FilterKind] = {
    frozenset({bool}): "bool",
    frozenset({int, Int64}): "int",
    frozenset({int}): "int",
    frozenset({float}): "float",
    frozenset({float, int, Int64}): "float",
    frozenset({str}): "str",
    frozenset({dt.datetime}): "datetime",
    frozenset({ObjectId}): "ObjectId",
}
_TypeOf: TypeAlias = "Callable[[MappedField], BsonType | None]"


@frozen(eq=False)
class VectorField:
    """A vector field of the documents of a collection."""

    mapping: ClassMap
    """The class of the documents."""
    holder: ClassMap
    """The class that has the field: the same, or one that is embedded."""
    parents: tuple[MappedField, ...]
    """The fields on the way from the document to the embedded one that has the field."""
    part: MappedField
    declared: VectorFieldSpec
    spec: VectorSpec

    @property
    def attribute(self) -> str:
        """``cover.embedding``, by the attributes' names."""
        return ".".join(part.attribute for part in (*self.parents, self.part))

    @property
    def where(self) -> str:
        """``Movie.cover.embedding``, for messages."""
        return f"{self.mapping.name}.{self.attribute}"

    @property
    def source(self) -> MappedField | None:
        """The field that it is computed from, of the same class."""
        return None if self.declared.source is None else self.holder.by_attribute[self.declared.source]

    def follows(self, paths: Iterable[str]) -> bool:
        """Whether it is computed from what an assignment to these stored paths changes."""
        return self.source is not None and any(meet(path, self.stored_path(self.source)) for path in paths)

    def stored_path(self, part: MappedField) -> str:
        """The stored path of a field beside it."""
        return ".".join(one.stored for one in (*self.parents, part))

    def below(self, instance: object) -> Any:
        """What has the field within an object: the object itself, or one embedded in it; None where there is none.

        Raises `NotLoadedError`.
        """
        for part in self.parents:
            instance = getattr(instance, part.attribute, None)
        return instance

    def stored_below(self, document: Mapping[str, Any]) -> tuple[ClassMap, Mapping[str, Any]] | None:
        """The same of a stored document, with its class; None where it is not there, or of a class without the field.

        Raises `Misfit` where the class is not known.
        """
        if not self.parents:
            return self.mapping, document
        value: Any = document
        for part in self.parents:
            value = value.get(part.stored)
            if not is_dict(value):
                return None
        held = _embedded_type(self.parents[-1]).class_of(value)
        return (held, value) if self.part.attribute in held.by_attribute else None

    def needed_of(self, part: MappedField) -> list[str]:
        """The stored paths that `stored_below` needs to find a field beside it."""
        path = self.stored_path(part)
        if not self.parents:
            return [path]
        return [path, f"{path.rpartition('.')[0]}.{_embedded_type(self.parents[-1]).discriminator}"]

    def misfit(self, misfit: Misfit, part: MappedField) -> Misfit:
        """That of a field beside it, seen from the document's field that holds both."""
        for one in reversed((*self.parents, part)[1:]):
            misfit = misfit.within(one.attribute)
        return misfit


class _Known:
    """How many classes were declared, and whether an Embedded among them has a vector field."""

    classes = 0
    embedded = False


def declared(mapping: ClassMap) -> None:
    """A class was declared: what was found of others may be out of date."""
    _Known.classes += 1
    if mapping.collection is None and any(isinstance(part.spec, VectorFieldSpec) for part in mapping.fields):
        _Known.embedded = True


def classes_declared() -> int:
    """How many classes were declared: what was found of others is up to date while that is the same."""
    return _Known.classes


def vectors_of(mapping: ClassMap) -> tuple[VectorField, ...]:
    """The vector fields of a class of documents, those of embedded documents too.

    Raises `UnsupportedError` for vectors in lists and dicts, and `MappingError` for settings that do not fit.
    """
    return _remembered(mapping, "vectors", lambda: _found(mapping, lambda part: part.type))


def vector_fields(mapping: ClassMap) -> tuple[VectorField, ...]:
    """The vector fields of all classes in the class's collection, each once: of the class that has it first.

    Raises `MappingError` where two classes hold vectors of different kinds under one path.
    """
    return _remembered(mapping, "collection's vectors", lambda: _of_collection(mapping))


def check_vectors(mapping: ClassMap) -> None:
    """Raise what `vectors_of` raises, as far as the types of fields are known where the class is declared."""
    _found(mapping, lambda part: part.peek())


def _embedded_type(part: MappedField) -> EmbeddedType | OneOfType:
    """What an embedded document in a field is one of."""
    kind = part.type
    members = kind.members if isinstance(kind, UnionType) else (kind,)
    return next(member for member in members if isinstance(member, (EmbeddedType, OneOfType)))


def _remembered(mapping: ClassMap, name: str, find: Callable[[], tuple[VectorField, ...]]) -> tuple[VectorField, ...]:
    known: tuple[int, tuple[VectorField, ...]] | None = mapping.functions.get(name)
    if known is None or known[0] != _Known.classes:
        known = mapping.functions[name] = _Known.classes, find()
    return known[1]


def _of_collection(mapping: ClassMap) -> tuple[VectorField, ...]:
    found: dict[str, VectorField] = {}
    for one in mapping.sharing:
        for field in one.vectors:
            other = found.setdefault(field.spec.path, field)
            if other.spec != field.spec:
                raise MappingError(
                    f"{one.name}.{field.attribute} and {other.mapping.name}.{other.attribute} are vectors of different "
                    f"dimension or metric, both stored in {mapping.collection} under {field.spec.path!r}; "
                    "set name= of one of them to another key"
                )
    return tuple(found.values())


def _found(mapping: ClassMap, type_of: _TypeOf) -> tuple[VectorField, ...]:
    found: dict[str, VectorField] = {}
    for field in _walk(mapping, mapping, (), type_of):
        other = found.setdefault(field.spec.path, field)
        if other.declared != field.declared:
            raise MappingError(
                f"{mapping.name}.{field.attribute}: {field.part.where} and {other.part.where} differ, "
                "and are stored under the same path; declare them alike, or set name= to another key"
            )
    return tuple(found.values())


def _walk(
    root: ClassMap, holder: ClassMap, parents: tuple[MappedField, ...], type_of: _TypeOf
) -> Iterator[VectorField]:
    for part in holder.fields:
        if isinstance(part.spec, VectorFieldSpec):
            assert root.collection is not None
            path = ".".join(one.stored for one in (*parents, part))
            above = ".".join(one.stored for one in parents)
            filters = tuple(_filter_fields(holder, part, part.spec, above, type_of))
            kind = part.spec
            spec = VectorSpec(
                root.collection, path, kind.dim, kind.metric, kind.index_spec, filters, root.discriminator
            )
            yield VectorField(root, holder, parents, part, part.spec, spec)
        elif _Known.embedded:
            yield from _walk_below(root, part, (*parents, part), type_of)


def _walk_below(
    root: ClassMap, part: MappedField, parents: tuple[MappedField, ...], type_of: _TypeOf
) -> Iterator[VectorField]:
    kind = type_of(part)
    if kind is None or kind.plain:
        return
    for inner, inside in _classes_in(kind, None, ()):
        if inside is None and inner not in _embedded_on(parents, type_of) and not part.spec.primary_key:
            yield from _walk(root, inner, parents, type_of)
            continue
        vector = _first_vector(inner, type_of, set())
        if vector is not None:
            path = ".".join(one.attribute for one in parents)
            what = "a key" if part.spec.primary_key else inside or "a document that embeds itself"
            raise UnsupportedError(f"{root.name}.{path}: {vector.where} is a vector in {what}; that cannot be searched")


def _embedded_on(parents: tuple[MappedField, ...], type_of: _TypeOf) -> set[ClassMap]:
    """The classes on the way, but for the last field's."""
    kinds = [kind for part in parents[:-1] if (kind := type_of(part)) is not None]
    return {inner for kind in kinds for inner, _ in _classes_in(kind, None, ())}


def _classes_in(
    kind: BsonType, inside: str | None, seen: tuple[BsonType, ...]
) -> Iterator[tuple[ClassMap, str | None]]:
    """The embedded classes in a field, each with what container they are in, if any."""
    match kind:
        case EmbeddedType() | OneOfType():
            yield from ((mapping, inside) for mapping in kind.classes)
        case UnionType():
            for member in kind.members:
                yield from _classes_in(member, inside, seen)
        case ListType():
            yield from _classes_in(kind.element, "a list", seen)
        case TupleType():
            for member in kind.elements:
                yield from _classes_in(member, "a list", seen)
        case DictType():
            yield from _classes_in(kind.value, "a dict", seen)
        case TypedDictType() if kind not in seen:
            for key in kind.keys.values():
                yield from _classes_in(key.type, "a dict", (*seen, kind))
        case _:
            pass


def _first_vector(mapping: ClassMap, type_of: _TypeOf, seen: set[ClassMap]) -> MappedField | None:
    """A vector field of an embedded class, or of those that are embedded in it in turn."""
    seen.add(mapping)
    for part in mapping.fields:
        if isinstance(part.spec, VectorFieldSpec):
            return part
        kind = type_of(part)
        for inner, _ in _classes_in(kind, None, ()) if kind is not None else ():
            if inner not in seen and (found := _first_vector(inner, type_of, seen)) is not None:
                return found
    return None


def _filter_fields(
    holder: ClassMap, part: MappedField, spec: VectorFieldSpec, above: str, type_of: _TypeOf
) -> Iterator[FilterField]:
    """The fields to filter by, as far as their types are known. Raises `MappingError`."""
    for name in dict.fromkeys(spec.filter_fields):
        where = f"{part.where}: filter_fields={name!r}"
        path = [above] if above else []
        first, *names = name.split(".")
        field = holder.by_attribute.get(first)
        if field is None:
            raise MappingError(
                f"{where}: {holder.name} has no field {first!r}; it has {', '.join(holder.by_attribute)}"
            )
        kind = type_of(field)
        path.append(field.stored)
        for below in names:
            if kind is None:
                break
            if kind.is_list:
                raise MappingError(f"{where}: {field.where} is a list; name a field that holds one value")
            try:
                field = kind.member(below)
            except (AttributeError, StatementError) as error:
                raise MappingError(f"{where}: {error}") from None
            kind = type_of(field)
            path.append(field.stored)
        if kind is None:
            continue
        found = _KINDS.get(kind.reads - {type(None)})
        if found is None:
            raise MappingError(
                f"{where}: {field.where} holds {kind.name}; what can be mirrored is one "
                f"{', '.join(dict.fromkeys(_KINDS.values()))}, None or not"
            )
        yield FilterField(".".join(path), found)
