# pyright: reportPrivateUsage=false
"""Where the values that expressions name stand in the documents of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from attrs import define, field, frozen

from superorm.exc import StatementError
from superorm.expr.base import Expr, Label
from superorm.expr.nodes import Column, Field, Score
from superorm.expr.outputs import OutputOf
from superorm.expr.rows import GraphLookup, ListOf
from superorm.expr.sources import Source

__all__ = [
    "Accumulated",
    "DocumentScope",
    "ElementScope",
    "ListPath",
    "OuterScope",
    "RootScope",
    "RowScope",
    "Scope",
    "StagesNeededError",
    "joined_key",
    "same",
    "source_name",
    "value_at",
]


class Scope(Protocol):
    """What the emitter asks: paths without a leading ``$``."""

    def path(self, field: Field[Any, Any]) -> str:
        """The path of a field. Raises `StatementError` where the documents do not have it."""
        ...

    def computed(self, node: Expr[Any, Any]) -> str | None:
        """The path of what an earlier stage computed for an expression other than a field; None where none did."""
        ...


def source_name(source: Any) -> str:
    """The name of a class or of an alias."""
    return source.__name__ if isinstance(source, type) else repr(source)


class ListPath(str):
    """The path, ``names.name``, of the values in a list of documents that hold one each: what stands for the list."""

    __slots__ = ()

    @property
    def key(self) -> str:
        """Where the documents stand."""
        return self.partition(".")[0]


def joined_key(source: Any, scope: Scope) -> str | None:
    """The key of a joined class or alias; None for other rows."""
    documents = scope.inner if isinstance(scope, OuterScope) else scope
    return documents.joined.get(source) if isinstance(documents, DocumentScope) else None


def value_at(path: str) -> Any:
    """The value at a path as an expression; of a list of documents with one value each the list of these."""
    if not isinstance(path, ListPath):
        return f"${path}"
    key, _, inner = path.partition(".")
    return {"$map": {"input": f"${key}", "as": "row", "in": f"$$row.{inner}"}}  # null where one is missing


class StagesNeededError(Exception):
    """An expression needs stages that compute it."""


@define
class RootScope:
    """Documents of a class and nothing beside them. Raises `StagesNeededError` for what has to be looked up."""

    root: Any

    def path(self, field: Field[Any, Any]) -> str:
        return field._path if field._owner is self.root else DocumentScope(self.root).path(field)

    def computed(self, node: Expr[Any, Any]) -> str | None:
        if isinstance(node, (ListOf, GraphLookup, OutputOf)):
            raise StagesNeededError
        return node.name if isinstance(node, Column) else None


@define
class DocumentScope:
    """Documents of a class, with those of joined classes under a key each, and computed values beside them."""

    root: Any
    joined: dict[Any, str] = field(factory=dict[Any, str])
    """The keys of joined classes and aliases."""
    labels: dict[str, str] = field(factory=dict[str, str])
    """The paths of computed values by their labels, or by the names of columns."""
    nodes: dict[int, str] = field(factory=dict[int, str])
    """The paths of computed values by the identity of their expressions."""
    later: frozenset[str] | None = frozenset()
    """The labels of what is selected: where one is not among `labels` yet, no column has its name.
    None where raw stages made columns of which nothing is known."""
    score: str | None = None
    """The key of what a vector search gave each document."""
    outputs: dict[tuple[str, Any], str] = field(factory=dict[tuple[str, Any], str])
    """The keys of listeners' outputs, by the listener's name and the class of the documents."""

    def path(self, field: Field[Any, Any]) -> str:
        owner = field._owner
        if owner is self.root:
            return field._path
        prefix = self.prefix(owner)
        if prefix is None:
            raise self._unknown(field)
        return prefix + field._path

    def has(self, owner: Source) -> bool:
        """Whether the class or alias itself is in the rows, and not only one that derives from it."""
        return owner == self.root or owner in self.joined

    def prefix(self, owner: Source) -> str | None:
        """What goes before the paths of a class's fields; None where it is not in the rows."""
        if owner == self.root:
            return ""
        if owner in self.joined:
            return f"{self.joined[owner]}."
        derived = {source: f"{name}." for source, name in self.joined.items() if _derives(source, owner)}
        if _derives(self.root, owner):
            derived = {self.root: "", **derived}
        if len(derived) > 1:
            raise _ambiguous(owner, derived)
        return next(iter(derived.values()), None)

    def computed(self, node: Expr[Any, Any]) -> str | None:
        if isinstance(node, (Label, Column)):
            found = self.labels.get(node.name)
            if found is None and isinstance(node, Column):
                if self.later is not None and node.name in self.later:
                    raise StatementError(
                        f"{node!r} is not there yet: what is selected is computed after this; "
                        "use the labelled expression itself, or put then() before"
                    )
                return node.name
            return found
        if isinstance(node, Score):
            return self.score
        if isinstance(node, OutputOf):
            key = self.outputs.get((node.name, node.of or self.root))
            return None if key is None else ".".join((key, "output", *node.keys))
        return self.nodes.get(id(node))

    def _unknown(self, field: Field[Any, Any]) -> StatementError:
        sources = [self.root, *self.joined]
        known, owner = ", ".join(map(source_name, sources)), source_name(field._owner)
        base = next((source for source in sources if _derives(field._owner, source)), None)
        advice = f"join {owner} first"
        if base is not None:
            advice = f"{owner} is a subclass of {base.__name__}; select({owner}), or use a field of {base.__name__}"
        return StatementError(f"{field!r}: the statement is about {known}; {advice}", field=field._path)


