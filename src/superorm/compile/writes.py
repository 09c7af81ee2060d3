# pyright: reportPrivateUsage=false
"""Statements that write to plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import frozen

from superorm.compile.artifact_uses import check_artifact_uses
from superorm.compile.by_class import inserted_form, is_computed
from superorm.compile.capable import check_capabilities
from superorm.compile.constants import fails
from superorm.compile.depth import check_depth
from superorm.compile.expressions import has_accumulator
from superorm.compile.merges import check_rows, sets_in, stored_key
from superorm.compile.output import Output
from superorm.compile.plan import Aggregate
from superorm.compile.rewrites import optimized
from superorm.compile.scope import DocumentScope, ListPath, value_at
from superorm.compile.searched import filter_of
from superorm.compile.select import Builder
from superorm.compile.state import mapping_of
from superorm.compile.update_stages import stages
from superorm.compile.updates import checked_assignments, elements_there, needs_pipeline, operators
from superorm.compile.upserts import check_upsert
from superorm.exc import StatementError
from superorm.expr.assignments import Assignment
from superorm.expr.base import Expr, Label
from superorm.expr.entities import entity_name
from superorm.expr.narrow import is_dict
from superorm.expr.nesting import not_too_deep
from superorm.expr.nodes import Field
from superorm.expr.statements import Select
from superorm.expr.values import own_copy
from superorm.expr.writes import Conditional, Delete, MergeInto, Update, is_delete
from superorm.schema.mapping import ClassMap, class_map

__all__ = [
    "DeletePlan",
    "MergePlan",
    "UpdatePlan",
    "command",
    "compile_delete",
    "compile_merge",
    "compile_update",
    "rows_select",
]


@frozen
class UpdatePlan:
    """An update, taken apart."""

    mapping: ClassMap
    filter: Mapping[str, Any]
    update: dict[str, Any] | list[dict[str, Any]]
    """Operators, or a pipeline."""
    assigned: frozenset[str]
    """The stored names of the document's fields that change, or below which something changes."""
    assigned_below: frozenset[str]
    """Those of the latter."""
    upsert: bool
    literals: Mapping[str, Any]
    """With `upsert`: the values that an inserted document has of the conditions, and of whole fields assigned."""
    paths: frozenset[str]
    """The stored paths that are assigned."""


@frozen
class DeletePlan:
    """A delete, taken apart."""

    mapping: ClassMap
    filter: Mapping[str, Any]


@frozen
class MergePlan:
    """A select merged into a collection."""

    read: Aggregate
    """With the ``$merge``."""
    rows: Aggregate
    """Without it."""
    collection: str
    mapping: ClassMap | None
    """Of the target, where that is a class."""
    on: tuple[str, ...]


@not_too_deep
def compile_update(statement: Update[Any], unsupported: frozenset[str] = frozenset(), backend: str = "") -> UpdatePlan:
    """Take an update apart; `unsupported` are the stages and operators that `backend` does not have.

    Raises `StatementError`, `UnsupportedError`.
    """
    mapping = class_map(statement._root)
    scope = DocumentScope(statement._root)
    _check_scope(statement, "update")
    if mapping.artifacts:
        check_artifact_uses([*statement._where, *(one.value for one in statement._assignments)])
    paths = checked_assignments(mapping, statement._assignments, scope)
    if statement._upserts:
        check_upsert(mapping, statement._where, paths.values())
    filter = filter_of(mapping, (*statement._where, *elements_there(paths.values())), scope)
    version = mapping.version
    update: dict[str, Any] | list[dict[str, Any]]
    if needs_pipeline([*paths.values()], ordered="$reduce" not in unsupported):
        update = stages(paths, scope, checks="$toInt" not in unsupported)
        check_depth(update)
        if version is not None:
            update.append({"$set": {version.stored: {"$add": [{"$ifNull": [f"${version.stored}", 0]}, 1]}}})
        check_capabilities(Aggregate("", [{"$match": filter}, *update]), unsupported, backend)
    else:
        update = operators(paths)
        if version is not None:
            update["$inc"] = {version.stored: 1}
        check_capabilities(Aggregate("", [{"$match": filter}]), unsupported, backend)
    assigned = frozenset(path.partition(".")[0] for path in paths)
    below = frozenset(path.partition(".")[0] for path in paths if "." in path)
    literals = {**_equalities(filter), **_whole_literals(paths)} if statement._upserts else {}
    return UpdatePlan(mapping, filter, update, assigned, below, statement._upserts, literals, frozenset(paths))


