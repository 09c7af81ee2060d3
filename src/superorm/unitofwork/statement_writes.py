# pyright: reportPrivateUsage=false
"""What write statements do to documents and their vectors, decided apart from I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import bson
from attrs import evolve, frozen
from bson import Regex

from superorm.codec.keys import encode_key
from superorm.codec.vectors import value_at
from superorm.compile.plan import Find
from superorm.compile.writes import UpdatePlan
from superorm.exc import StatementError, ValidationError
from superorm.expr.narrow import is_dict
from superorm.expr.reprs import short_repr
from superorm.expr.writes import Insert
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.members import declared_alike
from superorm.schema.state import RAW, mismatch
from superorm.schema.types.base import Misfit
from superorm.schema.vector_fields import VectorField
from superorm.unitofwork.computed import Need
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.writes import UpdateOp

__all__ = [
    "Upsert",
    "any_of",
    "build_objects",
    "identity_of",
    "inserted_document",
    "need_of",
    "on_insert",
    "reads_of",
    "upsert_of",
    "vector_updates",
]

_FILTERS = 200
"""How many documents one read looks for by values of several fields."""


# Updates that may insert


def inserted_document(plan: UpdatePlan) -> dict[str, Any]:
    """The document that an update inserts where none meets its conditions, before what it computes.

    Raises `StatementError` where a field has neither a value nor a default.
    """
    mapping = plan.mapping
    heads = {path.partition(".")[0] for path in plan.literals}
    document: dict[str, Any] = {}
    for part in mapping.fields:
        if part.spec.version:
            document[part.stored] = 0
        if part.spec.version or part.stored in heads or part.stored in plan.assigned_below:
            continue
        try:
            document[part.stored] = part.missing()[1]
        except Misfit:
            if part.stored not in plan.assigned:
                raise StatementError(
                    f"update({mapping.name}).upsert() needs a value for {part.attribute}, which has no default: "
                    "assign it, or name it in where() with ==",
                    document_class=mapping.cls,
                    field=part.stored,
                ) from None
    if mapping.writes_type:
        document[mapping.discriminator] = mapping.type_name
    for path, value in plan.literals.items():
        *parents, name = path.split(".")
        below = document
        for parent in parents:
            below = below.setdefault(parent, {})
        below[name] = value
    return document


def on_insert(plan: UpdatePlan, document: Mapping[str, Any]) -> dict[str, Any]:
    """The operators of an update, with those parts of the document to insert that they and the filter do not give."""
    assert isinstance(plan.update, dict)
    given = {path.partition(".")[0] for path in plan.literals} | plan.assigned
    version = plan.mapping.version
    left = {
        name: value
        for name, value in document.items()
        if name not in given and (version is None or name != version.stored)
    }
    return {**plan.update, "$setOnInsert": left} if left else plan.update


# Inserts


def build_objects(statement: Insert[Any]) -> tuple[list[Any], set[type]]:
    """The objects to insert, and their classes. Raises `ValidationError`."""
    cls, rows = statement._root, statement._rows
    kinds = set(map(type, rows))
    if not any(issubclass(kind, dict) for kind in kinds):
        return list(rows), kinds
    built = [_build(cls, row) if is_dict(row) else row for row in rows]
    return built, set(map(type, built))


def _build(cls: type, row: dict[str, Any]) -> Any:
    try:
        return cls(**row)
    except (TypeError, ValueError, AssertionError) as error:  # of validators and converters, or arguments missing
        raise ValidationError(f"{cls.__name__} {short_repr(row)}: {error}", document_class=cls) from error


@frozen(eq=False)
class Upsert:
    """One document to update or insert."""

    mapping: ClassMap
    by: tuple[str, ...]
    """The stored names of the fields that identify it."""
    document: Mapping[str, Any]
    op: UpdateOp
    redeclared: Mapping[str, Any]
    """The values given to attributes that subclasses declare otherwise, and perhaps store otherwise."""

    def of_class(self, there: Mapping[str, Any]) -> Upsert:
        """The same where a document is there already, with what its class stores.

        Raises `ValidationError` for what does not fit that.
        """
        name = there.get(self.mapping.discriminator)
        found = self.mapping.family.get(name) if isinstance(name, str) else None
        if found is None or found is self.mapping or not self.redeclared or "$set" not in self.op["u"]:
            return self
        update = cast("dict[str, dict[str, Any]]", self.op["u"])
        sets = {**update["$set"]}
        for attribute, value in self.redeclared.items():
            part = found.by_attribute[attribute]
            if part.stored in sets:
                where = f"{found.name} {there['_id']!r}, which is there already: {attribute}"
                sets[part.stored] = part.stored_value(value, where, found.cls)
        op: UpdateOp = {**self.op, "u": {**update, "$set": sets}}
        return evolve(self, op=op)

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for equal values of the fields that identify it."""
        return identity_of(self.document, self.by)


