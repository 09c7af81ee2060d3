"""A mongomock database under superorm's terms: one call at a time, types as a server would return them.

mongomock is untyped, and what it stores are the caller's own objects.
So everything that goes in is a decoded copy of its BSON, and so is everything that comes out.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo.errors import CollectionInvalid, OperationFailure
from pymongo.errors import DuplicateKeyError as PyMongoDuplicateKeyError

from superorm.backends.errors import duplicate_key_error, key_in, unique_index_error
from superorm.backends.mongomock_pipeline import (
    UNSUPPORTED_OPERATORS,
    aggregated,
    projected_documents,
    sorted_documents,
)
from superorm.backends.mongomock_refusals import refuse_index, refuse_paths_through_scalars
from superorm.backends.mongomock_store import ByKey, seeking
from superorm.backends.mongomock_unique import PARALLEL_ARRAYS, values_in_two
from superorm.backends.mongomock_updates import resolved
from superorm.codec.keys import sort_key
from superorm.compile.plan import Aggregate, Count, Find, Read
from superorm.exc import StatementError, SuperormError, UnsupportedError, ValidationError, WriteError
from superorm.protocols.capabilities import Capabilities
from superorm.unitofwork.encode import CODEC_OPTIONS, MAX_DOCUMENT_BYTES, encode_documents, encode_operations
from superorm.unitofwork.writes import Delete, Insert, UpdateOp, Write, WriteResult

__all__ = ["CAPABILITIES", "LOCK", "MongomockEngine", "mongomock_client"]

LOCK = threading.RLock()
"""Held through every operation on any mongomock database: mongomock itself checks and writes in two steps."""

_UNSUPPORTED = """
    $bucketAuto $changeStream $collStats $currentOp $densify $documents $fill $geoNear $indexStats $listLocalSessions
    $listSampledQueries $listSearchIndexes $listSessions $merge $out $planCacheStats $rankFusion $redact $replaceWith
    $scoreFusion $search $searchMeta $setWindowFields $shardedDataDistribution $sortByCount $unionWith $unset
    $vectorSearch
"""
CAPABILITIES = Capabilities(
    "mongomock",
    transactions=False,
    unsupported_stages=frozenset(_UNSUPPORTED.split()),
    unsupported_operators=UNSUPPORTED_OPERATORS,
)

_STORED: CodecOptions[dict[str, Any]] = CodecOptions(
    uuid_representation=UuidRepresentation.UNSPECIFIED, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""How mongomock keeps documents: naive UTC datetimes; UUIDs as binary, the only form that it can encode."""

_MAX_NAMESPACE_BYTES = 255

_CLIENTS: dict[str, Any] = {}


def mongomock_client(name: str) -> Any:
    """The process's own mongomock client of that name: the same name is the same data."""
    import mongomock

    with LOCK:
        if name not in _CLIENTS:
            _CLIENTS[name] = mongomock.MongoClient()
        return _CLIENTS[name]


