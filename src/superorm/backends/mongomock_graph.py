"""Walks through the documents of a mongomock database, by the server's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Regex

from superorm.backends.mongomock_expressions import evaluate
from superorm.backends.mongomock_match import matcher
from superorm.backends.mongomock_values import MISSING, at_path, lacks, order_key
from superorm.expr.narrow import is_list

__all__ = ["graph_lookup"]


def graph_lookup(found: list[dict[str, Any]], database: Any, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The documents, each with those that ``$graphLookup`` reaches from it."""
    for name in (body["as"], body.get("depthField", "")):
        if "." in name:
            raise lacks(f"$graphLookup with fields in documents, such as {name}")
    matches = matcher(body.get("restrictSearchWithMatch", {}))
    others = [one for one in database[body["from"]].find() if matches(one)]
    return [
        {**document, body["as"]: _reached(others, evaluate(body["startWith"], {"ROOT": document}), body)}
        for document in found
    ]


def _reached(others: list[dict[str, Any]], start: Any, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    values, depth, most = _values(start), 0, body.get("maxDepth")
    while values and (most is None or depth <= most):
        matches = matcher({body["connectToField"]: {"$in": values, "$exists": True}})
        new = [one for one in others if order_key(one["_id"]) not in found and matches(one)]
        shown = {body["depthField"]: depth} if "depthField" in body else {}
        found |= {order_key(one["_id"]): {**one, **shown} for one in new}
        path = body["connectFromField"].split(".")
        values = [value for one in new for value in _values(at_path(one, path))]
        depth += 1
    return list(found.values())


def _values(value: Any) -> list[Any]:
    """Where a walk goes on: the elements of a list; from nothing nowhere."""
    items = value if is_list(value) else [value]
    if any(isinstance(item, Regex) for item in items):
        raise lacks("$graphLookup by regular expressions")
    return [item for item in items if item is not MISSING]
