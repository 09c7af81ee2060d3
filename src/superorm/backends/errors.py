"""PyMongo's errors as superorm's."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError, InvalidBSON
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from superorm.exc import (
    BackendError,
    DuplicateKeyError,
    StatementError,
    SuperormError,
    UnsupportedError,
    ValidationError,
    WriteError,
)
from superorm.expr.narrow import is_dict, is_list
from superorm.unitofwork.errors import key_in, too_large

__all__ = [
    "among_found",
    "committing",
    "duplicate_key_error",
    "has_error_label",
    "joining",
    "key_in",
    "reading",
    "unique_index_error",
    "writing",
]

_DUPLICATE_KEY = frozenset({11000, 11001, 12582})
_NOT_IN_TRANSACTION = frozenset({20, 263})
_UNKNOWN = frozenset({59, 115, 168, 238, 15952, 40324})
"""Commands, stages, operators and accumulators that the server does not have."""
_BAD_STATEMENT = frozenset({2, 9, 14, 15, 22, 28, 40, 52, 56, 57, 72, 73, 96, 139, 146, 166, 167, 241, 292, 10334})
"""BadValue, FailedToParse, TypeMismatch, Overflow (nested too deep), ConversionFailure, paths and options that cannot
be, JavaScript that fails, results too large for memory or for a document; so are the numbered complaints of the
server's parsers."""
_TRANSACTION_GONE = frozenset({225, 251, 290})
"""TransactionTooOld, NoSuchTransaction, TransactionExceededLifetimeLimitSeconds."""
_REFUSED_MERGE = frozenset({66, 121, 13113})
"""ImmutableField, DocumentValidationFailure, MergeStageNoMatchingDocument: ``$merge`` writes, though it is read."""
_TOO_LARGE = 10334
_GROWN_TOO_LARGE = frozenset({_TOO_LARGE, 17419, 17420})
"""How servers say of an update that the document would be larger than 16 MiB after it."""
_FIRST_NUMBERED = 15_000
_CACHE = re.compile("cache full|storage engine cache|rolled back for eviction", re.IGNORECASE)
"""How the server says that a transaction holds more than its cache can: as an error of its own, or as a conflict."""
_RAISED = re.compile(
    r"parse number '(.* is (?:no list|no document|of another class|of class): .*)' in \$convert", re.DOTALL
)
"""How the server words an error that an update pipeline raises itself, for which it has no operator of its own."""
_MESSAGE = 500
"""The characters shown of what the server says: it may quote a whole statement."""


def has_error_label(error: BaseException | None, label: str) -> bool:
    """Whether an error, or what caused it, has a label of MongoDB's such as ``TransientTransactionError``."""
    while error is not None:
        if isinstance(error, PyMongoError) and error.has_error_label(label):
            return True
        error = error.__cause__
    return False


@contextmanager
def writing(
    namespace: str, key_of: Callable[[int], Any] = lambda index: None, *, lost: Callable[[], None] | None = None
) -> Generator[None]:
    """Raise what the server refuses as superorm's errors; PyMongo's own is their ``__cause__``.

    `key_of` gives the ``_id`` of the operation at an index.
    A write of which the server does not confirm that it will last is a ``BackendError``.
    Where the connection is lost, `lost` is called, which may raise an error that says more than ``BackendError``.
    What `bson` says of values that it cannot encode stays as it is: writes are encoded before.
    """
    try:
        yield
    except BulkWriteError as error:
        details: Mapping[str, Any] = error.details or {}
        refused: list[Mapping[str, Any]] = details.get("writeErrors") or []
        if refused:
            raise _write_error(namespace, refused[0], key_of(refused[0]["index"])) from error
        unconfirmed: list[Mapping[str, Any]] = details.get("writeConcernErrors") or [details]
        raise _unconfirmed(namespace, unconfirmed[-1]) from error
    except WriteConcernError as error:
        raise _unconfirmed(namespace, _details(error)) from error
    except OperationFailure as error:
        if error.code in _TRANSACTION_GONE:
            raise _gone(namespace, error) from error
        raise _write_error(namespace, _details(error), None) from error
    except PyMongoError as error:
        raise _no_answer(namespace, error, lost) from error


