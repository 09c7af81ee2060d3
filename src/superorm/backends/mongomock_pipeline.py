"""Pipelines as mongomock has to be given them, so that it computes what a server would.

In mongomock a key that is missing ends the whole expression, an operator's operand cannot stand in a list of its own,
and some operators fail on null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from bson import Decimal128

from superorm.exc import UnsupportedError
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.operators import OPERATORS

__all__ = ["UNSUPPORTED_OPERATORS", "adapted", "adapted_filter", "aggregated", "refuse_lists"]

_RIGHT = """
    $abs $add $and $anyElementTrue $arrayElemAt $arrayToObject $avg $ceil $concat $concatArrays $cond
    $dayOfMonth $dayOfWeek $dayOfYear $divide $eq $exp $filter $first $floor $gt $gte $hour $ifNull $in $isArray
    $isNumber $last $let $literal $ln $log $log10 $lt $lte $map $max $millisecond $min $minute $mod $month
    $multiply $ne $not $objectToArray $or $pow $push $second $size $slice $split $sqrt $subtract $sum $switch
    $trunc $week $year
"""
UNSUPPORTED_OPERATORS = frozenset({"$type", *(operator.op for operator in OPERATORS.values())}) - {"", *_RIGHT.split()}
"""Operators of expressions that mongomock does not have, or computes otherwise than a server."""

_NULL_OF_NULL = """
    $arrayElemAt $dayOfMonth $dayOfWeek $dayOfYear $filter $hour $millisecond $minute $month $second $slice $week $year
"""
"""What fails on null in mongomock."""
_FILTERS = frozenset({"$and", "$or", "$nor"})


def adapted(pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages for mongomock."""
    return [{name: _stage(name, body) for name, body in stage.items()} for stage in pipeline]


