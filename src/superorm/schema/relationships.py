"""References between documents, declared beside the fields but not stored."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any, Literal, TypeAlias, cast, get_args, get_origin

from attrs import define, field, frozen

from superorm.exc import MappingError, NotLoadedError, StatementError
from superorm.expr.relations import Related
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.registry import Registry, default_registry
from superorm.schema.scope import Scope
from superorm.schema.state import GONE, RAW, is_shown

__all__ = [
    "LINKS",
    "AbstractRelationship",
    "DeclaredRelationships",
    "Relationship",
    "RelationshipSpec",
    "accept_relationships",
    "class_side",
    "forget_relationships",
    "inherited_relationships",
    "object_side",
    "own_relationships",
    "relationship",
]

DeclaredRelationships: TypeAlias = "dict[str, tuple[RelationshipSpec, Scope]]"
"""By attribute: the declaration, and where its names are looked up."""
LINKS = "_superorm_links"
"""The attribute that keeps what an object's relationships showed when they were loaded or flushed.

By attribute: of a list the objects in it, of a many-to-one the object and the `identity` of its key.
The dict is replaced, never changed: copies of an object share it.
"""
_ALL = frozenset({"save-update", "merge", "refresh-expire", "expunge", "delete"})
_CASCADES = _ALL | {"delete-orphan", "all"}


@frozen
class RelationshipSpec:
    """A relationship's declaration, as `relationship` makes it."""

    target: Any
    """A class or its name."""
    is_list: bool
    key: str
    """The attribute that holds the other's key: of the own class, or of the target where that is a list."""
    cascade: frozenset[str]


def relationship(
    target: type[Any] | str,
    *,
    key: str | None = None,
    remote_key: str | None = None,
    cascade: Literal["save-update, merge", "all", "all, delete-orphan"] | str = "save-update, merge",
) -> Any:
    """Declare a reference to documents of another class, or of the same.

    ``author: Mapped[Author | None] = relationship("Author", key="author_id")`` is one document,
    whose key the attribute `key` of this class holds;
    ``movies: Mapped[list[Movie]] = relationship(list["Movie"], remote_key="author_id")`` are all documents
    whose attribute `remote_key` holds the key of this one.
    It is not stored; what is written is the key.
    It is loaded only by the options `selectinload` and `joinedload`; touching it before raises `NotLoadedError`.
    A name is looked up when it is first needed, around the class and then in its registry.
    `cascade` is as in SQLAlchemy a list with commas: with ``save-update`` new documents that are referred to are added,
    with ``merge``, ``expunge`` and ``refresh-expire`` those that are loaded are merged, expunged, and expired,
    with the object, with ``delete`` they are deleted together with it, with ``delete-orphan`` also when they leave
    its list; ``all`` is all of these but ``delete-orphan``.
    Raises `MappingError` for settings that contradict one another.
    """
    given: object = target
    is_list = get_origin(given) is list
    if is_list:
        (given,) = get_args(given) or (None,)
    if (key is None) == (remote_key is None):
        raise MappingError(f"relationship({target!r}): give key=, or remote_key= of a list; one of them")
    if is_list != (remote_key is not None):
        advice = (
            "a list needs remote_key=, the attribute of its class that holds the key"
            if is_list
            else "remote_key= is for lists: relationship(list[...], remote_key=...)"
        )
        raise MappingError(f"relationship({target!r}): {advice}")
    if not isinstance(given, (str, type)):
        raise MappingError(f"relationship({target!r}): give a document class, its name, or list[...] of one of these")
    return RelationshipSpec(given, is_list, cast("str", key or remote_key), _cascade(cascade, is_list))


def _cascade(text: object, is_list: bool) -> frozenset[str]:
    words = {word.strip() for word in text.split(",")} - {""} if isinstance(text, str) else {repr(text)}
    if words - _CASCADES:
        raise MappingError(
            f"relationship(cascade={text!r}): {', '.join(sorted(words - _CASCADES))} is none of "
            f"{', '.join(sorted(_CASCADES))}"
        )
    if "delete-orphan" in words and not is_list:
        raise MappingError("relationship(cascade=...): delete-orphan is for lists, with remote_key=")
    return frozenset(words - {"all"}) | (_ALL if "all" in words else frozenset[str]())