def _equalities(filter: Mapping[str, Any]) -> dict[str, Any]:
    """What a document that a filter makes up has: the conditions that say a value."""
    found: dict[str, Any] = {}
    for path, condition in filter.items():
        if path == "$and":
            for one in condition:
                found |= _equalities(one)
        elif not path.startswith("$") and (not is_dict(condition) or "$eq" in condition):
            found[path] = condition["$eq"] if is_dict(condition) else condition
    return found


def _whole_literals(paths: Mapping[str, Assignment[Any]]) -> dict[str, Any]:
    return {
        path: value
        for path, one in paths.items()
        if one.op == "to" and "." not in path and not is_computed(value := inserted_form(one.value))
    }


def _check_scope(statement: Conditional[Any], what: str) -> None:
    name = statement._root.__name__
    if not statement._where and not statement._all:
        raise StatementError(
            f"{what}({name}) has no where(); add .all() to {what} every document", document_class=statement._root
        )
    if statement._where and statement._all:
        raise StatementError(
            f"{what}({name}) has both where() and all(); leave one out", document_class=statement._root
        )


@not_too_deep
def compile_delete(statement: Delete[Any], unsupported: frozenset[str] = frozenset(), backend: str = "") -> DeletePlan:
    """Take a delete apart. Raises as `compile_update` does."""
    mapping = class_map(statement._root)
    _check_scope(statement, "delete")
    if mapping.artifacts:
        check_artifact_uses(statement._where)
    filter = filter_of(mapping, statement._where, DocumentScope(statement._root))
    check_capabilities(Aggregate("", [{"$match": filter}]), unsupported, backend)
    return DeletePlan(mapping, filter)


def rows_select(mapping: ClassMap, entities: tuple[Any, ...]) -> Select[Any, Any]:
    """The select of what a statement returns, with the key as one more column."""
    for entity in entities:
        if has_accumulator(entity):
            raise StatementError(f"returning() gives a row for each document; {entity!r} is computed over several")
    key: Field[Any, Any] = getattr(mapping.cls, mapping.key.attribute)
    return Select(mapping.cls, (*entities, Label(key, "__key")))


