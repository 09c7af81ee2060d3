"""What is known of uploads and references, and which blobs may go. Decisions only."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from superorm.artifacts.registry import REGISTRY
from superorm.unitofwork.writes import Delete, Update, UpdateOp

__all__ = [
    "CLOCK",
    "FACTS",
    "IDENTITY",
    "Place",
    "begin",
    "claim",
    "clear",
    "condemn",
    "drop",
    "end",
    "forget",
    "garbage",
    "give_up",
    "identify",
    "is_due",
    "is_of",
    "mark",
    "new_key",
    "register_place",
    "renew",
    "tell_time",
    "unclaim",
]

FACTS = "_superorm_artifacts"
"""What a registry of blobs knows beside the blobs.

``{_id: "registry", id}``: its own name, which its physical keys begin with.
``{_id: "clock", now}``: the server's time, when it was last asked for.
``{_id: [collection, path], kind: "place"}``: where references may be.
``{_id: key, kind: "upload", began}``: a physical key that is being written, or whose commit never came.

A commit removes the last kind in its transaction, and fails where it is not there any more.
So does a collection that gives an upload up, before it deletes the bytes: one of the two wins.

``{_id: "claim:" + key, kind: "claim"}``: the commit of an upload that began when its transaction was open already,
which can neither see nor remove it. A collection writes the same before it gives the upload up:
so the two conflict for as long as the transaction is open.
"""

IDENTITY, CLOCK = "registry", "clock"


@frozen
class Place:
    """Where the hashes of blobs that are referred to may be."""

    collection: str
    path: str


def identify() -> Update:
    """Give the registry a name, unless it has one."""
    new = {"id": secrets.token_hex(6)}
    return Update(FACTS, [UpdateOp(q={"_id": IDENTITY}, u={"$setOnInsert": new}, upsert=True)])


def register_place(place: Place) -> Update:
    """Say where references may be: before the first one is written there."""
    new = {"kind": "place", "collection": place.collection, "path": place.path}
    name = f"place:{place.collection}:{place.path}"
    return Update(FACTS, [UpdateOp(q={"_id": name}, u={"$setOnInsert": new}, upsert=True)])


def tell_time() -> Update:
    """Have the server write down its time."""
    return Update(FACTS, [UpdateOp(q={"_id": CLOCK}, u={"$currentDate": {"now": True}}, upsert=True)])


def new_key(registry: str) -> str:
    """A physical key that was never used."""
    return f"{registry}-{secrets.token_hex(16)}"


def is_of(registry: str, key: str) -> bool:
    """Whether a physical key was made under this name."""
    return key.startswith(f"{registry}-")


def begin(key: str) -> Update:
    """Write down that a key is about to be written."""
    change = {"$set": {"kind": "upload"}, "$currentDate": {"began": True}}
    return Update(FACTS, [UpdateOp(q={"_id": key}, u=change, upsert=True)])


def renew(keys: Iterable[str]) -> Update:
    """The grace periods of these uploads begin anew; each must be there still."""
    return Update(
        FACTS, [UpdateOp(q={"_id": key, "kind": "upload"}, u={"$currentDate": {"began": True}}) for key in keys]
    )


def end(keys: Iterable[str]) -> Delete:
    """The commits of these uploads have come; each must be there still."""
    return Delete(FACTS, [{"_id": key, "kind": "upload"} for key in keys])


def claim(keys: Iterable[str]) -> Update:
    """Say that the commits of these uploads are under way, or find that they have come."""
    new = {"$setOnInsert": {"kind": "claim"}}
    return Update(FACTS, [UpdateOp(q={"_id": _claim(key)}, u=new, upsert=True) for key in keys])


def unclaim(key: str) -> Delete:
    """Remove what `claim` wrote."""
    return Delete(FACTS, [{"_id": _claim(key)}])


def give_up(upload: Mapping[str, Any]) -> Delete:
    """Have the commit of an upload fail, unless it was gone on with since it was read."""
    return Delete(FACTS, [{"_id": upload["_id"], "kind": "upload", "began": upload["began"]}])


def _claim(key: str) -> str:
    return f"claim:{key}"


def mark(blob: Mapping[str, Any]) -> Update:
    """Begin the grace period of a blob that nothing refers to, unless a commit came."""
    return Update(REGISTRY, [UpdateOp(q=_same(blob), u={"$currentDate": {"unused": True}})])


def drop(sha256: str, *, only: bool = False) -> UpdateOp:
    """Begin the grace period of a blob that something referred to until now, as the `only` thing that ever did."""
    filter = {"_id": sha256, "state": "live", **({"uses": 1} if only else {})}
    return UpdateOp(q=filter, u={"$currentDate": {"unused": True}})


def clear(blob: Mapping[str, Any]) -> Update:
    """End the grace period of a blob that something refers to after all."""
    return Update(REGISTRY, [UpdateOp(q=_same(blob), u={"$unset": {"unused": ""}})])


def condemn(blob: Mapping[str, Any]) -> Update:
    """Take a blob from those who store its content from now on, unless a commit came."""
    return Update(REGISTRY, [UpdateOp(q=_same(blob), u={"$set": {"state": "condemned"}})])


def forget(blob: Mapping[str, Any]) -> Delete:
    """Remove a condemned blob from the registry, unless its content was stored again."""
    return Delete(REGISTRY, [{"_id": blob["_id"], "key": blob["key"], "state": "condemned"}])


def _same(blob: Mapping[str, Any]) -> dict[str, Any]:
    """Matches a blob as it was read: live, and touched by no commit since."""
    return {"_id": blob["_id"], "key": blob["key"], "state": "live", "touched": blob.get("touched")}


def is_due(since: datetime | None, now: datetime, grace: timedelta) -> bool:
    """Whether the grace period is over; both times are the server's."""
    return since is not None and now - since >= grace


def garbage(
    stored: Iterable[tuple[str, datetime]],
    uploads: Sequence[str],
    registered: Sequence[str],
    registry: str,
    now: datetime,
    grace: timedelta,
) -> list[str]:
    """Physical keys of this registry that nobody knows any more.

    `stored` was listed first, then the `uploads` were read, then what is `registered`: as each upload is written down
    before it begins and registered as that is removed, what is in neither will never be in either.
    """
    known = {*uploads, *registered}
    return [key for key, uploaded in stored if is_of(registry, key) and key not in known and now - uploaded >= grace]
