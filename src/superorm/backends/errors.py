"""PyMongo's errors as superorm's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from superorm.exc import DuplicateKeyError, StatementError, SuperormError, UnsupportedError, WriteError
from superorm.expr.narrow import is_dict, is_list

__all__ = ["duplicate_key_error", "has_error_label", "key_in", "reading", "unique_index_error", "writing"]

_DUPLICATE_KEY = frozenset({11000, 11001, 12582})
_NOT_IN_TRANSACTION = frozenset({20, 263})
_UNKNOWN_STAGE = 40324
_BAD_STATEMENT = frozenset({2, 9, 14, 241})
"""BadValue, FailedToParse, TypeMismatch, ConversionFailure; so are the numbered complaints of the server's parsers."""
_FIRST_NUMBERED = 15_000


def has_error_label(error: BaseException | None, label: str) -> bool:
    """Whether an error, or what caused it, has a label of MongoDB's such as ``TransientTransactionError``."""
    while error is not None:
        if isinstance(error, PyMongoError) and error.has_error_label(label):
            return True
        error = error.__cause__
    return False


def key_in(filter: Mapping[str, Any]) -> Any:
    """The ``_id`` of the one document that a filter is about; None where it is about several."""
    key = filter.get("_id")
    is_condition = is_dict(key) and any(name.startswith("$") for name in key)
    return None if is_condition else key


@contextmanager
def writing(
    namespace: str, key_of: Callable[[int], Any] = lambda index: None, *, lost: Callable[[], None] | None = None
) -> Generator[None]:
    """Raise what the server refuses as superorm's errors; PyMongo's own is their ``__cause__``.

    `key_of` gives the ``_id`` of the operation at an index.
    Errors of the network stay PyMongo's, unless `lost`, which is called then, raises one that says more.
    """
    try:
        yield
    except BulkWriteError as error:
        refused: list[Mapping[str, Any]] = (error.details or {}).get("writeErrors") or []
        if refused:
            raise _write_error(namespace, refused[0], key_of(refused[0]["index"])) from error
        raise WriteError(f"{namespace}: {error.details}") from error
    except OperationFailure as error:
        raise _write_error(
            namespace, {"code": error.code, "errmsg": _said(error), **(error.details or {})}, None
        ) from error
    except ConnectionFailure:
        if lost is not None:
            lost()
        raise


@contextmanager
def reading(namespace: str, *, lost: Callable[[], None] | None = None) -> Generator[None]:
    """Raise what is wrong with a statement as superorm's errors; errors of rights stay PyMongo's.

    So do errors of the network, unless `lost`, which is called then, raises one that says more.
    """
    try:
        yield
    except OperationFailure as error:
        code = error.code or 0
        if code in _NOT_IN_TRANSACTION or code == _UNKNOWN_STAGE:
            raise UnsupportedError(f"{namespace}: the server cannot do this: {_said(error)}") from error
        if (code in _BAD_STATEMENT or code >= _FIRST_NUMBERED) and not has_error_label(
            error, "TransientTransactionError"
        ):
            raise StatementError(f"{namespace}: the server does not take this: {_said(error)}") from error
        raise
    except ConnectionFailure:
        if lost is not None:
            lost()
        raise


def _said(error: OperationFailure) -> str:
    """The server's message and code, without the rest of its reply."""
    message = (error.details or {}).get("errmsg") or str(error)
    return message if error.code is None else f"{message} (code {error.code})"


def _write_error(namespace: str, details: Mapping[str, Any], key: Any) -> SuperormError:
    code, message = details.get("code"), details.get("errmsg")
    if code in _DUPLICATE_KEY:
        return duplicate_key_error(namespace, details.get("keyValue") or {}, key)
    if code in _NOT_IN_TRANSACTION:
        return UnsupportedError(f"{namespace}: the server cannot do this: {message}", key=key)
    where = namespace if key is None else f"{namespace}, document {key!r}"
    info: Mapping[str, Any] = details.get("errInfo") or {}
    fields = ", ".join(_invalid_fields(info.get("details")))
    reason = f"{message} ({fields})" if fields else message
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
