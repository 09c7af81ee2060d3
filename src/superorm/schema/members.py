# pyright: reportPrivateUsage=false
"""Fields of documents of several classes: which class a document is of tells what stands for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

from attrs import frozen

from superorm.exc import StatementError
from superorm.expr.narrow import is_dict
from superorm.expr.nodes import Field
from superorm.expr.sources import Variable
from superorm.expr.sources import class_of as source_class
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.parts import Part
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.containers import ListType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.typed_dict import TypedDictType

__all__ = [
    "AnyPart",
    "class_of",
    "declared",
    "declared_alike",
    "declared_in",
    "first_part",
    "is_by_class",
    "part_in",
    "requires",
    "single_document",
    "stands_alone",
    "stepped",
    "told_by_class",
]

AnyPart: TypeAlias = MappedField | Part


def told_by_class(field: Field[Any, Any]) -> tuple[str, ...]:
    """The paths, from the field's owner, of the classes' names that tell what the field is.

    Empty where all the classes on its way declare it alike.
    """
    return _way(field).told if _differs(field) else ()


def is_by_class(field: Field[Any, Any]) -> bool:
    """Whether the classes on its way declare it differently."""
    return _differs(field) and _way(field).differs


def declared(field: Field[Any, Any]) -> Sequence[AnyPart]:
    """The field as each of the classes on its way has it."""
    ways = _way(field).parts if _differs(field) else ()
    return ways or cast("tuple[AnyPart, ...]", field._parts[-1:])


def declared_in(field: Field[Any, Any], mapping: ClassMap) -> Sequence[AnyPart]:
    """The field of a document as one class has it, once for each of the classes of what it embeds."""
    first = cast("MappedField", field._parts[0])
    own = mapping.by_attribute.get(first.attribute, first)
    return _way(field, [own]).parts or cast("tuple[AnyPart, ...]", field._parts[-1:])


def requires(holder: AnyPart, part: AnyPart) -> bool:
    """Whether the dict that holds a value cannot be read without it."""
    kind = holder.type
    members = kind.members if isinstance(kind, UnionType) else (kind,)
    typed = (one.keys.get(str(part.stored)) for one in members if isinstance(one, TypedDictType))
    return any(key is not None and key.required for key in typed)


def first_part(field: Field[Any, Any], document: object) -> AnyPart:
    """The first part of a field as the class of a document of the field's owner, or of a subclass, has it."""
    first = cast("AnyPart", field._parts[0])
    mapping = _mapping(field)
    if mapping is None or not is_dict(document):
        return first
    name: object = document.get(mapping.discriminator)
    found = mapping.family.get(name) if isinstance(name, str) else None
    return first if found is None else found.by_attribute.get(first.attribute, first)


def class_of(part: AnyPart, document: dict[str, Any], *, in_list: bool) -> ClassMap | None:
    """The class of a document that a part embeds, perhaps in a list; None where that is not known."""
    kinds = [*_embedded(part.type, in_list=in_list)] or [*_embedded(part.type)]
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    if isinstance(kind, EmbeddedType) and not kind.mapping.family:
        return kind.mapping
    try:
        return kind.class_of(document)
    except Misfit:
        return None


def stands_alone(holder: AnyPart, part: MappedField) -> bool:
    """Whether a document that a part embeds, and that is in no list, has the field."""
    kinds = _embedded(holder.type, in_list=False)
    return any(part_in(mapping, part.stored) is part for kind in kinds for mapping in kind.classes)


def single_document(part: AnyPart) -> EmbeddedType | OneOfType | None:
    """The type of the embedded document that a part may be, in no list."""
    return next(_embedded(part.type, in_list=False), None)


def part_in(mapping: ClassMap, stored: str | None) -> MappedField | None:
    """The field that a class stores under a key."""
    return next((part for part in mapping.fields if part.stored == stored), None)


