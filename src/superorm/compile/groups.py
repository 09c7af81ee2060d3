"""Groups: ``$group``, ``$bucket`` and ``$bucketAuto``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from superorm.compile.constants import constant
from superorm.compile.expressions import accumulator, emit
from superorm.compile.scope import Accumulated, Scope, same
from superorm.compile.state import label_of
from superorm.exc import StatementError
from superorm.expr.base import Call, Expr
from superorm.expr.entities import entity_name
from superorm.expr.kinds import inside, is_bucket, is_column, is_label
from superorm.expr.rows import Bucket

__all__ = ["Accumulators", "Columns", "always_a_row", "bucket_stage", "group_stages", "of_nothing"]

Columns: TypeAlias = "list[tuple[str | None, Any, str]]"
"""Label, emitted expression and path of each value."""
Accumulators: TypeAlias = Callable[[Any], Iterator[tuple[Call[Any, Any], str | None]]]
"""The accumulators in an expression, each with the name that it is to have."""


def group_stages(
    keys: Sequence[Expr[Any, Any]],
    asked: Iterable[Any],
    scope: Scope,
    accumulators: Accumulators,
    *,
    null_is_missing: bool = False,
) -> tuple[list[dict[str, Any]], Columns]:
    """The stage that groups by the keys and accumulates what is asked, and the columns of its rows.

    Of several keys null and missing are two groups, but with `null_is_missing` one.
    """
    values: dict[str, Any] = {}
    columns: Columns = []
    asked = [*asked]
    labels = {label for node in (*keys, *asked) if (label := label_of(node)) is not None}
    for node in asked:
        for call, name in accumulators(node):
            emitted = Accumulated(accumulator(call, scope))
            known = next((path for _, found, path in columns if same(found, emitted)), None)
            path = known or _unused(name, values)
            if known is None:
                values[path] = dict(emitted)
            if known is None or name is not None:
                own = name if is_label(node) or name not in labels else None  # before the name of a function
                columns.append((own, emitted, path))
    inner = [inside(key) for key in keys]
    if any(map(is_bucket, inner)):
        return _bucket(keys, inner[0], values, columns, scope)
    emitted_keys = [emit(key, scope) for key in keys]
    if len(keys) == 1:
        columns.append((_key_label(keys[0]), emitted_keys[0], "_id"))
        return [{"$group": {"_id": emitted_keys[0], **values}}], columns
    names: dict[str, Any] = {}
    for key, emitted in zip(keys, emitted_keys, strict=True):
        name = _unused(entity_name(key), names)
        names[name] = {"$ifNull": [emitted, None]} if null_is_missing else emitted
        columns.append((_key_label(key), emitted, f"_id.{name}"))
    return [{"$group": {"_id": names or None, **values}}], columns


def _key_label(key: Expr[Any, Any]) -> str | None:
    """The label of a key; a column has its name."""
    return key.name if is_column(key) else label_of(key)


def always_a_row(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A group of everything that is a row of no documents too, for which the server makes none."""
    values = {path: next(iter(value)) for path, value in stages[-1]["$group"].items() if path != "_id"}
    row = {"_id": None, **{path: of_nothing(op) for path, op in values.items()}}
    first = {"$ifNull": [{"$arrayElemAt": ["$rows", 0]}, row]}
    return [{"$facet": {"rows": [*stages]}}, {"$replaceRoot": {"newRoot": first}}]


def of_nothing(op: str) -> Any:
    """What an accumulator gives for no rows."""
    if op == "$sum":
        return 0
    if op == "$mergeObjects":
        return {}
    return [] if op in ("$push", "$addToSet") or op.endswith("N") else None


def _unused(name: str | None, taken: dict[str, Any]) -> str:
    """The name, or one like it that is not taken."""
    if name is not None and name != "_id" and name not in taken:
        return name
    base = "__" if name is None or name == "_id" else f"{name}_"
    return next(found for n in range(1, len(taken) + 3) if (found := f"{base}{n}") not in taken)


def _bucket(
    keys: Sequence[Expr[Any, Any]], bucket: Bucket[Any, Any], values: dict[str, Any], columns: Columns, scope: Scope
) -> tuple[list[dict[str, Any]], Columns]:
    if len(keys) > 1:
        raise StatementError("group_by() takes a func.bucket() alone; beside other keys write ranges with case(...)")
    ranges = bucket_stage(bucket, scope)
    ((name, body),) = ranges.items()
    columns.append((label_of(keys[0]) or entity_name(keys[0]), ranges, "_id"))
    return [{name: {**body, "output": values} if values else body}], columns


def bucket_stage(bucket: Bucket[Any, Any], scope: Scope) -> dict[str, Any]:
    """The stage of ranges, without what is accumulated."""
    if bucket.buckets is not None:
        body: dict[str, Any] = {"groupBy": emit(bucket.value, scope), "buckets": bucket.buckets}
        return {"$bucketAuto": body | ({"granularity": bucket.granularity} if bucket.granularity is not None else {})}
    body = {"groupBy": emit(bucket.value, scope), "boundaries": list(map(_limit, bucket.boundaries))}
    return {"$bucket": body | ({"default": _limit(bucket.default)} if bucket.default is not None else {})}


def _limit(value: Any) -> Any:
    """A value as ``$bucket`` takes it: the server evaluates it twice, so what is a literal at first is none then."""
    if constant(value) is not value:
        raise StatementError(f"func.bucket() takes no documents and texts that begin with $, as {value!r:.80}")
    return value
