"""Documents that changed underneath: what a flush must have matched, and which documents it did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from superorm.compile.plan import Find
from superorm.exc import StaleDocumentError
from superorm.expr.narrow import is_dict, is_list
from superorm.schema.compare import same
from superorm.schema.fields import MISSING
from superorm.unitofwork.encode import key_batches
from superorm.unitofwork.flush import FlushPlan
from superorm.unitofwork.identity import identity
from superorm.unitofwork.update_ops import operators_of
from superorm.unitofwork.writes import Delete, Update, Write

__all__ = ["must_match", "stale_documents", "stale_error"]

_NAMED = 10
"""How many keys a message names."""


def must_match(write: Write) -> int:
    """How many documents a write of a flush has to match."""
    if isinstance(write, Update):
        return len(write.ops)
    return len(write.filters) if isinstance(write, Delete) and write.strict else 0


def stale_documents(write: Write) -> list[Find]:
    """The reads that show, after a write that matched too few, what is there now, as far as it is looked at."""
    filters = _filters(write)
    paths = {"_id"}
    if isinstance(write, Update):
        compared = [operators_of(op["u"]) for op in write.ops if len(op["q"]) > 1]
        paths |= {path.partition(".")[0] for update in compared for fields in update.values() for path in fields}
    projection = dict.fromkeys(paths, 1)
    keys = [filter["_id"] for filter in filters]
    return [Find(write.collection, {"_id": {"$in": part}}, projection) for part in key_batches(keys)]


def stale_error(plan: FlushPlan, write: Write, matched: int, found: Sequence[dict[str, Any]]) -> StaleDocumentError:
    """The error that names the documents which were changed or deleted underneath, as far as that can be seen now."""
    there = {identity(document["_id"]): document for document in found}
    filters = _filters(write)
    stale: list[Any] = []
    for number, filter in enumerate(filters):
        document = there.get(identity(filter["_id"]))
        if isinstance(write, Update):
            done = document is not None and (len(filter) == 1 or _shows(document, operators_of(write.ops[number]["u"])))
        else:
            done = document is None
        if not done:
            stale.append(filter["_id"])
    missing = len(filters) - matched
    ambiguous = len(stale) != missing and isinstance(write, Delete)  # others deleted some, as if it had been this flush
    if not matched or ambiguous:
        stale = [filter["_id"] for filter in filters]
    by_class: dict[type, list[Any]] = {}
    mappings = plan.mappings(write.collection)
    for key in stale:
        by_class.setdefault(mappings[identity(key)].cls, []).append(key)
    names = "; ".join(f"{cls.__name__} {_listed(keys)}" for cls, keys in by_class.items())
    what = "changed" if isinstance(write, Update) else "deleted"
    return StaleDocumentError(
        f"{missing} of {len(filters)} {what} documents in {write.collection} were changed or deleted underneath"
        f"{f' ({names})' if names else ''}; roll back, refresh() them and change them again",
        document_class=next(iter(by_class), None),
        key=stale[0] if len(stale) == 1 else None,
    )


def _filters(write: Write) -> Sequence[Mapping[str, Any]]:
    """The filters of updates or deletes, each of which names a key."""
    if isinstance(write, Update):
        return [op["q"] for op in write.ops]
    return write.filters if isinstance(write, Delete) else []


def _listed(keys: Sequence[Any]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(f"{key!r:.80}" for key in keys[:_NAMED]) + more


def _shows(document: dict[str, Any], update: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a document looks as an update leaves it."""
    sets = (same(_at(document, path), value) for path, value in update.get("$set", {}).items())
    return all(sets) and all(_at(document, path) is MISSING for path in update.get("$unset", {}))


def _at(document: dict[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        if is_list(value):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else MISSING
        else:
            value = value.get(part, MISSING) if is_dict(value) else MISSING
    return value
