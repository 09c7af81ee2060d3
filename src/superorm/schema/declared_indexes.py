"""The indexes of a class, with the paths under which its fields are stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from attrs import evolve, frozen

from superorm.exc import MappingError, StatementError
from superorm.expr.nodes import Predicate
from superorm.schema.fields import ArtifactFieldSpec
from superorm.schema.indexes import Index, IndexKey, is_condition, ttl_seconds
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import ListType, TupleType, UnionType
from superorm.schema.types.embedded import EmbeddedType, OneOfType
from superorm.schema.types.typed_dict import TypedDictType
from superorm.schema.wildcards import WILDCARD, wildcard_problem

__all__ = ["DeclaredIndex", "check_indexes", "declared_indexes"]


@frozen(eq=False)
class DeclaredIndex:
    """One index in the server's terms, but for the condition of a partial one."""

    where: str
    """``Movie.title`` or ``Movie.__indexes__[0]``, for messages."""
    cls: type
    keys: tuple[tuple[str, int | str], ...]
    options: dict[str, Any]
    """By the server's names; those that are not set are left out."""
    partial: Predicate[Any] | None = None
    of_field: bool = False
    """Whether a field's own settings ask for it."""
    only: Mapping[str, Any] | None = None
    """The filter of the documents that it is limited to: those of a subclass, where others must not be held to it."""


def declared_indexes(mapping: ClassMap) -> list[DeclaredIndex]:
    """What the fields ask for, those of embedded documents too, and the ``__indexes__`` of the class and its bases.

    What a mapped class above declares is left to that class.
    Unique indexes and those with a ttl that a subclass adds are limited to its documents.
    Raises `MappingError` for names that are no fields, and annotations that cannot be resolved.
    """
    above = {} if mapping.parent is None else {part.stored: _declaration(part) for part in mapping.parent.fields}
    fields = [part for part in mapping.fields if above.get(part.stored) != _declaration(part)]
    found = [
        *_of_fields(mapping, fields, (), ()),
        *(_resolved(mapping, index, where) for index, where in _own(mapping, mapping.parent)),
    ]
    if mapping.parent is None:
        return found
    return [evolve(index, only=mapping.type_filter()) if _is_strict(index) else index for index in found]


def _declaration(part: MappedField) -> tuple[Any, ...]:
    """What a field's indexes follow from."""
    is_artifact = isinstance(part.spec, ArtifactFieldSpec)
    return part.spec.index, part.spec.unique, part.spec.ttl, is_artifact, str(part.annotation)


def _is_strict(index: DeclaredIndex) -> bool:
    """Whether it refuses or deletes documents; one that is sparse cannot be partial too."""
    return ("unique" in index.options or "expireAfterSeconds" in index.options) and "sparse" not in index.options


def check_indexes(mapping: ClassMap) -> None:
    """Raise `MappingError` for what is wrong already, where some types may not be known yet; ``__validate__`` too."""
    validate: object = getattr(mapping.cls, "__validate__", False)
    if type(validate) is not bool and validate != "warn":
        raise MappingError(f'{mapping.name}.__validate__ must be True, False or "warn", not {validate!r}')
    if mapping.parent is not None and validate != getattr(mapping.root.cls, "__validate__", False):
        raise MappingError(
            f"{mapping.name}.__validate__: the collection has one validator, that of {mapping.root.name}; set it there"
        )
    for index, where in _own(mapping):
        for path in (*(key.path for key in index.keys if key.field is None), *index.include, *index.exclude):
            if (first := path.split(".")[0]) != WILDCARD:
                _first(mapping, first, where)
        _check_lists(mapping, index, where)
        if not any(key.field is not None for key in index.keys):
            _check_wildcard(index, where, partial(_begun, mapping, where))
    for part in mapping.fields:
        kind = part.resolved()
        if part.spec.ttl is not None and kind is not None:
            _check_dates(kind, part.where)


def _own(mapping: ClassMap, parent: ClassMap | None = None) -> Iterator[tuple[Index, str]]:
    """The ``__indexes__`` of the class and its bases, but for those of `parent` and its bases."""
    for cls in reversed(mapping.cls.__mro__):
        if parent is not None and issubclass(parent.cls, cls):
            continue
        found: object = cls.__dict__.get("__indexes__", ())
        if not isinstance(found, (list, tuple)) or not all(isinstance(item, Index) for item in cast("Any", found)):
            raise MappingError(f"{cls.__name__}.__indexes__ is a list of Index(...), not {found!r}")
        for number, index in enumerate(cast("Sequence[Index]", found)):
            yield index, f"{cls.__name__}.__indexes__[{number}]"