@contextmanager
def committing(namespace: str, *, lost: Callable[[], None] | None = None) -> Generator[None]:
    """The same of a commit. Raises ``BackendError`` where it is not known whether it took place."""
    try:
        with writing(namespace, lost=lost):
            yield
    except SuperormError as error:
        if not has_error_label(error, "UnknownTransactionCommitResult"):
            raise
        cause = error.__cause__
        raise BackendError(f"{namespace}: it is not known whether this took place: {cause}") from cause


@contextmanager
def reading(namespace: str, *, lost: Callable[[], None] | None = None) -> Generator[None]:
    """Raise what is wrong with a statement, or with the server, as superorm's errors; PyMongo's is their ``__cause__``.

    Where the connection is lost, `lost` is called, which may raise an error that says more than ``BackendError``.
    """
    try:
        yield
    except OperationFailure as error:
        raise _read_error(namespace, error) from error
    except PyMongoError as error:
        raise _no_answer(namespace, error, lost) from error
    except DocumentTooLarge as error:
        raise too_large(f"{namespace}: ") from error
    except InvalidBSON as error:
        raise ValidationError(f"{namespace}: a stored document cannot be read: {error}") from error
    except (BSONError, OverflowError, RecursionError, UnicodeError) as error:
        raise StatementError(f"{namespace}: the statement cannot be sent: {error}") from error


@contextmanager
def joining(relations: Sequence[str]) -> Generator[None]:
    """Say of a read that joins relationships what to do where a document is too large with what is joined to it.

    For some such documents servers close the connection, so it is said where that was closed, too.
    """
    try:
        yield
    except SuperormError as error:
        cause = error.__cause__
        too_large = isinstance(cause, OperationFailure) and cause.code == _TOO_LARGE
        waited = isinstance(cause, NetworkTimeout | ServerSelectionTimeoutError)
        closed = isinstance(cause, AutoReconnect) and not waited
        if not relations or not (too_large or closed):
            raise
        may = "is" if too_large else "may be"
        raise type(error)(
            f"{error}; a document {may} larger than 16 MiB together with what is joined to it: "
            f"give selectinload in the place of joinedload for {' and '.join(relations)}"
        ) from cause


@contextmanager
def among_found(found: int) -> Generator[None]:
    """Say of a read among the documents that a vector search found that their keys are what is too large."""
    try:
        yield
    except StatementError as error:
        cause = error.__cause__
        if not isinstance(cause, DocumentTooLarge):
            raise
        raise StatementError(
            f"the keys of the {found:,} documents that like() found make what follows it larger than 16 MiB, "
            "which no server accepts; give like() a smaller k"
        ) from cause


def _read_error(namespace: str, error: OperationFailure) -> SuperormError:
    code = error.code or 0
    if code in _TRANSACTION_GONE:
        return _gone(namespace, error)
    if code in _NOT_IN_TRANSACTION or code in _UNKNOWN:
        return UnsupportedError(f"{namespace}: the server cannot do this: {_said(error)}")
    if code in _DUPLICATE_KEY:
        values: Mapping[str, Any] = (error.details or {}).get("keyValue") or {}
        message = f"{namespace}: a document exists already: {_said(error)}"
        return DuplicateKeyError(message, key=values.get("_id"), field=", ".join(values) or None)
    if code in _REFUSED_MERGE:
        return WriteError(f"{namespace}: the server refused the write: {_said(error)}")
    bad = code in _BAD_STATEMENT or code >= _FIRST_NUMBERED
    if bad and not has_error_label(error, "TransientTransactionError"):
        return StatementError(f"{namespace}: the server does not take this: {_said(error)}")
    return BackendError(f"{namespace}: the server does not answer this: {_said(error)}")