@not_too_deep
def compile_merge(statement: MergeInto, unsupported: frozenset[str] = frozenset(), backend: str = "") -> MergePlan:
    """Take a merge apart. Raises as `compile_update` does."""
    entities: tuple[Any, ...] = statement.select._entities
    first = entities[0]
    whole = not isinstance(first, Expr)
    mapping = None if isinstance(statement.target, str) else class_map(statement.target)
    matched = tuple(stored_key(mapping, name) for name in statement.on)
    names: tuple[str, ...] | None = None
    if whole and len(entities) > 1:
        raise StatementError("merge_into() writes whole documents alone, or columns; use .columns(...) to choose some")
    if not whole:
        names = tuple(stored_key(mapping, _stored_name(entity)) for entity in entities)
        if len(set(names)) < len(names):
            raise StatementError(f"merge_into(): two columns are called the same: {', '.join(names)}; use .label()")
        missing = [name for name in matched if name.partition(".")[0] not in names]
        if missing:
            raise StatementError(
                f"merge_into(on=...): no column is called {missing[0]!r}, only {', '.join(names)}; "
                f"label one of them: .label({missing[0]!r})"
            )
    builder = Builder(statement.select, names=names)
    outputs = builder.build()
    made = outputs[0].extra
    lists = {
        one.name: value_at(ListPath(f"{one.name}.{only}")) for one in outputs if (only := _only_column(one)) is not None
    }
    if made:
        builder.stages.append({"$unset": sorted(made)})
    if lists:
        builder.stages.append({"$set": lists})
    named = mapping is None or (whole and issubclass(mapping_of(first).cls, mapping.cls))
    if mapping is not None:
        check_rows(statement, mapping, outputs, named=named)
        if sets := sets_in(mapping, outputs):
            builder.stages.append({"$set": sets})
    if mapping is not None and mapping.writes_type and not named:
        builder.stages.append({"$set": {mapping.discriminator: mapping.type_name}})
    if mapping is not None and mapping.version is not None and statement.when_not_matched == "insert":
        builder.stages.append({"$set": {mapping.version.stored: 1}})  # `_when_matched` counts on what is there
    check_depth(builder.stages)
    rows = optimized(builder.stages)
    assert builder.mapping.collection is not None
    target: str = statement.target if mapping is None else cast("str", mapping.collection)
    on: Any = matched[0] if len(matched) == 1 else list(matched)
    merge = {
        "into": target,
        "on": on,
        "whenMatched": _when_matched(statement.when_matched, mapping, named),
        "whenNotMatched": statement.when_not_matched,
    }
    read = Aggregate(builder.mapping.collection, [*rows, {"$merge": merge}])
    check_capabilities(read, unsupported, backend)
    return MergePlan(read, Aggregate(read.collection, rows), target, mapping, matched)


def _only_column(output: Output) -> str | None:
    """Of rows of one value: the path of that, as a list is of these and not of documents that hold them."""
    columns = list(output.outputs)
    return ".".join(columns[0].path) if len(columns) == 1 and columns[0].kind == "value" else None


def _stored_name(entity: Any) -> str:
    if isinstance(entity, Field):
        stored = [part.stored for part in cast("tuple[Any, ...]", entity._parts) if part.stored is not None]
        return cast("str", stored[-1])
    return entity_name(entity)


def _when_matched(how: str, mapping: ClassMap | None, named: bool) -> Any:
    """The same, or a pipeline that counts versions, and to which documents of other classes are errors.

    Unless the rows are `named`, with classes of their own, the document that is there keeps its class.
    """
    if mapping is None or how not in ("merge", "replace"):
        return how
    kept: dict[str, Any] = {}
    if mapping.version is not None:
        stored = mapping.version.stored
        kept[stored] = {"$add": [{"$ifNull": [f"${stored}", 0]}, 1]}
    name = f"${mapping.discriminator}"
    new = f"$${'new' if named else 'ROOT'}.{mapping.discriminator}"
    if mapping.parent is None and mapping.writes_type and not named:
        kept[mapping.discriminator] = {"$ifNull": [name, mapping.type_name]}
    elif mapping.parent is not None:
        names = [mapping.type_name, *sorted(below.type_name for below in mapping.subclasses)]
        shown = {"$toString": {"$ifNull": [name, "null"]}}
        other = fails(f"merge_into({mapping.name}): a document with this key is of another class", shown)
        kept[mapping.discriminator] = {"$cond": [{"$in": [name, names]}, new, other]}
    if not kept:
        return how
    before = ["$$ROOT"] if how == "merge" else []
    return [{"$replaceWith": {"$mergeObjects": [*before, "$$new", {"_id": "$_id", **kept}]}}]


def command(statement: Any) -> dict[str, Any]:
    """The command of an update or a delete."""
    if is_delete(statement):
        deleted = compile_delete(statement)
        return {"delete": deleted.mapping.collection, "deletes": [{"q": own_copy(deleted.filter), "limit": 0}]}
    plan = compile_update(cast("Update[Any]", statement))
    operation = {"q": own_copy(plan.filter), "u": own_copy(plan.update), "multi": True, "upsert": plan.upsert}
    return {"update": plan.mapping.collection, "updates": [operation]}