def _of_fields(
    mapping: ClassMap, fields: Sequence[MappedField], parents: tuple[str, ...], seen: tuple[type, ...]
) -> Iterator[DeclaredIndex]:
    """What the fields of a class ask for; a class that embeds itself counts once on each path."""
    for part in fields:
        spec, path = part.spec, (*parents, part.stored)
        stored = ".".join(path)
        always_there = stored == "_id" and isinstance(spec.index, bool)
        if (spec.index or spec.unique or spec.ttl is not None) and not always_there:
            options: dict[str, Any] = {"unique": True} if spec.unique else {}
            if spec.ttl is not None:
                _check_dates(part.type, part.where)
                options["expireAfterSeconds"] = ttl_seconds(spec.ttl)
            keys = ((stored, spec.index if isinstance(spec.index, str) else 1),)
            yield DeclaredIndex(part.where, mapping.cls, keys, options, of_field=True)
        if isinstance(spec, ArtifactFieldSpec):  # so that a collection of unused blobs reads no documents
            yield DeclaredIndex(part.where, mapping.cls, ((f"{stored}.sha256", 1),), {"sparse": True}, of_field=True)
        for inside, inner in _embedded(part.type, path, ()):
            if inner.cls not in seen:
                yield from _of_fields(mapping, inner.fields, inside, (*seen, inner.cls))


def _embedded(
    kind: BsonType, path: tuple[str, ...], seen: tuple[BsonType, ...]
) -> Iterator[tuple[tuple[str, ...], ClassMap]]:
    """The classes of embedded documents in a field, each with their path; TypedDicts in `seen` are left out."""
    match kind:
        case EmbeddedType() | OneOfType():
            for mapping in kind.mappings if isinstance(kind, OneOfType) else (kind.mapping,):
                for member in {mapping.name: mapping, **mapping.family}.values():
                    yield path, member
        case ListType():
            yield from _embedded(kind.element, path, seen)
        case TupleType() | UnionType():
            for inside in kind.elements if isinstance(kind, TupleType) else kind.members:
                yield from _embedded(inside, path, seen)
        case TypedDictType() if kind not in seen:
            for name, key in kind.keys.items():
                yield from _embedded(key.type, (*path, name), (*seen, kind))
        case _:
            pass


def _resolved(mapping: ClassMap, index: Index, where: str) -> DeclaredIndex:
    parts = {key.path: _stored(mapping, key, where) for key in index.keys}
    _check_lists(mapping, index, where)
    projected = {path: _stored(mapping, IndexKey(path, 1), where)[0] for path in (*index.include, *index.exclude)}
    _check_wildcard(index, where, lambda path: parts[path][0] if path in parts else projected[path])
    projection = {path: int(path in index.include) for path in (*index.include, *index.exclude)}
    options: dict[str, Any] = {
        "unique": index.unique,
        "sparse": index.sparse,
        "hidden": index.hidden,
        "collation": index.collation and dict(index.collation),
        "weights": {parts[path][0]: weight for path, weight in index.weights.items()},
        "default_language": index.default_language,
        "language_override": index.language_override,
        "wildcardProjection": {projected[path]: flag for path, flag in projection.items()},
        "name": index.name,
    }
    options = {name: value for name, value in options.items() if value}
    if index.ttl is not None:
        options["expireAfterSeconds"] = index.ttl
        kind = parts[index.keys[0].path][1]
        assert kind is not None
        _check_dates(kind, where)
    keys = tuple((parts[key.path][0], key.kind) for key in index.keys)
    if keys in ((("_id", 1),), (("_id", -1),)):
        raise MappingError(f"{where}: the primary key alone is always indexed")
    return DeclaredIndex(where, mapping.cls, keys, options, _condition(mapping, index, where))