class MongomockEngine:
    """The operations of a data backend, synchronous, over one database of a mongomock client."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self._db = client[name]
        self._collections: dict[str, Any] = {}

    def read(self, plan: Read) -> list[dict[str, Any]]:
        """All documents that the plan yields."""
        if isinstance(plan, Aggregate):
            _refuse_stages(plan.pipeline)
        with LOCK, _errors(f"{self.name}.{plan.collection}", StatementError):
            collection = self._collection(plan.collection)
            if isinstance(plan, Aggregate):
                found = aggregated(collection.find(), self._db, _copy({"": plan.pipeline})[""])
            else:  # mongomock's own find takes an empty Timestamp in the filter for the present time
                found = list(collection._iter_documents(_copy(plan.filter)))
            if isinstance(plan, Count):
                return [{"n": min(len(found), plan.limit or len(found))}]
            if isinstance(plan, Find):
                found = sorted_documents(found, dict(plan.sort))[plan.skip :][: plan.limit or None]
            if isinstance(plan, Find) and plan.projection is not None:
                found = projected_documents(found, _copy(plan.projection))
            return [_copy(document, CODEC_OPTIONS) for document in found]

    def write(self, write: Write) -> WriteResult:
        """Carry out a write, in order, up to the first operation that is refused.

        All of it is encoded first, so a document that cannot be is a ``ValidationError`` before anything is written.
        """
        with LOCK:
            if isinstance(write, Insert):
                documents = [_decode(raw.raw, _STORED) for raw in encode_documents(write.documents).documents]
                for document in documents:
                    self._insert(write.collection, document)
                return WriteResult(len(documents))
            if isinstance(write, Delete):
                encode_operations([{"q": filter} for filter in write.filters])
                return WriteResult(sum(self._delete(write.collection, _copy(one)) for one in write.filters))
            encode_operations(write.ops)
            results = [self._update(write.collection, op) for op in write.ops]
            matched, modified, upserted = zip(*results, strict=True) if results else ((), (), ())
            return WriteResult(sum(matched), sum(modified), tuple(key for keys in upserted for key in keys))

    def _insert(self, collection: str, document: dict[str, Any]) -> None:
        key = document.pop("_id") if "_id" in document else bson.ObjectId()
        document = {"_id": key, **document}
        with self._writing(collection, key):
            self._collection(collection).insert_one(document)

    def _delete(self, collection: str, filter: dict[str, Any]) -> int:
        with self._writing(collection, key_in(filter)):
            deleted: int = self._collection(collection).delete_many(filter).deleted_count
            return deleted

    def _update(self, collection: str, op: UpdateOp) -> tuple[int, int, list[Any]]:
        """Update the matching documents one by one, each with a copy of the update.

        Their number, how many changed, and the key of one that was inserted.
        Left to itself mongomock would store one object in all of them, and leave a failed update half done.
        """
        if isinstance(op["u"], Sequence):
            _refuse_stages(op["u"])
        target = self._collection(collection)
        with self._writing(collection, key_in(op["q"])):
            matching = list(target.find(_copy(op["q"]), limit=0 if op.get("multi") else 1))
        if not matching and op.get("upsert"):
            with self._writing(collection, _upserted_key(op)):
                filter = {key: value for one in reversed(op["q"].get("$and", ())) for key, value in one.items()}
                filter = _copy({**filter, **op["q"]})  # of what is in $and alone, it would make nothing
                inserted = target.update_one(filter, _update_of(op), upsert=True)
            return 1, 0, [_copy({"": inserted.upserted_id}, CODEC_OPTIONS)[""]]
        modified = 0
        for document in matching:
            update = _update_of(op)
            with self._writing(collection, document["_id"]):
                refuse_paths_through_scalars(document, update)
                try:
                    if isinstance(update, list):
                        modified += self._replace(target, document, cast("list[dict[str, Any]]", update))
                        continue
                    filter = {**_copy(op["q"]), "_id": document["_id"]}
                    update = resolved(document, update)
                    modified += target.update_one(filter, update).modified_count if update else 0
                    if _size(document) + _size(update) > MAX_DOCUMENT_BYTES:
                        self._check_size(collection, target.find_one({"_id": document["_id"]}))
                except Exception:
                    target.replace_one({"_id": document["_id"]}, document)
                    raise
        return len(matching), modified, []

    def _replace(self, target: Any, document: dict[str, Any], pipeline: list[dict[str, Any]]) -> int:
        """Make the document what a pipeline makes of it, as mongomock has no update pipelines; 1 where it changed."""
        (changed,) = aggregated([_copy(document)], self._db, pipeline)
        self._check_size(target.name, changed)
        modified: int = target.replace_one({"_id": document["_id"]}, _copy(changed)).modified_count
        return modified

    def _check_size(self, collection: str, document: dict[str, Any]) -> None:
        """Raise ``ValidationError`` for a document that an update has made too large."""
        if _size(document) > MAX_DOCUMENT_BYTES:
            key = _copy({"": document["_id"]}, CODEC_OPTIONS)[""]
            where = f"{self.name}.{collection}, document {key!r:.80}"
            raise ValidationError(f"{where}: the update takes the document over 16 MiB", key=key)

    def collection_names(self) -> set[str]:
        """The names of the collections that exist."""
        with LOCK:
            return set(self._db.list_collection_names())

    def create_collection(self, name: str) -> None:
        """Make the collection unless it exists."""
        with LOCK, suppress(CollectionInvalid):
            _check_length(f"{self.name}.{name}")
            self._db.create_collection(name)

    def drop_collection(self, name: str) -> None:
        """Remove the collection with all that is in it, where there is one."""
        with LOCK:
            self._db.drop_collection(name)

    def create_index(
        self, collection: str, keys: Sequence[tuple[str, int | str]], *, unique: bool = False, **options: Any
    ) -> str:
        """Make the index unless one with the same keys and options exists; its name."""
        refuse_index(keys, options)
        namespace = f"{self.name}.{collection}"
        with LOCK, _errors(namespace, WriteError):
            store = self._collection(collection)._store
            index = {"key": [*keys], **_copy({"unique": unique, **options})}
            name = str(index.pop("name", "_".join(f"{path}_{direction}" for path, direction in keys)))
            index = {option: value for option, value in index.items() if value is not False}
            if store.indexes.get(name, index) != index:
                raise OperationFailure(f"the index {name} exists already with other options")
            if unique and (values := values_in_two(store, index)):
                raise unique_index_error(namespace, ", ".join(values), _copy(values, CODEC_OPTIONS))
            store.create_index(name, index)
            return name

    def indexes(self, collection: str) -> list[dict[str, Any]]:
        """A description of the collection's indexes in the server's form."""
        with LOCK:
            return [_copy(index, CODEC_OPTIONS) for index in self._collection(collection).list_indexes()]

    def _collection(self, name: str) -> Any:
        if name not in self._collections:
            self._collections[name] = seeking(self._db[name])
        store = self._collections[name]._store
        if not isinstance(store._documents, ByKey):  # new, or dropped by another user of the client
            documents = ByKey()
            for document in store._documents.values():
                documents[document["_id"]] = document
            store._documents = documents
        return self._collections[name]

    @contextmanager
    def _writing(self, collection: str, key: Any) -> Generator[None]:
        """Raise mongomock's errors as superorm's, about the document with this ``_id``."""
        namespace = f"{self.name}.{collection}"
        _check_length(namespace)
        with _errors(namespace, WriteError, key):
            try:
                yield
            except PyMongoDuplicateKeyError as error:
                if error.code == PARALLEL_ARRAYS:
                    raise OperationFailure(str(error), error.code) from None
                values = (error.details or {}).get("keyValue") or {"_id": key}
                raise duplicate_key_error(namespace, _copy(values, CODEC_OPTIONS), key) from error


def _check_length(namespace: str) -> None:
    """Raise ``WriteError`` for a collection whose name is too long for a server."""
    if len(namespace.encode()) > _MAX_NAMESPACE_BYTES:
        raise WriteError(f"{namespace}: the name is longer than {_MAX_NAMESPACE_BYTES} bytes")


@contextmanager
def _errors(namespace: str, refused: type[SuperormError], key: Any = None) -> Generator[None]:
    """Raise what mongomock refuses as `refused`, what it cannot do as ``UnsupportedError``."""
    try:
        yield
    except NotImplementedError as error:
        raise UnsupportedError(f"{namespace}: mongomock cannot do this: {error}", key=key) from error
    except (
        OperationFailure,
        BSONError,
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        AttributeError,
        AssertionError,
    ) as error:
        where = namespace if key is None else f"{namespace}, document {key!r}"
        message = str(error) or type(error).__name__
        if refused is StatementError and not isinstance(error, (OperationFailure, BSONError, ValueError)):
            raise UnsupportedError(f"{where}: mongomock cannot do this: {message}") from error
        raise refused(f"{where}: mongomock refused: {message}", key=key) from error


def _size(document: Mapping[str, Any]) -> int:
    return len(bson.encode(document, codec_options=CODEC_OPTIONS))


def _copy(document: Mapping[str, Any], options: CodecOptions[dict[str, Any]] = _STORED) -> dict[str, Any]:
    return _decode(bson.encode(document, codec_options=CODEC_OPTIONS), options)


def _decode(data: bytes | memoryview, options: CodecOptions[dict[str, Any]]) -> dict[str, Any]:
    return bson.decode(data, options)  # pyright: ignore[reportUnknownMemberType]


def _update_of(op: UpdateOp) -> Any:
    """A copy of the update, without what ``$addToSet`` is given twice: mongomock would add it twice."""
    update = _copy({"": op["u"]})[""]
    if not isinstance(op["u"], Sequence):
        for values in update.get("$addToSet", {}).values():
            found: dict[Any, Any] = {}
            for value in values["$each"]:
                found.setdefault(sort_key(value), value)
            values["$each"] = list(found.values())
    return update


def _upserted_key(op: UpdateOp) -> Any:
    """The ``_id`` of the document that an update would insert, as far as it is said."""
    update: Any = {} if isinstance(op["u"], Sequence) else op["u"].get("$setOnInsert", {})
    return update.get("_id", key_in(op["q"]))


def _refuse_stages(pipeline: Sequence[Mapping[str, Any]]) -> None:
    for name in (name for stage in pipeline for name in stage):
        if name in CAPABILITIES.unsupported_stages:
            raise UnsupportedError(f"mongomock has no stage {name}")
