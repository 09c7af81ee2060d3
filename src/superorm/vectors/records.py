"""The records that keep vector engines equal to the documents, and what is decided from them. Nothing here does I/O.

The collection `COLLECTION` beside the documents holds, per vector index `i` and engine, a *state*::

    {_id: "<i>@<engine>", kind: "state", i, engine, n, floor, ver, table, dim, metric, norm, made, changed, drop,
     coming}

`n` counts publications, `ver` is the version of the engine's `table` that publication `n` made,
no row of which is longer than `norm`; records stamped above `floor` are all kept.
And per commit *records* of the keys it touched::

    {_id: ObjectId, kind: "record", i, keys: [...], seq: {<engine>: n}}

A missing stamp means: not applied to that engine.
Without transactions a record is also ``open: true``, with its `owner`, until its documents are written.
One document of it says whether the version of a model was announced to change, of whatever index::

    {_id: "models", kind: "models", token: ObjectId}

The token is another one after each announcement. Fences lie there too: see `superorm._async.vector_fences`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from attrs import field, frozen
from bson import ObjectId

from superorm.codec.keys import encode_key
from superorm.schema.vector_spec import FilterField, IndexSpec

__all__ = [
    "COLLECTION",
    "INDEXES",
    "MODELS",
    "Coming",
    "Look",
    "Made",
    "Moving",
    "Need",
    "Record",
    "State",
    "batch",
    "in_parts",
    "keys_of",
    "look_filter",
    "need_of",
    "new_records",
    "prunable",
    "state_id",
]

COLLECTION = "_superorm_records"
INDEXES = "_superorm_indexes"
"""The collection of what else is recorded of indexes, which outlives the records: these can be made anew."""
MODELS = "models"
"""The ``_id`` of what tells of announcements."""
KEYS_PER_RECORD = 5_000
BYTES_OF_KEYS = 4 << 20
"""So many bytes of keys stand in one record or one statement, of which the server takes 16 MiB."""
MANY_RECORDS = 50
MANY_KEYS = 2_000

Need: TypeAlias = Literal["build", "apply", "apply soon"]
"""What is to be done before a search, build the copy or apply the many records; or in the background."""


@frozen
class Made:
    """How a table was made."""

    n: int
    """By which publication."""
    at: datetime
    """By the server's clock once it is recorded, as programs compare each other's times."""
    index: IndexSpec | None
    filters: tuple[FilterField, ...] = ()
    """The fields that it mirrors, in the order of its columns."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Made:
        index = document["index"]
        spec = None if index is None else IndexSpec(index["kind"], index["parameters"])
        return cls(document["n"], document["at"], spec, _fields(document.get("filters")))

    def publishing(self, coming: Coming | None) -> dict[str, dict[str, Any]]:
        """The change of the state that records it, at the server's time; what it mirrors is not `coming` any more."""
        index, filters = self.index, [field.as_document() for field in self.filters]
        stored = None if index is None else {"kind": index.kind, "parameters": dict(index.parameters)}
        change: dict[str, dict[str, Any]] = {
            "$set": {"made.n": self.n, "made.index": stored, "made.filters": filters},
            "$currentDate": {"made.at": True},
        }
        if coming is not None:
            change["$pull"] = {"coming.filters": {"path": {"$in": [field.path for field in self.filters]}}}
        return change


@frozen
class Coming:
    """Fields that a table is to mirror as soon as every program knows it, and records their changes."""

    at: datetime
    """Since when that is announced, by the server's clock."""
    filters: tuple[FilterField, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Coming:
        return cls(document["at"], _fields(document["filters"]))

    @staticmethod
    def announcing(fields: Iterable[FilterField]) -> dict[str, dict[str, Any]]:
        """The change of the state that announces these fields, with others that are, at the server's time."""
        named = {"$each": [field.as_document() for field in fields]}
        return {"$currentDate": {"coming.at": True}, "$addToSet": {"coming.filters": named}}


@frozen
class State:
    """How far one engine is with one index."""

    n: int
    floor: int
    ver: int | None
    """None until the first build, and always for an engine in memory."""
    table: str | None
    dim: int | None = None
    metric: str | None = None
    norm: float | None = None
    """No row of the table is longer; None for an engine in memory, and for tables made before this was recorded."""
    made: Made | None = None
    """None for an engine in memory that mirrors no fields, and for tables made before this was recorded."""
    changed: int = 0
    """The keys that were applied to the table since it was made."""
    drop: Mapping[str, datetime] = field(factory=dict[str, datetime])
    """Tables that do not serve, or not yet, by the end of their names, each with the time from which none needs it."""
    coming: Coming | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> State:
        get, made, coming = document.get, document.get("made"), document.get("coming")
        return cls(
            document["n"],
            document["floor"],
            get("ver"),
            get("table"),
            get("dim"),
            get("metric"),
            get("norm"),
            None if made is None else Made.of(made),
            get("changed") or 0,
            get("drop") or {},
            None if coming is None else Coming.of(coming),
        )

    @property
    def filters(self) -> tuple[FilterField, ...]:
        """The fields that the table mirrors, in the order of its columns."""
        return () if self.made is None else self.made.filters

    @property
    def recorded(self) -> set[str]:
        """The stored paths of fields beside the vector whose changes are to be recorded."""
        coming = () if self.coming is None else self.coming.filters
        return {field.path for field in (*self.filters, *coming)}


@frozen
class Record:
    """The keys that one commit touched."""

    id: ObjectId
    keys: Sequence[Any]
    seq: int | None
    """The publication of this engine that applied the record; None: not applied."""
    open: bool = False
    """Whether its documents may not be written yet."""
    owner: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any], engine: str) -> Record:
        seq = _stamps(document).get(engine)
        return cls(document["_id"], document["keys"], seq, bool(document.get("open")), document.get("owner"))