@define(eq=False)
class Relationship:
    """A relationship of one class."""

    owner: str
    attribute: str
    spec: RelationshipSpec
    scope: Scope
    mapping: ClassMap = field(init=False)
    """The class that has it; an inherited one is another one in each class."""
    _target: ClassMap | None = field(default=None, init=False)

    @property
    def where(self) -> str:
        """``Movie.author``, for messages."""
        return f"{self.owner}.{self.attribute}"

    @property
    def is_list(self) -> bool:
        return self.spec.is_list

    @property
    def key_name(self) -> str:
        """``Movie.author_id``, for messages: what can stand in statements."""
        target = self.spec.target
        other = target if isinstance(target, str) else target.__name__
        return f"{other.rpartition('.')[2] if self.is_list else self.owner}.{self.spec.key}"

    @property
    def target(self) -> ClassMap:
        """The other class. Raises `MappingError` where it is not there, or has no fitting key."""
        known = self._target
        if known is None or self._registry.find(_qualified(known.cls)) not in (None, known):
            self._target = known = self._checked(self._find())
        return known

    @property
    def target_class(self) -> type:
        return self.target.cls

    @property
    def key(self) -> MappedField:
        """The field that holds the key: of the own class, or of the target where that is a list."""
        return (self.target if self.is_list else self.mapping).by_attribute[self.spec.key]

    @property
    def condition(self) -> Any:
        """``Movie.author_id == Author.id``."""
        holder, referred = (self.target, self.mapping) if self.is_list else (self.mapping, self.target)
        return getattr(holder.cls, self.spec.key) == getattr(referred.cls, referred.key.attribute)

    def cascades(self, what: str) -> bool:
        return what in self.spec.cascade

    def not_loaded(self, key: Any) -> NotLoadedError:
        """The error for touching it."""
        return NotLoadedError(
            f"{self.mapping.name} {key!r}: {self.attribute} was not loaded; select it with "
            f".options(selectinload({self.where})) or joinedload({self.where})",
            document_class=self.mapping.cls,
            key=key,
            field=self.attribute,
        )

    def check_own_key(self) -> None:
        """Raise `MappingError` unless the own class has the key."""
        if not self.is_list and self.spec.key not in self.mapping.by_attribute:
            raise self._no_key(self.mapping)

    def _no_key(self, mapping: ClassMap) -> MappingError:
        setting = "remote_key" if self.is_list else "key"
        hint = "" if self.is_list else "; a list of what refers to it takes relationship(list[...], remote_key=...)"
        return MappingError(
            f"{self.where}: {setting}={self.spec.key!r} is no field of {mapping.name}; "
            f"there are {', '.join(mapping.by_attribute)}{hint}"
        )

    @property
    def _registry(self) -> Registry:
        registry: Registry = getattr(self._owner, "__superorm_registry__", default_registry)
        return registry

    @property
    def _owner(self) -> type:
        return self.mapping.cls

    def _find(self) -> ClassMap:
        given: object = self.spec.target
        if isinstance(given, str):
            name = given
            try:
                given = self.scope(name)
            except (NameError, AttributeError, SyntaxError):
                given = self._named(name)
        if not isinstance(given, type) or not isinstance(given.__dict__.get("__superorm__"), ClassMap):
            raise MappingError(f"{self.where}: {given!r} is no document class")
        return self._registry.find(_qualified(given)) or class_map(given)

    def _named(self, name: str) -> type:
        found = [one.cls for one in self._registry if name in (one.name, _qualified(one.cls))]
        if len(found) != 1:
            there = ", ".join(map(_qualified, found)) or ", ".join(sorted({one.name for one in self._registry}))
            what = "more than one class has" if found else "no class of its registry has"
            raise MappingError(
                f"{self.where}: {what} the name {name!r}; there are {there}; "
                "import its module, or give the class or its full name"
            )
        return found[0]

    def _checked(self, target: ClassMap) -> ClassMap:
        if target.collection is None:
            raise MappingError(f"{self.where}: {target.name} is an Embedded, which has no key to refer to")
        holder, referred = (target, self.mapping) if self.is_list else (self.mapping, target)
        if self.spec.key not in holder.by_attribute:
            raise self._no_key(holder)
        part, key = holder.by_attribute[self.spec.key], referred.key
        if referred.has_null_key:
            raise MappingError(
                f"{self.where}: {key.where} may be None, which means in {part.where} that there is no {referred.name}; "
                f"refer to a class whose key is never None, or compare the two fields in a join()"
            )
        if part is holder.key and part.stored == "_id" and part.type.reads != key.type.reads:
            fits = False
        else:
            fits = not part.type.is_list and key.type.reads <= part.type.reads
        if not fits:
            raise MappingError(
                f"{self.where}: {part.where} is {part.type.name}, which does not hold the keys of {referred.name}, "
                f"which are {key.type.name}"
            )
        return target


