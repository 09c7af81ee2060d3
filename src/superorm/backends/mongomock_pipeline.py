"""The stages of pipelines over a mongomock database, by the server's rules.

mongomock's own are of the view that Python takes of types, and of what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from bson import Int64, Regex
from pymongo.errors import OperationFailure

from superorm.backends.mongomock_expressions import SUPPORTED, evaluate, prepared
from superorm.backends.mongomock_graph import graph_lookup
from superorm.backends.mongomock_match import matcher
from superorm.backends.mongomock_operators import ACCUMULATORS
from superorm.backends.mongomock_values import (
    MISSING,
    at_path,
    is_nothing,
    is_number,
    is_true,
    lacks,
    or_null,
    order_key,
    whole,
)
from superorm.exc import UnsupportedError
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.operators import OPERATORS

__all__ = ["UNSUPPORTED_OPERATORS", "aggregated", "projected_documents", "sorted_documents"]

UNSUPPORTED_OPERATORS = frozenset({"$type", *(operator.op for operator in OPERATORS.values())}) - {"", *SUPPORTED}
"""Operators of expressions that there are not."""

Documents = list[dict[str, Any]]


def aggregated(documents: Iterable[dict[str, Any]], database: Any, pipeline: Sequence[Mapping[str, Any]]) -> Documents:
    """What the stages make of documents, which are changed. Raises ``UnsupportedError``, ``OperationFailure``."""
    found = list(documents)
    for stage in pipeline:
        if len(stage) != 1:
            raise OperationFailure(f"a stage has one name, not {', '.join(stage) or 'none'}")
        ((name, body),) = stage.items()
        if name in _WITH_FIELDS and not (is_dict(body) and body):
            raise OperationFailure(f"{name} takes a document with a field or more, not {body!r}")
        try:
            found = _stage(found, database, name, body)
        except (AttributeError, LookupError, TypeError) as error:
            raise UnsupportedError(
                f"mongomock cannot do this, and perhaps no server can: {{{name!r}: {body!r:.200}}} "
                f"({type(error).__name__}: {error})"
            ) from error
    return found


_WITH_FIELDS = frozenset({"$addFields", "$facet", "$group", "$project", "$set", "$sort"})


def _stage(found: Documents, database: Any, name: str, body: Any) -> Documents:
    match name:
        case "$match":
            return list(filter(matcher(body), found))
        case "$facet":
            return [{key: aggregated(map(dict, found), database, stages) for key, stages in body.items()}]
        case "$lookup" if "pipeline" not in body and "let" not in body:
            return _lookup(found, database, body)
        case "$graphLookup":
            return graph_lookup(found, database, body)
        case _ if name in _STAGES:
            return _STAGES[name](found, body)
        case "$limit":
            return found[: whole("$limit", body, 1, 2**63 - 1)]
        case "$skip":
            return found[whole("$skip", body, 0, 2**63 - 1) :]
        case _:
            process: Any = import_module("mongomock.aggregate").process_pipeline
            return list(process(found, database, [{name: body}], None))


# Fields


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What a stage says of fields, by their paths: a document in it is of the fields below."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if not key:
            raise OperationFailure("a field needs a name")
        if is_dict(value) and value and not next(iter(value)).startswith("$"):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _set(found: Documents, fields: Mapping[str, Any]) -> Documents:
    computed = {path: prepared(expression) for path, expression in _flat(fields).items()}
    return [_with(document, document, computed) for document in found]


def _with(document: dict[str, Any], source: Mapping[str, Any], computed: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the computed fields, each expression over the source."""
    values = {path: evaluate(expression, {"ROOT": source}) for path, expression in computed.items()}
    for path, value in values.items():
        document = _put(document, path.split("."), value)
    return document


def _put(holder: Any, path: Sequence[str], value: Any) -> Any:
    """A copy with the value at the path: in each element of a list, and in a new document for what is none."""
    if not path:
        return value
    if is_list(holder):
        return [_put(item, path, value) for item in holder]
    found: dict[str, Any] = {**holder} if is_dict(holder) else {}
    put = _put(found.get(path[0], MISSING), path[1:], value)
    found[path[0]] = put
    if put is MISSING:
        del found[path[0]]
    return found


