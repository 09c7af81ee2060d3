# pyright: reportPrivateUsage=false
"""Which relationships to load with the documents of a select, and the stages that join them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from bson import MinKey

from superorm.compile.plan import Aggregate, Find
from superorm.exc import StatementError, UnsupportedError
from superorm.expr.nodes import Field
from superorm.expr.options import LoadOnly
from superorm.expr.relations import Hop, Load
from superorm.expr.sources import class_of
from superorm.expr.statements import Select
from superorm.schema.dates import reads_naive
from superorm.schema.mapping import ClassMap
from superorm.schema.relationships import AbstractRelationship, Relationship

if TYPE_CHECKING:
    from superorm.compile.compiler import CompiledSelect

__all__ = [
    "Column",
    "Loading",
    "find_related",
    "joined_relations",
    "loadings",
    "stages_of",
    "take_joined",
    "with_related",
]

_JOINED = "_superorm_joined_"


@frozen(eq=False)
class Loading:
    """A relationship to load, and those to load of the documents that it gives."""

    relation: Relationship
    name: str = ""
    """Of a joined one: the key under which the other documents stand."""
    children: tuple[Loading, ...] = ()

    @property
    def joined(self) -> list[Loading]:
        """Those of the children that are joined."""
        return [child for child in self.children if child.name]


@frozen(eq=False)
class Column:
    """What to load of the documents of one column."""

    position: int
    loadings: tuple[Loading, ...]


def loadings(options: Iterable[Load[Any, Any]], selected: Sequence[ClassMap]) -> tuple[Loading, ...]:
    """The relationships of these classes' documents that options name, each once. Raises `StatementError`."""
    return _tree([_mapped(option.hops, selected) for option in options], _JOINED)


def _mapped(hops: Sequence[Hop], classes: Sequence[ClassMap]) -> list[Hop]:
    """The hops, those of abstract classes taken of the mapped class that derives from it."""
    found: list[Hop] = []
    for strategy, related in hops:
        cls = related.cls
        if isinstance(related.part, AbstractRelationship):
            derived = next((mapping.cls for mapping in classes if issubclass(mapping.cls, cls)), None)
            if derived is None:
                raise StatementError(f"{related!r} is of an abstract class; give that of a class that derives from it")
            related = getattr(derived, related.part.attribute)
        relation: Any = related.part
        found.append((strategy, related))
        classes = [relation.target]
    return found


def _tree(paths: Sequence[Sequence[Hop]], prefix: str) -> tuple[Loading, ...]:
    groups: dict[tuple[type, str], list[Sequence[Hop]]] = {}
    for path in paths:
        groups.setdefault((path[0][1].cls, path[0][1].part.attribute), []).append(path)
    found: list[Loading] = []
    for number, group in enumerate(groups.values()):
        strategy, related = group[-1][0]  # the last one counts
        name = f"{prefix}{number}"
        children = _tree([path[1:] for path in group if len(path) > 1], f"{name}_")
        relation: Any = related.part
        found.append(Loading(relation, name if strategy == "joined" else "", children))
    return tuple(found)


def with_related(statement: Select[Any, Any], compile: Callable[[Select[Any, Any]], CompiledSelect]) -> CompiledSelect:
    """A select that loads relationships. Raises `StatementError`, `UnsupportedError`."""
    options = [option for option in statement._options if isinstance(option, Load)]
    others = [option for option in statement._options if not isinstance(option, Load)]
    if others:
        others += _keys(options, statement._root)
    compiled = compile(statement._with("_options", tuple(others)))
    columns: dict[int, list[Loading]] = {}
    selected = [one.mapping for one in compiled.outputs if one.kind == "document" and one.mapping is not None]
    for loading in loadings(options, selected):
        position = _position(compiled, loading.relation)
        columns.setdefault(position, []).append(loading)
        if loading.name:
            if compiled.like is not None or compiled.outputs[position].path:
                raise UnsupportedError(
                    f"joinedload({loading.relation.where}) cannot stand here, as its documents are not what is read; "
                    f"use selectinload({loading.relation.where})"
                )
            compiled = evolve(compiled, read=_joining(compiled.read, loading))
    related = tuple([Column(position, tuple(found)) for position, found in columns.items()])
    return evolve(compiled, related=related)