def stepped(holder: AnyPart, part: AnyPart) -> AnyPart:
    """The same element, or value of a dict, of what another class declares; the part itself where that has none."""
    kind, step = part.step
    try:
        if kind == "element":
            return holder.item() if step is None else holder.element(step)
        return holder.value(step)
    except StatementError:
        return part


@frozen
class _Way:
    """What the classes on the way to a field make of it."""

    parts: Sequence[AnyPart]
    told: tuple[str, ...]
    differs: bool


def _differs(field: Field[Any, Any]) -> bool:
    """Whether classes on its way may declare it differently."""
    parts = _parts(field)
    return any(map(_has_several, parts[:-1])) or len(_firsts(field, parts[0])) > 1


def _parts(field: Field[Any, Any]) -> tuple[Any, ...]:
    """The parts of a field, first of them for a field of a list's item what is known of the items."""
    parts: tuple[Any, ...] = field._parts
    kind = field._owner.kind if isinstance(field._owner, Variable) else None
    return parts if kind is None else (kind, *parts)


def _mapping(field: Field[Any, Any]) -> ClassMap | None:
    """The class that has the field, where others derive from it."""
    mapping: ClassMap | None = getattr(source_class(field._owner), "__superorm__", None)
    return mapping if mapping is not None and len(mapping.family) > 1 else None


def _firsts(field: Field[Any, Any], first: Any) -> list[AnyPart]:
    """The first part of a field, and that of each subclass that declares it otherwise."""
    mapping = _mapping(field)
    found: list[AnyPart] = [first]
    for below in () if mapping is None else mapping.family.values():
        own: MappedField = below.by_attribute.get(first.attribute) or first
        if not (declared_alike(own, first) or any(own is one for one in found)):
            found.append(own)
    return found


def _way(field: Field[Any, Any], firsts: list[AnyPart] | None = None) -> _Way:
    """With `firsts`: where these are its first part."""
    first, *rest = _parts(field)
    ways, mapping = _firsts(field, first) if firsts is None else firsts, _mapping(field)
    keys = [first.stored]
    differs = len(ways) > 1
    found = [mapping.discriminator] if differs and mapping is not None else []
    for part in rest:
        if isinstance(part, MappedField):
            kinds = [kind for way in ways for kind in _embedded(way.type)]
            fields = [part_in(mapping, part.stored) for kind in kinds for mapping in kind.classes]
            if differs or not all(one is not None and declared_alike(one, part) for one in fields):
                differs = True
                names = {kind.discriminator: None for kind in kinds if _is_told(kind)}
                found += [".".join([key for key in keys if key is not None] + [name]) for name in names]
            ways = [*{id(one): one for one in fields if one is not None}.values()]
        else:
            ways = [stepped(way, part) for way in ways]
        keys.append(part.stored)
    return _Way(ways, tuple(found), differs)


def declared_alike(one: MappedField, other: MappedField) -> bool:
    """Whether two fields are one declaration, perhaps of two classes."""
    return one is other or (one.spec is other.spec and one.annotation == other.annotation and one.keep == other.keep)


def _has_several(part: Any) -> bool:
    kinds = [*_embedded(part.type)]
    return len(kinds) > 1 or any(map(_is_told, kinds))


def _is_told(kind: EmbeddedType | OneOfType) -> bool:
    return isinstance(kind, OneOfType) or bool(kind.mapping.family)


def _embedded(kind: BsonType, *, in_list: bool | None = None) -> Iterator[EmbeddedType | OneOfType]:
    """Those of the embedded documents whose fields are those of a value, or only those (not) in a list."""
    if isinstance(kind, (EmbeddedType, OneOfType)):
        if not in_list:
            yield kind
    elif isinstance(kind, ListType):
        if in_list is not False:
            yield from _embedded(kind.element)
    elif isinstance(kind, UnionType):
        for member in kind.members:
            yield from _embedded(member, in_list=in_list)
