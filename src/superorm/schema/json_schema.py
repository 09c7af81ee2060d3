"""The ``$jsonSchema`` of mapped classes: what superorm reads is what the server lets in.

It is weaker than superorm where the server's schemas have no word for something:
the subtype of binary data, dates at midnight, what a registered type or a validator accepts.
A class, or a TypedDict, that holds itself is described once; below that any document passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Flag
from typing import Any, TypeAlias

from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap
from superorm.schema.types.arrays import ArrayType, VectorType
from superorm.schema.types.artifacts import ArtifactType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import DictType, ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.scalars import (
    BoolType,
    BytesType,
    DatetimeType,
    DateType,
    DecimalType,
    EnumType,
    FloatType,
    IntType,
    LiteralType,
    NoneType,
    ObjectIdType,
    StrType,
    UuidType,
)
from superorm.schema.types.typed_dict import TypedDictType

__all__ = ["json_schema"]

Schema: TypeAlias = dict[str, Any]

_ANY: Schema = {}
_NUMBERS = ["int", "long", "double"]
_BSON_TYPES: dict[type[BsonType], str] = {
    StrType: "string",
    BytesType: "binData",
    BoolType: "bool",
    ObjectIdType: "objectId",
    UuidType: "binData",
    NoneType: "null",
    DatetimeType: "date",
    DateType: "date",
    DecimalType: "decimal",
}
_REFERENCE: Schema = {
    "bsonType": ["object", "null"],
    "required": ["sha256", "size", "codec", "codec_version"],
    "properties": {"sha256": {"bsonType": "string"}, "codec": {"bsonType": "string"}},
}
_ARRAY: Schema = {
    "bsonType": "object",
    "required": ["dtype", "shape", "data"],
    "properties": {
        "dtype": {"bsonType": "string"},
        "shape": {"bsonType": "array", "items": {"bsonType": _NUMBERS}},
        "data": {"bsonType": "binData"},
    },
}


def json_schema(mapping: ClassMap) -> Schema:
    """The schema of the documents of a class and of its subclasses.

    Fields without a default are required, as superorm cannot read a document that lacks them.
    Keys that the class does not declare are allowed unless it forbids them.
    Raises `MappingError` for annotations that cannot be resolved.
    """
    return _document(mapping, ())


def _document(mapping: ClassMap, seen: tuple[object, ...]) -> Schema:
    """The schema of a class, with its subclasses where there are any; what is in `seen` is described already."""
    members = _family(mapping).values()
    if any(member.cls in seen for member in members):
        return {"bsonType": "object"}
    if not mapping.family:
        return _fields(mapping, seen)
    schemas = [_fields(member, seen, tagged=True, required=member is not mapping) for member in members]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _fields(mapping: ClassMap, seen: tuple[object, ...], *, tagged: bool = False, required: bool = False) -> Schema:
    """The schema of one class; its documents may, or must, carry the discriminator."""
    properties = {part.stored: _of(part.type, (*seen, mapping.cls)) for part in mapping.fields}
    needed = [
        part.stored
        for part in mapping.fields
        if part.spec.default is MISSING and part.spec.factory is None and part.stored != "_id" and not part.spec.version
    ]
    if tagged:
        properties = {mapping.discriminator: {"enum": [mapping.type_name]}, **properties}
        needed = [mapping.discriminator, *needed] if required else needed
    return _object(properties, needed, closed=mapping.extra_forbidden)


def _object(properties: Mapping[str, Schema], required: Sequence[str], *, closed: bool) -> Schema:
    schema: Schema = {"bsonType": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    if closed:
        schema["additionalProperties"] = False
    return schema


def _of(kind: BsonType, seen: tuple[object, ...]) -> Schema:
    """The schema of one type's values, as they may stand in the database."""
    match kind:
        case IntType():
            return {"bsonType": _NUMBERS, "multipleOf": 1, "minimum": -(2**63), "maximum": 2**63 - 1}
        case FloatType():
            return {"bsonType": _NUMBERS}
        case EnumType(enum=enum) if issubclass(enum, Flag):
            return _of(IntType(), seen)  # members can be combined
        case EnumType():
            return {"enum": [member.value for member in kind.enum]}
        case LiteralType():
            return {"enum": [member.to_bson(choice) for choice, member in kind.choices]}
        case UnionType():
            return _union([_of(member, seen) for member in kind.members])
        case ListType():
            return {"bsonType": "array", "items": _of(kind.element, seen)}
        case TupleType():
            items, count = [_of(element, seen) for element in kind.elements], len(kind.elements)
            return {"bsonType": "array", "items": items, "minItems": count, "maxItems": count}
        case DictType():
            return {"bsonType": "object", "additionalProperties": _of(kind.value, seen)}
        case TypedDictType() if kind in seen:
            return {"bsonType": "object"}
        case TypedDictType():
            required = [name for name, key in kind.keys.items() if key.required]
            values = {name: _of(key.type, (*seen, kind)) for name, key in kind.keys.items()}
            return _object(values, required, closed=False)
        case EmbeddedType():
            return _document(kind.mapping, seen)
        case OneOfType():
            members = {name: member for mapping in kind.mappings for name, member in _family(mapping).items()}
            if any(member.cls in seen for member in members.values()):
                return {"bsonType": "object"}
            return {"anyOf": [_fields(member, seen, tagged=True, required=True) for member in members.values()]}
        case ArtifactType():
            return _REFERENCE
        case VectorType():
            numbers = {"bsonType": "array", "items": {"bsonType": _NUMBERS}, "minItems": kind.dim, "maxItems": kind.dim}
            return {"anyOf": [{"bsonType": "binData"}, numbers]}
        case ArrayType():
            return _ARRAY
        case _:
            bson_type = _BSON_TYPES.get(type(kind))
            return _ANY if bson_type is None else {"bsonType": bson_type}


def _family(mapping: ClassMap) -> dict[str, ClassMap]:
    return {mapping.name: mapping, **mapping.family}


def _union(members: Sequence[Schema]) -> Schema:
    """Any of the schemas; those that name types only are put together."""
    if _ANY in members:
        return _ANY
    names = [member["bsonType"] for member in members if member.keys() == {"bsonType"}]
    types: list[str] = [name for entry in names for name in ([entry] if isinstance(entry, str) else entry)]
    others = [member for member in members if member.keys() != {"bsonType"}]
    if types:
        others.append({"bsonType": types[0] if len(types) == 1 else list(dict.fromkeys(types))})
    return others[0] if len(others) == 1 else {"anyOf": others}