def aggregated(collection: Any, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the adapted stages make of a mongomock collection. Raises `UnsupportedError`."""
    return _run(collection.find(), collection.database, pipeline)


def _run(documents: Iterable[dict[str, Any]], database: Any, pipeline: Sequence[Mapping[str, Any]]) -> list[Any]:
    process: Any = import_module("mongomock.aggregate").process_pipeline
    found = list(documents)
    for stage in pipeline:
        if "$sort" in stage:
            refuse_lists(found, stage["$sort"])
        if "$lookup" in stage:
            _refuse_joins(found, stage["$lookup"])
        if "$facet" in stage:
            found = [{name: _run(map(dict, found), database, stages) for name, stages in stage["$facet"].items()}]
        else:
            found = list(process(found, database, [stage], None))
    return found


def refuse_lists(documents: Iterable[Mapping[str, Any]], paths: Iterable[str]) -> None:
    """Refuse to sort by lists: a server takes their least or greatest element, mongomock the first one."""
    for document in documents:
        for path in paths:
            value: Any = document
            for part in path.split("."):
                value = value.get(part) if is_dict(value) else value
            if is_list(value) and (len(value) > 1 or "." in path or any(map(is_list, value))):
                raise UnsupportedError(f"mongomock cannot sort by {path}, as there are lists")


def _refuse_joins(documents: Iterable[Mapping[str, Any]], lookup: Mapping[str, Any]) -> None:
    """Refuse what mongomock joins otherwise than a server: by lists on the way, nothing by an empty list."""
    for document in documents:
        value: Any = document
        for part in str(lookup.get("localField", "")).split("."):
            if is_list(value):
                raise UnsupportedError(
                    f"mongomock cannot join by {lookup['localField']}, as there are lists on the way"
                )
            value = value.get(part) if is_dict(value) else None
        if value == [] or (value is None and "." in str(lookup.get("foreignField"))):
            raise UnsupportedError(f"mongomock cannot join by {lookup['localField']} where it is {value}")


def adapted_filter(filter: Mapping[str, Any]) -> dict[str, Any]:
    """The filter for mongomock. Raises `UnsupportedError` for values that it cannot compare."""
    found: dict[str, Any] = {}
    more: list[dict[str, Any]] = []
    for key, condition in filter.items():
        if key == "$expr":
            found[key] = _expression(condition)
        elif key in _FILTERS:
            found[key] = [adapted_filter(item) for item in condition]
        else:
            _refuse_incomparable(condition)
            ops = condition if is_dict(condition) else {"$eq": condition}
            special = [op for op, value in ops.items() if _is_special(key, op, value)]
            more += [_each(key, op, ops[op]) for op in special]
            if "." in key:  # mongomock looks for one element that meets all of them
                bounds = [op for op in ops if op in _BOUNDS and op not in special]
                more += [{key: {op: ops[op]}} for op in bounds[1:]]
                special += bounds[1:]
            if not special:
                found[key] = condition
            elif rest := {op: value for op, value in ops.items() if op not in special}:
                found[key] = rest
    return {"$and": [found, *more]} if more else found


def _is_special(path: str, op: str, value: Any) -> bool:
    """Whether mongomock would not find it: lists in lists, null in ``$all``, null below null."""
    if op not in _ANY:
        return False
    values = value if op in ("$in", "$nin", "$all") else [value]
    if op in ("$gte", "$lte"):
        return value is None
    return op == "$all" or any(is_list(item) or (item is None and "." in path) for item in values)


_ANY = {"$all": "$and", "$eq": "$or", "$gte": "$or", "$in": "$or", "$lte": "$or", "$ne": "$nor", "$nin": "$nor"}


_BOUNDS = frozenset({"$gt", "$gte", "$lt", "$lte"})


def _each(path: str, op: str, value: Any) -> dict[str, Any]:
    values = value if op in ("$in", "$nin", "$all") else [value]
    return {_ANY[op]: [_equal(path, item) for item in values]} if values else {path: {"$in": []}}


def _equal(path: str, value: Any) -> dict[str, Any]:
    if is_list(value):
        return {"$or": [{path: {"$eq": value}}, {path: {"$elemMatch": {"$eq": value}}}]}
    if value is None:
        parts = path.split(".")
        above = [".".join(parts[:end]) for end in range(1, len(parts))]
        no_list = {"$eq": None, "$not": {"$type": "array"}}
        return {"$or": [{path: None}, *({parent: no_list} for parent in above)]}
    return {path: {"$eq": value}}


def _refuse_incomparable(value: Any) -> None:
    """Refuse the numbers that Python compares otherwise than a server."""
    if isinstance(value, Decimal128):
        raise UnsupportedError(f"mongomock cannot compare decimals such as {value}")
    if isinstance(value, float) and math.isnan(value):
        raise UnsupportedError("mongomock cannot compare NaN")
    for inner in value.values() if is_dict(value) else value if is_list(value) else ():
        _refuse_incomparable(inner)


def _stage(name: str, body: Any) -> Any:
    match name:
        case "$match":
            return adapted_filter(body)
        case "$project" | "$set" | "$addFields":
            return {key: _value(value) for key, value in body.items()}
        case "$group":
            return {key: _key(value) if key == "_id" else _accumulator(value) for key, value in body.items()}
        case "$bucket" if "output" in body:
            return {**body, "output": {key: _accumulator(value) for key, value in body["output"].items()}}
        case "$facet":
            return {key: adapted(stages) for key, stages in body.items()}
        case _:
            return body


def _key(value: Any) -> Any:
    """The key of a group, or its parts: of what is missing there is none."""
    if is_dict(value) and not any(key.startswith("$") for key in value):
        return {key: _value(part) for key, part in value.items()}
    return _value(value)


def _accumulator(accumulator: Mapping[str, Any]) -> dict[str, Any]:
    """With null for what is missing, but where that is left out."""
    return {op: _value(value) if op == "$push" else _expression(value) for op, value in accumulator.items()}


def _value(value: Any) -> Any:
    """An expression, the value of which may be missing."""
    return value if isinstance(value, str) or (is_dict(value) and "$literal" in value) else _expression(value)


def _expression(value: Any) -> Any:
    if isinstance(value, str):
        is_path = value.startswith("$") and (not value.startswith("$$") or "." in value)
        return {"$ifNull": [value, None]} if is_path else value
    if is_list(value):
        return _list(value)
    if not is_dict(value) or "$literal" in value:
        _refuse_incomparable(value)
        return value
    op = next(iter(value), "")
    if not op.startswith("$"):
        return {key: _expression(inner) for key, inner in value.items()}
    if op == "$gt" and _is_nan(value[op][1]):  # above it are all numbers
        return {"$isNumber": _expression(value[op][0])}
    return _operator(op, _operand(value[op]))


def _list(values: list[Any]) -> Any:
    """A list, of which mongomock would take the elements as they are written."""
    elements = [_expression(value) for value in values]
    if not any(is_dict(element) or str(element).startswith("$") for element in elements):
        return elements
    return {"$concatArrays": [{"$map": {"input": [0], "in": element}} for element in elements]}


def _operand(operand: Any) -> Any:
    """What an operator takes: one expression, several in a list, or several by their names."""
    if is_list(operand):
        return [_expression(item) for item in operand]
    if is_dict(operand) and "branches" in operand:
        branches = [{name: _expression(part) for name, part in branch.items()} for branch in operand["branches"]]
        return {
            **{name: _expression(part) for name, part in operand.items() if name != "branches"},
            "branches": branches,
        }
    return _expression(operand)


def _operator(op: str, operand: Any) -> Any:
    first: Any = next(iter(operand), None) if is_list(operand) else operand
    if op == "$not":
        return {op: first}
    if op == "$anyElementTrue":  # of conditions only
        return {"$in": [True, first]}
    if op == "$arrayElemAt":
        found: dict[str, Any] = {"$ifNull": [{op: operand}, None]}
    else:
        found = {op: operand}
    if op in _NULL_OF_NULL.split():
        needed = first["input"] if op == "$filter" else first
        return {"$cond": [{"$eq": [needed, None]}, None, found]}
    return found


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