def _gone(namespace: str, error: OperationFailure) -> BackendError:
    """The error of a transaction that the server has ended."""
    return BackendError(
        f"{namespace}: the server has ended the transaction: {_said(error)}; roll back and write again, "
        "best by db.run(). It may have been open for longer than the server's transactionLifetimeLimitSeconds "
        "(60 by default): commit smaller units of work, or raise that limit; or it conflicted with another, "
        "or the primary has changed"
    )


def _no_answer(namespace: str, error: PyMongoError, lost: Callable[[], None] | None) -> BackendError:
    """The error of a client that has no server to ask."""
    if not isinstance(error, ConnectionFailure):
        return BackendError(f"{namespace}: {error}")
    if lost is not None:
        lost()
    return BackendError(f"{namespace}: the server cannot be reached: {error}")


def _said(error: OperationFailure) -> str:
    """The server's message and code, without the rest of its reply."""
    message = _short((error.details or {}).get("errmsg") or error)
    return message if error.code is None else f"{message} (code {error.code})"


def _details(error: OperationFailure) -> Mapping[str, Any]:
    """The server's reply; without one message and code."""
    return {"code": error.code, "errmsg": str(error), **(error.details or {})}


def _short(said: object) -> str:
    message = str(said)
    if raised := _RAISED.search(message):
        message = raised[1]
    return message if len(message) <= _MESSAGE else f"{message[:_MESSAGE]}..."


def _unconfirmed(namespace: str, details: Mapping[str, Any]) -> BackendError:
    """The error of a write that was done, but of which it is not known whether it will last."""
    return BackendError(f"{namespace}: the write was not confirmed: {_short(details.get('errmsg'))}")


def _write_error(namespace: str, details: Mapping[str, Any], key: Any) -> SuperormError:
    code, message = details.get("code"), _short(details.get("errmsg"))
    if code in _DUPLICATE_KEY:
        return duplicate_key_error(namespace, details.get("keyValue") or {}, key)
    if code in _NOT_IN_TRANSACTION or code in _UNKNOWN:
        return UnsupportedError(f"{namespace}: the server cannot do this: {message}", key=key)
    where = namespace if key is None else f"{namespace}, document {key!r:.80}"
    if code in _GROWN_TOO_LARGE:
        return ValidationError(f"{where}: the update takes the document over 16 MiB: {message}", key=key)
    info: Mapping[str, Any] = details.get("errInfo") or {}
    fields = ", ".join(_invalid_fields(info.get("details")))
    reason = f"{message} ({fields})" if fields else message
    if _CACHE.search(message):
        reason += "; the transaction may hold more than the server has memory for: commit smaller units of work"
    return WriteError(f"{where}: the server refused the write: {reason}", key=key, field=fields or None)


def _invalid_fields(details: Any) -> list[str]:
    """The paths of the fields that a validator complains of, as the server's account of it has them."""
    if is_list(details):
        return [path for part in details for path in _invalid_fields(part)]
    if not is_dict(details):
        return []
    name = details.get("propertyName")
    below = [path for part in details.values() for path in _invalid_fields(part)]
    below += details.get("missingProperties", [])
    if name is None:
        return below
    return [f"{name}.{path}" for path in below] or [name]


def duplicate_key_error(namespace: str, values: Mapping[str, Any], key: Any) -> DuplicateKeyError:
    """The error of a document whose values of a unique index exist already."""
    shown = ", ".join(f"{path}={value!r}" for path, value in values.items())
    key = values.get("_id", key)
    message = f"{namespace}: a document with {shown or 'this key'} exists already"
    return DuplicateKeyError(message, key=key, field=", ".join(values) or None)


def unique_index_error(namespace: str, fields: str, values: Mapping[str, Any]) -> DuplicateKeyError:
    """The error of a unique index over documents that have the same values."""
    shown = ", ".join(f"{path}={value!r}" for path, value in values.items())
    message = f"{namespace}: the unique index on {fields} cannot be made: more than one document has {shown}"
    return DuplicateKeyError(message, field=fields)