def _stored(mapping: ClassMap, key: IndexKey, where: str) -> tuple[str, BsonType | None]:
    """The path of a field as it is stored, and its type; that of ``$**`` is None."""
    if key.field is not None:
        owner, parts = cast("Any", key.field)._owner, cast("Any", key.field)._parts
        if not isinstance(owner, type) or not issubclass(mapping.cls, owner):
            raise MappingError(f"{where}: {key.field!r} is no field of {mapping.name}")
        return key.path, parts[-1].type
    part: Any = None
    stored: list[str] = []
    for name in key.path.split("."):
        if name == WILDCARD:
            return ".".join([*stored, name]), None
        part = _first(mapping, name, where) if part is None else _part(part, name, where)
        stored.append(part.stored)
    return ".".join(stored), part.type


def _begun(mapping: ClassMap, where: str, path: str) -> str:
    """A path of attributes with the stored name of the first, the type of which need not be known."""
    first, dot, rest = path.partition(".")
    return path if first == WILDCARD else f"{_first(mapping, first, where).stored}{dot}{rest}"


def _check_wildcard(index: Index, where: str, stored: Callable[[str], str]) -> None:
    """Raise `MappingError` for fields in and beside a wildcard that the server refuses."""
    paths = [stored(key.path) for key in index.keys]
    problem = wildcard_problem(paths, [*map(stored, index.include)], [*map(stored, index.exclude)])
    if problem is not None:
        raise MappingError(f"{where}: {problem}")


def _check_lists(mapping: ClassMap, index: Index, where: str) -> None:
    """Raise `MappingError` for lists side by side, as far as types are known: no document could have them all."""
    found: list[tuple[str, set[str]]] = []
    ordered = [key for key in index.keys if not isinstance(key.kind, str) and not key.wildcard]
    for key in ordered if len(ordered) > 1 else ():
        lists = _lists(mapping, key, where)
        for path, others in found:
            if lists - others and others - lists:
                raise MappingError(
                    f"{where}: {path} and {key.path} are lists, and the server refuses documents with two lists in "
                    "one index; declare an index for each"
                )
        found.append((key.path, lists))


def _lists(mapping: ClassMap, key: IndexKey, where: str) -> set[str]:
    """The paths of the lists on the way to a field, and its own, that documents surely have."""
    found: set[str] = set()
    path = ""
    for part in _parts(mapping, key, where):
        kind = part.resolved() if isinstance(part, MappedField) else part.type
        path = f"{path}.{part.stored}"
        if kind is None or part.step[0] == "key":
            break
        if kind.reads == {list}:
            found.add(path)
        elif kind.reads != {dict}:
            break
    return found


def _parts(mapping: ClassMap, key: IndexKey, where: str) -> Iterator[Any]:
    """The parts of the path to a field, each once it is asked for."""
    if key.field is not None:
        yield from cast("Any", key.field)._parts
        return
    first, *names = key.path.split(".")
    part: Any = _first(mapping, first, where)
    yield part
    for name in names:
        part = _part(part, name, where)
        yield part


def _first(mapping: ClassMap, name: str, where: str) -> MappedField:
    part = mapping.by_attribute.get(name)
    if part is None:
        raise MappingError(f"{where}: {mapping.name} has no field {name!r}; it has {', '.join(mapping.by_attribute)}")
    return part


def _part(whole: Any, name: str, where: str) -> Any:
    """A field of the embedded documents that a field holds, or a key of its dict."""
    try:
        return whole.member(name)
    except AttributeError as error:
        try:
            return whole.value(name)
        except StatementError:
            raise MappingError(f"{where}: {error}") from None


def _condition(mapping: ClassMap, index: Index, where: str) -> Predicate[Any] | None:
    partial: Any = index.partial
    if partial is None:
        return None
    try:
        condition: object = partial(mapping.cls) if callable(partial) else partial
    except Exception as error:
        raise MappingError(f"{where}: partial= failed: {type(error).__name__}: {error}") from error
    if is_condition(condition):
        return condition
    raise MappingError(f"{where}: partial= made {condition!r}, which is no condition such as Movie.year > 2000")


def _check_dates(kind: BsonType, where: str) -> None:
    """Raise `MappingError` for a field that cannot hold a time; of registered types nothing is known."""
    if kind.reads and not any(dt.datetime in member.reads for member in _members(kind)):
        raise MappingError(f"{where}: a ttl counts from a date or datetime, not from {kind.name}")


def _members(kind: BsonType) -> Iterator[BsonType]:
    """The type and, of a list, that of its elements."""
    yield kind
    if isinstance(kind, ListType):
        yield from _members(kind.element)
    elif isinstance(kind, UnionType):
        for member in kind.members:
            yield from _members(member)