class AbstractRelationship(Relationship):
    """A relationship of an abstract class, for options: each class that derives from it has one of its own."""

    def __init__(self, cls: type, attribute: str, spec: RelationshipSpec, scope: Scope) -> None:
        super().__init__(cls.__name__, attribute, spec, scope)
        self._cls = cls

    @property
    def target_class(self) -> type:
        return self._find().cls

    @property
    def condition(self) -> Any:
        raise StatementError(f"{self.where} is of an abstract class; join by that of a class that derives from it")

    @property
    def _owner(self) -> type:
        return self._cls


class _ObjectSide:
    """A non-data descriptor: what an object shows where its relationship was not loaded."""

    __slots__ = ("_attribute",)

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:  # reached only through super(); the class's own side is the metaclass's
            return getattr(owner, self._attribute)
        mapping = class_map(owner)
        relation = mapping.relationships[self._attribute]
        state = vars(instance)
        raw: dict[str, Any] | None = state.get(RAW) or state.get(GONE)
        if relation.is_list:
            if raw is None:
                return state.setdefault(self._attribute, [])
        elif is_shown(relation.key, state) and getattr(instance, relation.spec.key, None) is None:
            return None
        raise relation.not_loaded(state.get(mapping.key.attribute) if raw is None else raw["_id"])


def own_relationships(name: str, namespace: dict[str, Any], scope: Scope) -> DeclaredRelationships:
    """The relationships of a class body, which are taken out of it. Raises `MappingError`."""
    found = {attribute: value for attribute, value in namespace.items() if isinstance(value, RelationshipSpec)}
    for attribute in found:
        if attribute not in namespace.get("__annotations__", {}):
            raise MappingError(f"{name}.{attribute} has no annotation; write {attribute}: Mapped[...] = ...")
        del namespace[attribute]
    return {attribute: (spec, scope) for attribute, spec in found.items()}


def inherited_relationships(
    name: str, bases: Iterable[type], taken: Iterable[str], own: DeclaredRelationships, fields: Mapping[str, Any]
) -> DeclaredRelationships:
    """All relationships of a new class; `taken` are other names of its body, `fields` all its fields.

    Raises `MappingError` where a name stands for two things.
    """
    declared: DeclaredRelationships = {}
    for above in reversed([above for base in bases for above in base.__mro__]):
        declared |= above.__dict__.get("__superorm_relationships__", {})
    clash = (declared.keys() & {*taken}) | ({*declared, *own} & fields.keys())
    for attribute in sorted(clash):
        raise MappingError(f"{name}.{attribute} is a relationship and something else; choose another name for one")
    return declared | own


def accept_relationships(cls: type, relations: Mapping[str, Relationship]) -> None:
    """Let the generated ``__init__`` take the relationships too, and an object begin with empty lists."""
    init: Any = vars(cls)["__init__"]
    lists = [name for name, relation in relations.items() if relation.is_list]
    names = relations.keys()

    @wraps(init)
    def __init__(self: Any, /, *arguments: Any, **given: Any) -> None:
        related = {name: given.pop(name) for name in names & given.keys()} if given else {}
        init(self, *arguments, **given)
        for name in lists:
            related.setdefault(name, [])
        for name, value in related.items():
            setattr(self, name, value)

    signature = inspect.signature(init)
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in relations]
    cast("Any", __init__).__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])
    type.__setattr__(cls, "__init__", __init__)


def forget_relationships(mapping: ClassMap, instance: object, attributes: Iterable[str] | None = None) -> None:
    """Let these relationships, by default all, of an object be not loaded; also those whose keys are among these."""
    state = vars(instance)
    links: dict[str, Any] = state.get(LINKS, {})
    wanted = None if attributes is None else set(attributes)
    for name, relation in mapping.relationships.items():
        if wanted is None or name in wanted or (not relation.is_list and relation.spec.key in wanted):
            state.pop(name, None)
            if name in links:
                state[LINKS] = links = {other: shown for other, shown in links.items() if other != name}


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def class_side(relation: Relationship) -> property:
    """What the class shows: a `Related`, for options."""
    return property(lambda cls: Related(cast("type", cls), relation))


def object_side(attribute: str) -> object:
    """What goes into the class's namespace."""
    return _ObjectSide(attribute)
