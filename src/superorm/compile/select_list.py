# pyright: reportPrivateUsage=false
"""The select list of a select: its columns, computed where they are not there yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from attrs import define, evolve

from superorm.compile.expressions import emit, projected
from superorm.compile.items import item_at
from superorm.compile.output import Output
from superorm.compile.rewrites import overlap
from superorm.compile.scope import DocumentScope, ListPath, RowScope, source_name
from superorm.compile.state import State, documents_of, has_position, mapping_of
from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.entities import entity_name
from superorm.expr.kinds import (
    inside,
    is_expr,
    is_field,
    is_graph_lookup,
    is_label,
    is_list_of,
    is_output_of,
)
from superorm.expr.options import LoadOnly
from superorm.schema.members import is_by_class
from superorm.schema.types.computed import untold

__all__ = ["SelectList", "check_labels", "unique"]


@define(eq=False)
class SelectList(State):
    """Writes what is selected."""

    def _outputs(self, entities: tuple[Any, ...], names: tuple[str, ...] | None = None) -> tuple[Output, ...]:
        """The columns, computed where they are not there yet. `names` (or the builder's own) shape the documents."""
        names = names or self.names
        self._compute_lists(entities)
        whole = [entity for entity in entities if not isinstance(entity, Expr)]
        if whole and isinstance(documents_of(self.scope), RowScope):
            raise StatementError(
                f"{source_name(whole[0])}: there are no whole documents in grouped rows; select fields"
            )
        titles = unique(entity_name(entity) for entity in entities)
        places = [self._place(entity) for entity in entities]
        if isinstance(documents_of(self.scope), RowScope) and None in places:
            names = names or titles
        outputs: list[Output] = []
        project: dict[str, Any] = {}
        sets: dict[str, Any] = {}
        for title, entity, place in zip(names or titles, entities, places, strict=True):
            path = place
            if not is_expr(entity):
                outputs.append(self._document(title, entity))
                continue
            if names is None and path is not None:
                outputs.append(self._value(title, entity, path, path))
                project |= dict.fromkeys(outputs[-1].reads, 1)
                continue
            if names is None and whole:
                path = self._key(title)
                sets[path] = emit(entity, self.scope)
            else:
                output = self.columns.get(path or "")
                kept = output if names is None and output is not None and output.kind == "output" else None
                source = path if kept is None else kept.path[0]
                value = projected(entity, self.scope) if source is None else f"${source}"
                clash = names is None and any(other is not None and overlap(title, other) for other in places)
                path = self._key(title) if clash else title
                project[path] = value
                if kept is not None:
                    outputs.append(evolve(kept, name=title, path=(path,)))
                    continue
            outputs.append(self._value(title, entity, path, place))
        if sets:
            self.stages.append({"$set": sets})
        if not whole:
            self._project(project, named=names is not None)
        elif (only := self._only(whole, outputs)) is not None:
            self.stages.append({"$project": only})
        return self._separated(tuple(outputs))

    def _place(self, entity: Any) -> str | None:
        """The path of a selected value that is there already; of the rows of another select that of their list."""
        inner = inside(entity)
        path = self._path(entity)
        if path is None and (is_field(inner) or is_graph_lookup(inner) or is_list_of(inner) or is_output_of(inner)):
            path = self._path(inner)
        return path.key if isinstance(path, ListPath) else path

    def _document(self, title: str, entity: Any) -> Output:
        key = self._documents.joined.get(entity)
        if key is None and entity != self.root:
            raise StatementError(f"{source_name(entity)} is not in the rows; join it first")
        heads = {path.partition(".")[0] for path in self.unwound}
        if key in heads or (key is None and not heads <= self.made):
            raise StatementError(f"{source_name(entity)}: its documents are not whole after unwind(); select fields")
        return Output(title, entity, "document", () if key is None else (key,), mapping_of(entity))

    def _value(self, title: str, entity: Any, path: str, place: str | None) -> Output:
        """A column at a path; `place` is where it stood before the projection, None for what that computes."""
        inner = inside(entity)
        keys = tuple(path.split("."))
        if place is None:
            return Output(title, self._typed(inner), "value", keys)
        if place in self.columns:
            known = self.columns[place]
            return evolve(known if path == place else known.moved(place, path), name=title)
        if place in self.lists:
            return Output(title, inner, "rows", keys, outputs=self.lists[place])
        if not is_field(inner):
            inner = self.kinds.get(place, inner)
        stored = isinstance(documents_of(self.scope), DocumentScope) and self._is_stored(inner, path)
        unwound = self._unwound(inner, place)
        if stored and self.items and len(inner._parts) > 1:
            inner = item_at(inner, lambda list: 0 if list._path == inner._path else self._items_left(list))
            stored = not any(part.stored is None and untold(part.type) for part in cast("Any", inner)._parts[:-1])
        return Output(title, inner, "value", keys, unwound=unwound, stored=stored)

    def _is_stored(self, entity: Any, path: str) -> bool:
        """Whether at the path stands a field as documents have it, perhaps under another name."""
        if not is_field(entity) or has_position(entity):
            return False
        if path == self.scope.path(entity):
            return True
        return entity._owner == self.root and len(entity._parts) == 1 and not is_by_class(entity)

    def _project(self, project: dict[str, Any], *, named: bool) -> None:
        """Only what was selected, where the documents hold more."""
        computed = any(value != 1 for value in project.values())
        if isinstance(documents_of(self.scope), RowScope) and not computed and not named:
            return
        kept = {path: project[path] for path in _outermost(list(project))}
        if not any(path == "_id" or path.startswith("_id.") for path in kept):
            kept["_id"] = 0
        self.stages.append({"$project": kept})

    def _only(self, whole: list[Any], outputs: list[Output]) -> dict[str, Any] | None:
        """The projection of ``load_only``, which becomes the document's output."""
        fields = [one for option in self.select._options if isinstance(option, LoadOnly) for one in option.fields]
        if not fields:
            return None
        position = next(
            (n for n, output in enumerate(outputs) if not is_expr(output.entity) and output.entity == self.root), None
        )
        if position is None:
            raise StatementError(f"load_only() is for documents of {source_name(self.root)}, which are not selected")
        attributes = frozenset(part._parts[0].attribute for part in fields)
        outputs[position] = evolve(outputs[position], only=attributes)
        for part in fields:
            DocumentScope(self.root).path(part)  # raises for what is not the class's
        beside = [path for output in outputs if output.path for path in output.reads]
        return dict.fromkeys(_outermost([*self.mapping.stored_for(attributes), *beside]), 1)

    def _separated(self, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        """The same, each whole document without the keys of the columns beside it."""
        made = frozenset(self.made)
        return tuple(
            evolve(output, extra=made) if output.kind == "document" and not output.path and made else output
            for output in outputs
        )


def _outermost(paths: list[str]) -> list[str]:
    """Those of the paths that are below none of the others, which the server does not take beside these."""
    return [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]


def check_labels(entities: Iterable[Any]) -> None:
    """Raise `StatementError` where a label could mean one value or another."""
    labels: dict[str, Any] = {}
    for entity in filter(is_label, entities):
        one, other = labels.setdefault(entity.name, entity).expr, entity.expr
        if one is not other and repr(one) != repr(other):
            raise StatementError(
                f"two columns have the label {entity.name!r}: {one!r:.80} and {other!r:.80}; give one of them another"
            )


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names, those that come again numbered."""
    given = list(names)
    found: dict[str, None] = {}
    for position, name in enumerate(given):
        n = 1
        unused = name
        while unused in found or (n > 1 and unused in given[position:]):
            n += 1
            unused = f"{name}_{n}"
        found[unused] = None
    return tuple(found)