def _ambiguous(owner: Any, sources: Iterable[Any]) -> StatementError:
    several = " and ".join(map(source_name, sources))
    return StatementError(
        f"a field of {source_name(owner)} is ambiguous: {several} both have it; write it as a field of one of them"
    )


def _derives(source: object, owner: object) -> bool:
    return isinstance(source, type) and isinstance(owner, type) and issubclass(source, owner)


@frozen
class RowScope:
    """Rows that have named values only: those of a group, of a union, of a facet."""

    emit: Callable[[Any], Any]
    """How an expression is written over the documents that the rows were made of."""
    columns: list[tuple[str | None, Any, str]]
    """Label, emitted expression (None: only by its label) and path of each value."""
    what: str = "grouped rows"
    nodes: dict[int, str] = field(factory=dict[int, str])
    """The paths of what was computed since, by the identity of the expressions."""

    def path(self, field: Field[Any, Any]) -> str:
        found = self._find(field)
        if found is None:
            raise StatementError(
                f"{field!r} is not in the {self.what}; they have {self._known()}{self._advice(field)}",
                field=field._path,
            )
        return found

    def computed(self, node: Expr[Any, Any]) -> str | None:
        if isinstance(node, (Label, Column)):
            found = next((path for label, _, path in self.columns if label == node.name), None)
            if found is not None or isinstance(node, Label):
                return found
            raise StatementError(f"{node!r} is not in the {self.what}; they have {self._known()}")
        return self.nodes.get(id(node)) or self._find(node)

    def forget_accumulators(self) -> RowScope:
        """The same for what follows: there an accumulator is over these rows, and only labels name the old ones."""
        columns = [(label, None if _accumulates(emitted) else emitted, path) for label, emitted, path in self.columns]
        return RowScope(self.emit, columns, self.what, self.nodes)

    def _find(self, node: Expr[Any, Any]) -> str | None:
        try:
            emitted = self.emit(node)
        except StatementError:
            return None
        return next((path for _, known, path in self.columns if known is not None and same(known, emitted)), None)

    def _advice(self, field: Field[Any, Any]) -> str:
        if self.what != "grouped rows":
            return ""
        return f"; group_by() it or select func.first({field!r})"

    def _known(self) -> str:
        names = (
            label or (emitted.lstrip("$") if isinstance(emitted, str) else path)
            for label, emitted, path in self.columns
        )
        named = [name for name in names if not name.startswith("__")]  # others were made here
        return ", ".join(named) or "no columns"


def same(one: Any, other: Any) -> bool:
    """Whether two emitted expressions are the same: to Python 1 equals True, and the order of keys does not count."""
    return one == other and repr(one) == repr(other)


def _accumulates(emitted: Any) -> bool:
    return isinstance(emitted, Accumulated)


class Accumulated(dict[str, Any]):
    """An accumulator as it was written for a group; equal to the same one written again."""


@frozen
class ElementScope:
    """The embedded documents of a list, by the class of which their fields are."""

    embedded: type
    where: str
    prefix: str = ""
    """A variable for the element, as ``$item.``, where the fields stand in an aggregation expression."""

    def path(self, field: Field[Any, Any]) -> str:
        owner = field._owner
        if not _derives(self.embedded, owner) and not _derives(owner, self.embedded):
            raise StatementError(
                f"{self.where} got a condition on {source_name(owner)}, but is about {self.embedded.__name__}"
            )
        return self.prefix + field._path

    def computed(self, node: Expr[Any, Any]) -> str | None:
        return None


@frozen
class OuterScope:
    """The documents of a select inside a statement, whose expressions may name the outer rows' fields by variables."""

    inner: Scope
    outer: Scope
    variables: dict[str, tuple[str, Expr[Any, Any]]]
    """The outer paths that were named, each with the variable that holds it: filled as expressions are written."""

    def path(self, field: Field[Any, Any]) -> str:
        if not self._is_outer(field._owner):
            with suppress(StatementError):
                return self.inner.path(field)
        return self._variable(self.outer.path(field), field)

    def _variable(self, path: str, node: Expr[Any, Any]) -> str:
        variable, _ = self.variables.setdefault(path, (f"outer{len(self.variables)}", node))
        return f"${variable}"

    def check(self, owner: Source) -> None:
        """Raise `StatementError` where classes of both the inner and the outer documents derive from one."""
        if isinstance(self.inner, DocumentScope) and isinstance(self.outer, DocumentScope) and not self.has(owner):
            one, other = _deriving(self.inner, owner), _deriving(self.outer, owner)
            if one and other:
                raise _ambiguous(owner, (*other, *one))

    def has(self, owner: Source) -> bool:
        """Whether the class or alias itself is in the rows, or in the outer ones."""
        return _has(self.inner, owner) or _has(self.outer, owner)

    def _is_outer(self, owner: Source) -> bool:
        """Whether it is the outer rows' own, where the inner documents only derive from it."""
        return isinstance(self.inner, DocumentScope) and not self.inner.has(owner) and _has(self.outer, owner)

    def computed(self, node: Expr[Any, Any]) -> str | None:
        found = self.inner.computed(node)
        if not isinstance(node, Column) or not isinstance(self.inner, DocumentScope) or self.inner.later is None:
            return found
        if node.name in self.inner.labels:
            return found
        path = self.outer.computed(node)
        return found if path is None else self._variable(path, node)


def _deriving(scope: DocumentScope, owner: Source) -> list[Source]:
    """The classes in the rows that derive from one."""
    return [source for source in (scope.root, *scope.joined) if _derives(source, owner)]


def _has(scope: Scope, owner: Source) -> bool:
    return isinstance(scope, (DocumentScope, OuterScope)) and scope.has(owner)