@frozen
class Moving:
    """The version of a model, vectors of which may wait beside the documents: see `superorm.vectors.staged`."""

    model: str
    version: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Moving:
        return cls(document["model"], document["version"])


@frozen
class Look:
    """State and records of one index and engine, read in one find."""

    state: State | None
    records: Mapping[ObjectId, Record] = field(factory=dict[ObjectId, Record])
    since: int | None = None
    """The publication after which stamped records were read too; None: only records not stamped."""
    moving: Moving | None = None
    """Where the documents' vectors are to be looked for too; None: nowhere else."""

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]], engine: str, since: int | None = None) -> Look:
        """Of what the find yielded; states of other engines and documents of other kinds are left out."""
        state: State | None = None
        moving: Moving | None = None
        records: dict[ObjectId, Record] = {}
        for document in documents:
            if document.get("kind") == "record":
                records[document["_id"]] = Record.of(document, engine)
            elif document.get("kind") == "state" and document.get("engine") == engine:
                state = State.of(document)
            elif document.get("kind") == "moving":
                moving = Moving.of(document)
        return cls(state, records, since, moving)

    def reaches(self, n: int) -> bool:
        """Whether all records stamped after publication `n` were read."""
        return (self.state is not None and self.state.n <= n) or (self.since is not None and self.since <= n)

    @property
    def unstamped(self) -> list[Record]:
        return [record for record in self.records.values() if record.seq is None]

    @property
    def pending(self) -> dict[str, Any]:
        """The keys that the published version may not show as the documents are."""
        return keys_of(self.unstamped)


def look_filter(index: str, engine: str, since: int | None) -> dict[str, Any]:
    """What a look reads: the state and the records not stamped, with those stamped after `since`."""
    stamp = f"seq.{engine}"
    return {"i": index, stamp: None} if since is None else {"i": index, "$or": [{stamp: None}, {stamp: {"$gt": since}}]}


def state_id(index: str, engine: str) -> str:
    """The ``_id`` of a state."""
    return f"{index}@{engine}"


def keys_of(records: Iterable[Record]) -> dict[str, Any]:
    """Canonical keys, each with the ``_id`` it stands for."""
    return {encode_key(key): key for record in records for key in record.keys}


def new_records(index: str, keys: Iterable[Any], *, owner: str | None = None) -> list[dict[str, Any]]:
    """Records of the keys, each once; with an owner they are open."""
    extra = {} if owner is None else {"open": True, "owner": owner}
    parts = _parts_of(list(keys))
    return [{"_id": ObjectId(), "kind": "record", "i": index, "keys": part, **extra} for part in parts]


def _parts_of(keys: Sequence[Any]) -> list[list[Any]]:
    """The keys, each once, in parts that one record has room for."""
    kinds = set(map(type, keys))
    if kinds == {int} or kinds == {ObjectId}:  # small, and equal where the server holds them equal
        distinct = [*dict.fromkeys(keys)]
        return [distinct[start : start + KEYS_PER_RECORD] for start in range(0, len(distinct), KEYS_PER_RECORD)]
    return in_parts({encode_key(key): key for key in keys}, KEYS_PER_RECORD)


def in_parts(keys: Mapping[str, Any], most: int) -> list[list[Any]]:
    """The ``_id`` values under their canonical keys, in parts of at most `most` that a statement has room for."""
    parts: list[list[Any]] = []
    part: list[Any] = []
    room = 0
    for key, id in keys.items():
        size = len(key) // 2  # hexadecimal digits
        if room < size or len(part) == most:
            part, room = [], BYTES_OF_KEYS
            parts.append(part)
        part.append(id)
        room -= size
    return parts


def batch(records: Iterable[Record], limit: int) -> list[Record]:
    """The records to apply in one publication: done, not stamped, and of about `limit` keys together."""
    chosen: list[Record] = []
    for record in records:
        if record.seq is None and not record.open:
            chosen.append(record)
            limit -= len(record.keys)
            if limit <= 0:
                break
    return chosen


def _fields(documents: Iterable[Mapping[str, Any]] | None) -> tuple[FilterField, ...]:
    return tuple(FilterField(one["path"], one["kind"]) for one in documents or ())


def _stamps(document: Mapping[str, Any]) -> Mapping[str, int]:
    return document.get("seq") or {}


def need_of(look: Look) -> Need | None:
    """Whether so many records are pending that they are to be applied before a search."""
    unstamped = look.unstamped
    if len(unstamped) >= MANY_RECORDS or sum(len(record.keys) for record in unstamped) > MANY_KEYS:
        return "apply"
    return None


def prunable(
    documents: Sequence[Mapping[str, Any]], states: Sequence[Mapping[str, Any]], late: datetime
) -> tuple[list[ObjectId], dict[str, int], list[str]]:
    """Which old records can go, the floor this gives each engine, and the states that are so far behind that they go.

    `documents` are records older than any reader. A record goes when every engine has stamped it;
    one older than `late` goes in any case, and an engine that has not stamped it must start anew.
    """
    lost = {
        state["_id"]
        for state in states
        for document in documents
        if document["_id"].generation_time < late
        and not document.get("open")
        and state["engine"] not in _stamps(document)
    }
    kept = [state for state in states if state["_id"] not in lost]
    ids: list[ObjectId] = []
    floors: dict[str, int] = {}
    for document in documents:
        stamps = _stamps(document)
        if not document.get("open") and all(state["engine"] in stamps for state in kept):
            ids.append(document["_id"])
            for state in kept:
                floors[state["_id"]] = max(floors.get(state["_id"], 0), stamps[state["engine"]])
    return ids, floors, sorted(lost)
