"""Checks of what sessions and DBs are called with, before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeGuard, cast

from superorm.exc import ComponentError, SessionError, StatementError
from superorm.expr.kinds import is_expr, is_select
from superorm.expr.reprs import short_repr
from superorm.expr.writes import MergeInto, Returning, WriteStatement
from superorm.schema.document import Document
from superorm.schema.mapping import ClassMap, class_map

__all__ = [
    "check_attributes",
    "check_batch_size",
    "check_component",
    "check_name",
    "check_options",
    "check_rows",
    "check_select",
    "documents_in",
    "no_statement",
]

_MAX_BATCH_SIZE = 2**31 - 1


def no_statement(given: object, caller: str = "a session") -> StatementError:
    """The error of what is no statement at all."""
    if isinstance(given, type):
        return StatementError(f"{caller} takes a statement; write select({given.__name__}), not {given.__name__} alone")
    return StatementError(f"{caller} takes a statement such as select(...), not {type(given).__name__}")


def check_attributes(mapping: ClassMap, attributes: object, caller: str) -> None:
    """Raise `SessionError` for anything but names of fields and relationships in a list or the like, or None."""
    if attributes is None:
        return
    if isinstance(attributes, str) or not isinstance(attributes, Collection):
        raise SessionError(f"{caller} takes attributes in a list such as ['title'], not {short_repr(attributes)}")
    for name in cast("Collection[object]", attributes):
        if not isinstance(name, str) or (name not in mapping.by_attribute and name not in mapping.relationships):
            raise SessionError(
                f"{caller}: {mapping.name} has no field or relationship {short_repr(name)}; "
                "give attributes by their names",
                document_class=mapping.cls,
            )


def check_name(name: object, what: str) -> None:
    """Raise `ComponentError` for anything but the text that names a component or its kind."""
    if not isinstance(name, str):
        raise ComponentError(f"the {what} of a component is text such as 'model', not {short_repr(name)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ComponentError(f"the {what} of a component cannot be {name!a}, which has half a surrogate pair") from None


def check_component(kind: object, name: object, version: object) -> None:
    """Raise `ComponentError` for what cannot be a kind, a name, and the number of a version, or None."""
    check_name(kind, "kind")
    check_name(name, "name")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise ComponentError(f"the version of a component is a number, not {short_repr(version)}")


def check_select(statement: object, caller: str) -> None:
    """Raise `StatementError` for anything but a select."""
    if isinstance(statement, (WriteStatement, Returning, MergeInto)):
        raise StatementError(f"{caller} takes a select, not {statement!r}, which writes; execute() carries it out")
    if not is_select(statement):
        raise no_statement(statement, caller)


def check_options(options: object, caller: str) -> None:
    """Raise `StatementError` for anything but options in a list or the like."""
    if not isinstance(options, Collection) or isinstance(options, str):
        raise StatementError(f"{caller} takes options in a list such as [load_only(...)], not {short_repr(options)}")


def check_rows(statement: object, caller: str) -> None:
    """Raise `StatementError` for a statement that gives no rows."""
    if isinstance(statement, MergeInto):
        raise StatementError(f"{caller} needs rows, and {statement!r} gives none; execute() it")
    if isinstance(statement, WriteStatement):
        raise StatementError(f"{caller} needs rows, and {statement!r} gives none; add returning(...), or execute() it")


def check_batch_size(size: object, caller: str) -> None:
    """Raise `StatementError` for anything but a number of rows that the server takes."""
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _MAX_BATCH_SIZE:
        raise StatementError(f"{caller} takes a batch_size from 1 to {_MAX_BATCH_SIZE}, not {short_repr(size)}")


def documents_in(instances: object, caller: str) -> tuple[list[Document], set[type[Document]]]:
    """The documents of an iterable, and their classes.

    Raises `SessionError` for anything else, `MappingError` for classes that are not mapped.
    """
    if isinstance(instances, Document) or not _is_iterable(instances):
        raise SessionError(f"{caller} takes documents in a list or another iterable, not {short_repr(instances)}")
    found = list(instances)
    kinds = set(map(type, found))
    for kind in kinds:
        if not issubclass(kind, Document):
            other = next(one for one in found if type(one) is kind)
            raise SessionError(f"{caller} takes documents, not {kind.__name__} {short_repr(other)}")
        class_map(kind)
    return cast("list[Document]", found), cast("set[type[Document]]", kinds)


def _is_iterable(value: object) -> TypeGuard[Iterable[object]]:
    return not is_expr(value) and isinstance(value, Iterable)