def _keys(options: Iterable[Load[Any, Any]], root: Any) -> Iterator[LoadOnly[Any]]:
    """What relationships are found by, beside what ``load_only`` names."""
    for option in options:
        related = option.hops[0][1]
        relation: Any = related.part
        if not relation.is_list and _may_have(class_of(root), related.cls):
            key = getattr(related.cls, relation.spec.key)
            yield LoadOnly((Field(root, key._path, key._parts),))  # of a class that derives from it as well


def _position(compiled: CompiledSelect, relation: Relationship) -> int:
    """The column of the documents that have the relationship."""
    owner = relation.mapping.cls
    for position, output in enumerate(compiled.outputs):
        if output.kind == "document" and output.mapping is not None:
            cls = class_of(output.mapping.cls)
            if _may_have(cls, owner):
                return position
    raise StatementError(
        f"{relation.where} is loaded with documents of {relation.mapping.name}, which are not selected",
        document_class=owner,
    )


def _may_have(cls: Any, owner: type) -> bool:
    """Whether documents of a class may have the relationships of another."""
    return isinstance(cls, type) and (issubclass(cls, owner) or issubclass(owner, cls))


def _joining(read: Any, loading: Loading) -> Aggregate:
    if isinstance(read, Aggregate):
        stages = list(read.pipeline)
    else:
        assert isinstance(read, Find)
        stages = [{"$match": read.filter}] if read.filter else []
        stages += [{"$sort": dict(read.sort)}] if read.sort else []
        stages += [{"$skip": read.skip}] if read.skip else []
        stages += [{"$limit": read.limit}] if read.limit else []
        stages += [{"$project": read.projection}] if read.projection is not None else []
    return Aggregate(read.collection, [*stages, *stages_of(loading)])


def stages_of(loading: Loading, above: str = "") -> Iterator[dict[str, Any]]:
    """The stages that join a relationship, and those that follow it; `above` is the key of the documents that have it.

    Each level stands beside the documents, not in one another: which belong together is told by their keys.
    """
    relation = loading.relation
    own, other = ("_id", relation.key.stored) if relation.is_list else (relation.key.stored, "_id")
    if above:
        # a list of the keys on the level above; never empty, as an empty one is no equality to the server
        keys = f"{loading.name}_keys"
        yield {"$set": {keys: {"$concatArrays": [f"${above}.{own}", [MinKey()]]}}}
        own = keys
    assert relation.target.collection is not None
    yield {
        "$lookup": {
            "from": relation.target.collection,
            "localField": own,
            "foreignField": other,
            "as": loading.name,
        }
    }
    for child in loading.joined:
        yield from stages_of(child, loading.name)


def joined_relations(loadings: Iterable[Loading]) -> list[str]:
    """The names of the relationships that are joined in the read of the documents that have these."""
    found: list[str] = []
    for loading in loadings:
        if loading.name:
            found += [loading.relation.where, *joined_relations(loading.joined)]
    return found


def take_joined(found: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Takes what was joined out of the documents of a read: by name, the other documents."""
    names = [name for name in found[0] if name.startswith(_JOINED)] if found else []
    return {name: [other for document in found for other in document.pop(name)] for name in names}


def find_related(loading: Loading, keys: Sequence[Any]) -> Find | Aggregate:
    """The read of the documents that a relationship refers to by these keys."""
    target, relation = loading.relation.target, loading.relation
    assert target.collection is not None
    stored = relation.key.stored if relation.is_list else "_id"
    filter = {stored: {"$in": list(keys)}, **target.type_filter()}
    if not loading.joined:
        return Find(target.collection, filter, naive=reads_naive(target))
    stages = [stage for child in loading.joined for stage in stages_of(child)]
    return Aggregate(target.collection, [{"$match": filter}, *stages])
