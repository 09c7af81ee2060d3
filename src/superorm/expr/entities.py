"""What a select list holds: classes, fields and other expressions."""

from __future__ import annotations

from typing import Any, cast

from superorm.exc import StatementError
from superorm.expr.base import Call, Compare, ElemMatch, Expr, Logical, Matches
from superorm.expr.literals import literal
from superorm.expr.nodes import Field
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import Bucket, GraphLookup, ListOf, Window
from superorm.expr.sources import is_document
from superorm.expr.stages import Entity

__all__ = ["checked_entities", "checked_on", "entity_name", "is_part_of", "name_of", "root_of"]


_CONDITIONS = {
    "$eq": "eq",
    "$ne": "ne",
    "$gt": "gt",
    "$gte": "gte",
    "$lt": "lt",
    "$lte": "lte",
    "$in": "in_",
    "$nin": "not_in",
    "$exists": "exists",
    "$all": "all_",
    "$elemMatch": "contains",
    "$size": "size",
    "$and": "and_",
    "$or": "or_",
    "$nor": "not_",
}
_FUNCTIONS: dict[type, str] = {ElemMatch: "any_", GraphLookup: "graph_lookup", ListOf: "as_list"}


def is_part_of(root: Any, owner: Any) -> bool:
    """Whether fields of `owner` are fields of the documents of `root`."""
    return owner == root or (isinstance(owner, type) and isinstance(root, type) and issubclass(root, owner))


def name_of(entity: object) -> str:
    """What to call it in messages."""
    return entity.__name__ if isinstance(entity, type) else f"{entity!r:.200}"


def checked_on(statement: Any, on: object) -> Field[Any, Any] | str | None:
    """What `like` searches in: a vector field of the statement's class, or the name of a vector index."""
    root = statement._root
    if root is None:
        known = name_of(on._owner) if isinstance(on, Field) else "..."  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownArgumentType]
        raise StatementError(f"like(): {statement!r} does not tell its class; add .select_from({known}) before")
    if isinstance(on, str) and on:
        return cast("str", literal(str.__str__(on)))
    field: Any = on
    if on is not None and not (isinstance(on, Field) and is_part_of(root, field._owner)):
        raise StatementError(
            f"like(on=...) takes a vector field of {name_of(root)}, not {on!r}; or the name of a vector index"
        )
    return cast("Field[Any, Any] | None", field)


def entity_name(entity: Any) -> str:
    """The name of a column in rows."""
    if isinstance(entity, Field):
        parts: Any = entity._parts  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        attributes: list[str] = [part.attribute for part in parts if part.step[0] == "field"]
        return attributes[-1]
    if is_document(entity):
        return name_of(entity)
    if isinstance(entity, OutputOf):
        return entity.keys[-1] if entity.keys else entity.name
    given: Any = entity
    if isinstance(entity, Compare):
        return _call_name(given.left) if _is_condition(given.left) else _CONDITIONS[entity.op]
    if isinstance(entity, Logical):
        return _CONDITIONS[entity.op]
    if isinstance(entity, Matches):
        return given.method or "regex"
    call: Any = given.call if isinstance(entity, Window) else given
    if isinstance(call, Call):
        return _call_name(call)
    if isinstance(entity, Bucket):
        return "bucket" if given.buckets is None else "bucket_auto"
    kind = given.__class__
    return getattr(given, "name", None) or _FUNCTIONS.get(kind) or kind.__name__.lower()


def _call_name(call: Any) -> str:
    """The name in ``func``; over several values ``sum``, which is ``array_sum`` to the table."""
    name: str = call.operator.name
    return name.removeprefix("array_") if call.operator.style == "some" and len(call.args) > 1 else name


def _is_condition(left: object) -> bool:
    """Whether it is compared, with True, only to be a condition."""
    return isinstance(left, Call) and left.operator.gives == "bool"


def checked_entities(where: str, entities: tuple[Any, ...]) -> tuple[Entity, ...]:
    for position, entity in enumerate(cast("tuple[object, ...]", entities)):
        if is_document(entity):
            if any(entity == other for other in entities[:position] if not isinstance(other, Expr)):
                raise StatementError(f"{where} names {name_of(entity)} twice")
        elif not isinstance(entity, Expr):
            if "__superorm_declared__" in getattr(entity, "__dict__", {}):
                raise StatementError(f"{where}: {name_of(entity)} is abstract; give a class that derives from it")
            raise StatementError(
                f"{where} takes document classes, their fields, expressions and score(), not {entity!r}; "
                "a constant is func.literal(...)"
            )
    return entities


def root_of(entities: tuple[Any, ...]) -> Any:
    """The class that the statement is about: that of the first entity which tells one."""
    for entity in entities:
        if not isinstance(entity, Expr):
            return entity
        pending: list[Expr[Any, Any]] = [entity]
        while pending:
            found = pending.pop(0)
            owners: Any = (found._owner,) if isinstance(found, Field) else getattr(found, "args", ())  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
            for owner in owners:  # func.count(Movie) names a class
                if is_document(owner):
                    return owner
            pending[:0] = found.children()
    return None