def projected_documents(found: Documents, fields: Mapping[str, Any]) -> Documents:
    """The documents with the fields that a projection includes, excludes and computes."""
    flat = _flat(fields)
    plain = {path: is_true(value) for path, value in flat.items() if isinstance(value, bool) or is_number(value)}
    computed = {path: value for path, value in flat.items() if path not in plain}
    nested = [path for path in computed if "." in path]
    if nested:
        raise lacks(f"$project of a value to {nested[0]}")
    keeps = bool(computed) or any(keep for path, keep in plain.items() if path != "_id" or len(plain) == 1)
    if keeps:
        wrong = next((path for path, keep in plain.items() if not keep and path != "_id"), None)
        if wrong is not None:
            raise OperationFailure(f"$project cannot exclude {wrong}, as it includes other fields")
        paths = [path.split(".") for path, keep in {"_id": "_id" not in computed, **plain}.items() if keep]
        return [_with(_included(document, paths), document, computed) for document in found]
    paths = [path.split(".") for path, keep in plain.items() if not keep]
    return [_excluded(document, paths) for document in found]


def _included(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if is_list(value):
        return [_included(item, paths) for item in value if is_dict(item) or is_list(item)]
    found: dict[str, Any] = {}
    for key, item in value.items():
        below = [path[1:] for path in paths if path[0] == key]
        if [] in below:
            found[key] = item
        elif below and (is_dict(item) or is_list(item)):
            found[key] = _included(item, below)
    return found


def _excluded(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if is_list(value):
        return [_excluded(item, paths) for item in value]
    if not is_dict(value):
        return value
    found: dict[str, Any] = {}
    for key, item in value.items():
        below = [path[1:] for path in paths if path[0] == key]
        if [] not in below:
            found[key] = _excluded(item, below) if below else item
    return found


def _replace_root(found: Documents, body: Mapping[str, Any]) -> Documents:
    roots = [evaluate(body["newRoot"], {"ROOT": document}) for document in found]
    wrong = next((root for root in roots if not is_dict(root)), None)
    if wrong is not None or not all(map(is_dict, roots)):
        raise OperationFailure(f"$replaceRoot takes documents, not {wrong!r}")
    return roots


# Rows


def sorted_documents(found: Documents, by: Mapping[str, Any]) -> Documents:
    """The documents in the order of fields. Raises ``UnsupportedError`` where there are lists.

    Of a list a server takes the least or the greatest element.
    """
    for path, direction in reversed(list(by.items())):
        if is_dict(direction):
            raise lacks(f"$sort by {direction}")
        if not is_number(direction) or order_key(direction) not in (order_key(1), order_key(-1)):
            raise OperationFailure(f"$sort takes 1 or -1, not {direction!r}")
        found = sorted(found, key=partial(_place, path), reverse=order_key(direction) == order_key(-1))
    return found


def _place(path: str, document: Any) -> tuple[Any, ...]:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if is_dict(value) else value if is_list(value) else None
    if is_list(value) and (len(value) > 1 or path == "_id" or "." in path or any(map(is_list, value))):
        raise UnsupportedError(f"mongomock cannot sort by {path}, as there are lists")
    return order_key(next(iter(value), MISSING) if is_list(value) else value)


def _group(found: Documents, body: Mapping[str, Any]) -> Documents:
    if "_id" not in body:
        raise OperationFailure("$group takes an _id")
    groups: dict[Any, tuple[Any, Documents]] = {}
    for document in found:
        key = evaluate(body["_id"], {"ROOT": document})
        groups.setdefault(order_key(or_null(key)), (or_null(key), []))[1].append(document)
    fields = {path: accumulator for path, accumulator in body.items() if path != "_id"}
    return [{"_id": key, **_accumulated(fields, rows)} for key, rows in groups.values()]


def _accumulated(fields: Mapping[str, Any], rows: Documents) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, accumulator in fields.items():
        ((op, expression),) = accumulator.items()
        if op not in _OVER_ROWS:
            raise lacks(op)
        if is_list(expression):
            raise OperationFailure(f"{op} takes one operand, not {expression!r}")
        found[name] = _OVER_ROWS[op]([evaluate(expression, {"ROOT": row}) for row in rows])
    return found


_OVER_ROWS: dict[str, Callable[[list[Any]], Any]] = {
    **ACCUMULATORS,
    "$first": lambda values: or_null(values[0]),
    "$last": lambda values: or_null(values[-1]),
    "$push": lambda values: [value for value in values if value is not MISSING],
}


def _bucket(found: Documents, body: Mapping[str, Any]) -> Documents:
    limits = [evaluate(limit, {"ROOT": {}}) for limit in body["boundaries"]]
    keys = [order_key(limit) for limit in limits]
    if keys != sorted(set(keys)) or len({key[0] for key in keys}) > 1:
        raise OperationFailure(f"$bucket takes boundaries of one type in ascending order, not {limits!r}")
    rows: dict[Any, tuple[Any, Documents]] = {}
    for document in found:
        value = evaluate(body["groupBy"], {"ROOT": document})
        place = sum(key <= order_key(value) for key in keys)
        if 0 < place < len(keys):
            key = limits[place - 1]
        elif "default" in body:
            key = evaluate(body["default"], {"ROOT": {}})
        else:
            raise OperationFailure(f"$bucket has no default for {value!r}, which is in none of its ranges")
        rows.setdefault(order_key(key), (key, []))[1].append(document)
    fields = body.get("output", {"count": {"$sum": 1}})
    return [{"_id": rows[key][0], **_accumulated(fields, rows[key][1])} for key in sorted(rows)]


def _unwind(found: Documents, body: Any) -> Documents:
    options: dict[str, Any] = body if is_dict(body) else {"path": body}
    path, index = options["path"], options.get("includeArrayIndex")
    if not isinstance(path, str) or not path.startswith("$"):
        raise OperationFailure(f"$unwind takes a path that begins with $, not {path!r}")
    parts, rows = path[1:].split("."), list[dict[str, Any]]()
    for document in found:
        through = [at_path(document, parts[:end]) for end in range(1, len(parts))]
        value = MISSING if any(map(is_list, through)) else at_path(document, parts)
        elements: list[tuple[int | None, Any]] = []
        if is_list(value) and value:
            elements = [(Int64(place), element) for place, element in enumerate(value)]
        elif is_nothing(value) or value == []:
            if options.get("preserveNullAndEmptyArrays"):
                elements = [(None, MISSING if value == [] else value)]
        else:
            elements = [(None, value)]
        for place, element in elements:
            row = document if is_nothing(value) else _put(document, parts, element)
            rows.append(row if index is None else _put(row, index.split("."), place))
    return rows


def _lookup(found: Documents, database: Any, body: Mapping[str, Any]) -> Documents:
    """The documents that an equality joins. Raises ``UnsupportedError`` for lists on the way, and empty ones."""
    others = list(database[body["from"]].find())
    local, foreign = body["localField"], body["foreignField"]
    rows: Documents = []
    for document in found:
        value: Any = document
        for part in local.split("."):
            if is_list(value):
                raise UnsupportedError(f"mongomock cannot join by {local}, as there are lists on the way")
            value = value.get(part) if is_dict(value) else None
        if isinstance(value, Regex):
            raise UnsupportedError(f"mongomock cannot join by {local} where it is a regular expression")
        if value == [] or (value is None and "." in foreign):
            raise UnsupportedError(f"mongomock cannot join by {local} where it is {value}")
        joined = list(filter(matcher({foreign: {"$in": value if is_list(value) else [value]}}), others))
        rows.append(_put(document, body["as"].split("."), joined))
    return rows


def _count(found: Documents, name: object) -> Documents:
    if not isinstance(name, str) or not name or name.startswith("$") or {".", "\0"} & set(name):
        raise OperationFailure(f"$count takes a text that can be the name of a field, not {name!r}")
    return [{name: len(found)}] if found else []


_STAGES: dict[str, Callable[[Documents, Any], Documents]] = {
    "$addFields": _set,
    "$bucket": _bucket,
    "$count": _count,
    "$group": _group,
    "$project": projected_documents,
    "$replaceRoot": _replace_root,
    "$set": _set,
    "$sort": sorted_documents,
    "$unwind": _unwind,
}
