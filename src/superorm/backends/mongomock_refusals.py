"""What mongomock would take and then do wrongly, or ignore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from superorm.exc import UnsupportedError
from superorm.expr.narrow import is_dict, is_list

__all__ = ["refuse_index", "refuse_paths_through_scalars"]

_INDEX_OPTIONS = frozenset({"expireAfterSeconds", "name", "partialFilterExpression", "sparse"})


def refuse_index(keys: Sequence[tuple[str, int | str]], options: Mapping[str, Any]) -> None:
    """Refuse what mongomock would take and then ignore."""
    refused = [f"{kind} indexes" for _, kind in keys if isinstance(kind, str)]
    refused += ["wildcard indexes" for path, _ in keys if "$**" in path]
    refused += [f"indexes with {option}" for option in options if option not in _INDEX_OPTIONS]
    if "expireAfterSeconds" in options and ("." in keys[0][0] or "partialFilterExpression" in options):
        refused.append("expiry by nested fields, or by partial indexes")
    if refused:
        raise UnsupportedError(f"mongomock has no {refused[0]}")


def refuse_paths_through_scalars(document: Mapping[str, Any], update: Any) -> None:
    """Refuse ``$set: {"a.b": 1}`` where ``a`` is null, as a server does; mongomock would do nothing."""
    if isinstance(update, list):
        return
    for operator, fields in update.items():
        for path in fields if operator != "$unset" else ():
            *parents, _ = path.split(".")
            holder: Any = document
            for depth, part in enumerate(parents, 1):
                if is_list(holder) and part.isdecimal():
                    if len(holder) <= int(part):
                        raise UnsupportedError(f"mongomock has no {operator} of {path!r} beyond the end of the list")
                    holder = holder[int(part)]
                elif is_dict(holder) and part in holder:
                    holder = holder[part]
                else:
                    break
                if not is_dict(holder) and not is_list(holder):
                    raise OperationFailure(f"{operator} of {path!r}: {'.'.join(parents[:depth])!r} is {holder!r}")