def identity_of(document: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """A hashable stand-in for the values of some fields, equal where the server holds the values equal."""
    return tuple(encode_key(document.get(name)) for name in names)


def upsert_of(
    mapping: ClassMap, by: Sequence[MappedField], document: Mapping[str, Any], instance: object, given: Iterable[str]
) -> Upsert:
    """Update or insert the document of an object; `given` are the attributes that were, the others are defaults.

    Raises `ValidationError` where a field that identifies it was not given.
    """
    given = set(given)
    for part in by:
        if part.attribute not in given:
            raise ValidationError(
                f"{mapping.name}: upsert() needs a value of {part.attribute} to identify a document",
                document_class=mapping.cls,
                field=part.attribute,
            )
    filter: dict[str, Any] = {part.stored: _equal(document[part.stored]) for part in by}
    filter |= {key: value for key, value in mapping.type_filter().items() if key not in filter}
    version = mapping.version
    set_now = {mapping.by_attribute[name].stored for name in given}
    set_now |= {field.part.stored for field in mapping.vectors if not field.parents and field.declared.source in given}
    kept = {"_id", *filter, *([version.stored] if version else [])}
    sets = {name: value for name, value in document.items() if name in set_now - kept}
    left = {name: value for name, value in document.items() if name not in sets and name not in filter}
    if version is not None:
        left.pop(version.stored, None)
    filtered_type = filter.get(mapping.discriminator)
    if isinstance(filtered_type, dict):
        left[mapping.discriminator] = mapping.type_name
    update = {"$set": sets, "$setOnInsert": left, "$inc": {version.stored: 1} if version is not None else {}}
    op = UpdateOp(q=filter, u={operator: values for operator, values in update.items() if values}, upsert=True)
    redeclared = {name: getattr(instance, name) for name in given if _is_redeclared(mapping, name)}
    return Upsert(mapping, tuple(part.stored for part in by), document, op, redeclared)


def _is_redeclared(mapping: ClassMap, name: str) -> bool:
    own = mapping.by_attribute[name]
    return any(not declared_alike(one.by_attribute[name], own) for one in mapping.subclasses)


def _equal(value: Any) -> Any:
    return {"$eq": value} if type(value) in (list, Regex) else value


def reads_of(upserts: Sequence[Upsert]) -> list[Find]:
    """The reads of the keys, the classes' names and the identifying fields of documents that are there already."""
    if not upserts:
        return []
    projection = dict.fromkeys(("_id", upserts[0].mapping.discriminator, *upserts[0].by), 1)
    collection = cast("str", upserts[0].mapping.collection)
    return [Find(collection, either, projection) for either in any_of([upsert.op["q"] for upsert in upserts])]


def any_of(filters: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Filters that together match what any of these matches, each of which one read can hold."""
    for part in key_batches(filters, _FILTERS):
        yield {"$or": list(part)}


# Computed vectors


def need_of(field: VectorField, found: Iterable[Mapping[str, Any]]) -> tuple[Need, list[Any]]:
    """What to compute for stored documents that hold key and source, and the keys of those without a source.

    Raises `ValidationError` where a stored source does not fit.
    """
    source = field.source
    assert source is not None
    objects: list[tuple[Any, Any]] = []
    without: list[Any] = []
    for document in found:
        try:
            held = field.stored_below(document)
            if held is None:
                continue
            source, stored = held[0].by_attribute[source.attribute], held[1]
            value = source.type.from_bson(stored[source.stored]) if source.stored in stored else source.missing()[0]
        except Misfit as misfit:
            for name in reversed(field.stored_path(source).split(".")):
                misfit = misfit.within(name)
            raise mismatch(field.mapping, document["_id"], misfit) from misfit.error
        if value is None:
            without.append(document["_id"])
        else:
            objects.append((_target(field, document), value))
    return Need(field, objects), without


def _target(field: VectorField, document: Mapping[str, Any]) -> Any:
    """An object to put the vector of a stored document into."""
    inside = SimpleNamespace()
    for part in reversed(field.parents):
        inside = SimpleNamespace(**{part.attribute: inside})
    setattr(inside, RAW, document)
    return inside


def vector_updates(field: VectorField, need: Need, without: Sequence[Any], *, in_transaction: bool) -> list[UpdateOp]:
    """The updates that store what was computed, one for documents with the same vector.

    Outside transactions only where the source is still the one that it was computed from:
    who has changed that stores the vector of the new one.
    """
    assert field.source is not None
    source, path = field.stored_path(field.source), field.spec.path
    there = {path.rpartition(".")[0]: {"$type": "object"}} if field.parents else {}
    groups: dict[Any, tuple[Any, dict[str, Any], list[Any]]] = {}
    for target, _ in need.objects:
        document = cast("Mapping[str, Any]", vars(target)[RAW])
        stored = field.part.type.to_bson(getattr(field.below(target), field.part.attribute))
        unchanged = {} if in_transaction else {source: {"$eq": value_at(document, source)}}
        group = bytes(stored), b"" if in_transaction else bson.encode(unchanged)
        groups.setdefault(group, (stored, unchanged, []))[2].append(document["_id"])
    if without:
        groups[None] = None, {} if in_transaction else {source: None}, list(without)
    return [
        UpdateOp(q={"_id": {"$in": keys}, **there, **unchanged}, u={"$set": {path: stored}}, multi=True)
        for stored, unchanged, keys in groups.values()
    ]
