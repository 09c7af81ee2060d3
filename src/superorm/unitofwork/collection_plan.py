"""What a collection lacks of what its classes declare, and what of it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
from attrs import frozen

from superorm.compile.indexes import IndexModel, index_differences, index_models
from superorm.exc import MappingError
from superorm.expr.narrow import is_dict
from superorm.schema.compare import alike
from superorm.schema.declared_indexes import declared_indexes
from superorm.schema.json_schema import json_schema
from superorm.schema.mapping import ClassMap
from superorm.unitofwork.encode import CODEC_OPTIONS

__all__ = ["CollectionPlan", "Declared", "Present", "declared_by", "plan_collection"]

_NOT_DECLARABLE = ("capped", "timeseries", "viewOn", "collation", "clusteredIndex", "expireAfterSeconds")
"""Options of collections that no class declares, and that change how it works."""
_LEVELS = {"validationLevel": "strict", "validationAction": "error"}


@frozen(eq=False)
class Declared:
    """What the classes of one collection declare."""

    collection: str
    classes: str
    """Their names, for messages."""
    indexes: Sequence[IndexModel]
    validation: Mapping[str, Any] | None
    """The validator with its level and action, as ``collMod`` takes them."""
    differences: Sequence[str]
    """What the classes do not agree on."""


@frozen(eq=False)
class Present:
    """What is in the database."""

    options: Mapping[str, Any]
    indexes: Sequence[Mapping[str, Any]]


@frozen(eq=False)
class CollectionPlan:
    """What to do to a collection."""

    indexes: Sequence[IndexModel]
    """To be made."""
    validation: Mapping[str, Any] | None
    """To be set."""
    differences: Sequence[str]
    """What is there but not as the classes say, one sentence each."""

    def missing(self, declared: Declared) -> list[str]:
        """What is to be made, one sentence each."""
        name = declared.collection
        found = [
            f"{name} has no index {dict(index.keys)}, which {index.where} declares; run db.create_all()"
            for index in self.indexes
        ]
        if self.validation is not None:
            found.append(f"{name} has no validator, which {declared.classes} declares; run db.create_all()")
        return found


def declared_by(collection: str, classes: Sequence[ClassMap]) -> Declared:
    """What all classes of a collection declare together. Raises `MappingError` where that cannot be."""
    indexes = index_models(index for mapping in classes for index in declared_indexes(mapping))
    roots = [mapping for mapping in classes if mapping.root is mapping]
    names = ", ".join(mapping.name for mapping in roots)
    asked = {mapping.name: _validate(mapping) for mapping in roots}
    actions = {action for action in asked.values() if action is not None}
    validation, differences = None, list[str]()
    if len(actions) > 1:
        raise MappingError(f"{names} share {collection}, but __validate__ is {True} in one and 'warn' in another")
    if actions and None in asked.values():
        without = ", ".join(name for name, action in asked.items() if action is None)
        differences = [f"{collection} gets no validator: {without}, which shares it, does not declare __validate__"]
    elif actions:
        schemas = [json_schema(mapping) for mapping in roots]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        validation = {"validator": {"$jsonSchema": schema}, **_LEVELS, "validationAction": actions.pop()}
    return Declared(collection, names, indexes, validation, differences)


def _validate(mapping: ClassMap) -> str | None:
    """The validation action that a class asks for."""
    asked: object = getattr(mapping.cls, "__validate__", False)
    return "warn" if asked == "warn" else "error" if asked else None


def plan_collection(declared: Declared, present: Present) -> CollectionPlan:
    """What to do, and what to report. Nothing that is there is changed."""
    name, options = declared.collection, present.options
    differences = list(declared.differences)
    for option in _NOT_DECLARABLE:
        if options.get(option):
            differences.append(f"{name} has the option {option}={options[option]!r}, which no class declares")
    if "viewOn" in options:
        return CollectionPlan((), None, differences)
    missing = _compare_indexes(declared, present, differences)
    validation = declared.validation
    if options.get("validator"):
        differences += _validator_differences(declared, options)
        validation = None
    return CollectionPlan(missing, validation, differences)


def _compare_indexes(declared: Declared, present: Present, differences: list[str]) -> list[IndexModel]:
    """The indexes that are not there; those that differ go to `differences`."""
    collection, collation = declared.collection, present.options.get("collation")
    left = [index for index in present.indexes if index["name"] != "_id_"]
    unmatched: list[tuple[IndexModel, dict[str, Any]]] = []
    for model in declared.indexes:
        wanted = _as_stored(model.document)
        same = next((index for index in left if not index_differences(wanted, index, collation)), None)
        if same is None:
            unmatched.append((model, wanted))
            continue
        left.remove(same)
        if model.named and same["name"] != model.name:
            differences.append(f"the index {same['name']} of {collection} is called {model.name} in {model.where}")
    missing: list[IndexModel] = []
    for model, wanted in unmatched:
        other = next((index for index in left if index["name"] == model.name), None) or next(
            (index for index in left if "key" not in index_differences(wanted, index, collation)), None
        )
        if other is None:
            missing.append(model)
            continue
        left.remove(other)
        differing = index_differences(wanted, other, collation)
        differences.append(
            f"the index {other['name']} of {collection} is not as {model.where} declares it: {_sides(differing)}; "
            f"to change it, run {_index_command(collection, other['name'], differing)}"
        )
    differences += [
        f"the index {index['name']} of {collection}, on {dict(index['key'])}, is declared by no class" for index in left
    ]
    return missing


def _index_command(collection: str, name: str, differing: Mapping[str, tuple[Any, Any]]) -> str:
    """The command that makes the index what is declared, for PyMongo's ``Database.command``."""
    values = {option: declared for option, (_, declared) in differing.items()}
    if values.keys() == {"hidden"}:
        return repr({"collMod": collection, "index": {"name": name, "hidden": bool(values["hidden"])}})
    if values.keys() == {"expireAfterSeconds"} and None not in differing["expireAfterSeconds"]:
        return repr({"collMod": collection, "index": {"name": name, **values}})
    return f"{ ({'dropIndexes': collection, 'index': name})!r} and db.create_all() again"


def _validator_differences(declared: Declared, options: Mapping[str, Any]) -> list[str]:
    name, wanted = declared.collection, declared.validation
    if wanted is None:
        return [f"{name} has a validator, which no class declares"]
    there = {**_LEVELS, **{key: options[key] for key in wanted if key in options}}
    differing = _differing(there, _as_stored(wanted), "")
    if not differing:
        return []
    sides, command = _sides(differing), {"collMod": name, **wanted}
    return [f"the validator of {name} is not as {declared.classes} declares it: {sides}; to change it, run {command!r}"]


def _differing(present: Any, declared: Any, path: str) -> dict[str, tuple[Any, Any]]:
    """Where two documents differ, by dotted path; what is not there is None."""
    if alike(present, declared):
        return {}
    if not is_dict(present) or not is_dict(declared):
        return {path: (present, declared)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**present, **declared}:
        found |= _differing(present.get(key), declared.get(key), f"{path}.{key}" if path else key)
    return found


def _sides(differing: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        f"{option} is {present!r} in the database, {declared!r} in the class"
        for option, (present, declared) in differing.items()
    )


def _as_stored(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is read back from the database."""
    data = bson.encode(document, codec_options=CODEC_OPTIONS)
    return bson.decode(data, CODEC_OPTIONS)  # pyright: ignore[reportUnknownMemberType]
