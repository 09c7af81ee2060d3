"""What a model knows of objects and documents, in plain Python."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeAlias

from attrs import Factory, define, field

from tests.sessions.classes import ATTRIBUTES, DEFAULTS, Counted, class_of, name_of, text

__all__ = ["Entity", "Fields", "Place", "Side", "UpdateModel", "place_of"]

Place: TypeAlias = tuple[str, Any]
"""A collection and a key."""
Fields: TypeAlias = dict[str, Any]
"""A stored document, or what an object shows, in plain Python."""
Path: TypeAlias = tuple[str, ...]


def place_of(collection: str, document: Fields) -> Place:
    """Where a document is stored."""
    return collection, name_of(document["_id"])


@define(eq=False)
class Entity:
    """An object, and what the model knows of it."""

    instance: Any = field(repr=False)
    values: Fields
    """What it shows: not what was deleted or is not loaded."""
    base: Fields | None = None
    """The document as it was last loaded or flushed; None for one that is not stored as far as it knows."""
    state: str = "outside"
    """``outside``, ``new`` or ``stored``: in the session's identity map."""
    marked: bool = False
    """Whether the session is to delete it."""
    gone: Fields | None = None
    """The document as it was when it was deleted."""
    unloaded: frozenset[str] | None = None
    """What has expired, or was not loaded; of no interest where it is in the base. None for a whole object."""
    expunged: bool = False
    """Whether it was expunged in the transaction."""
    assigned: set[str] = Factory(set)
    """What was set while it was not loaded, and has no key in the document: that is a change even of a default."""
    forgotten: Fields = Factory(dict)
    """What it was when it expired in the transaction."""

    @property
    def cls(self) -> Any:
        """Its declared class."""
        return class_of(self.instance)

    @property
    def names(self) -> frozenset[str]:
        """Its attributes, without key and version."""
        return frozenset(ATTRIBUTES[self.cls])

    @property
    def versioned(self) -> bool:
        return self.cls is Counted

    @property
    def place(self) -> Place:
        """Where it is stored."""
        return place_of(self.cls.__collection__, self.values)

    @property
    def lacking(self) -> set[str]:
        """The attributes that are not loaded."""
        return (self.unloaded or frozenset()) - (self.base or {}).keys()

    @property
    def altered(self) -> list[str]:
        """The attributes that the user changed; what a missing key reads as is no change."""
        return [name for name in ATTRIBUTES[self.cls] if self._is_altered(name)]

    def _is_altered(self, name: str) -> bool:
        base, there = self.base or {}, name in self.values
        if name in base:
            return not there or text(self.values[name]) != text(base[name])
        set_blindly = name in self.lacking or name in self.assigned
        return there and (set_blindly or text(self.values[name]) != text(DEFAULTS[name]))

    @property
    def changed(self) -> bool:
        """Whether a flush has to update it."""
        return self.state == "stored" and not self.marked and bool(self.altered)

    def show(self, document: Fields) -> None:
        """It shows a document, as if just loaded."""
        self.base, self.unloaded = deepcopy(document), None
        self.restore()

    def restore(self) -> None:
        """It shows its base again."""
        base = self.base or {}
        self.assigned = set()
        self.values = {name: base[name] for name in ("_id", "version") if name in base} | {
            name: deepcopy(base.get(name, DEFAULTS[name])) for name in self.names if name not in self.lacking
        }

    def complete(self, document: Fields, names: frozenset[str]) -> None:
        """It shows those of the attributes of a document that it lacks."""
        base, lacking = self.base or {}, self.lacking & names
        extra = {name for name in document if name not in (*self.names, "_id", "_type", "version")}
        whole = names.issuperset(self.names)
        wanted = {*lacking, *(extra if whole else ())}
        if "version" in base and base.keys() <= {"_id", "version"}:  # nothing that is older
            self.values["version"] = base["version"] = document["version"]
        self.base = {**deepcopy({name: document[name] for name in wanted if name in document}), **base}
        self.assigned |= {name for name in lacking if name in self.values and name not in document}
        for name in lacking:
            self.values.setdefault(name, deepcopy(document.get(name, DEFAULTS[name])))
        self.unloaded = None if whole else (self.unloaded or frozenset()) - lacking

    def expire(self, names: frozenset[str]) -> None:
        """It does not show these attributes any more."""
        base = self.base or {}
        known = {*self.names, "_id", "_type", "version"}
        gone = names | (base.keys() - known if names.issuperset(self.names) else set[str]())
        self.base = {name: value for name, value in base.items() if name not in gone}
        self.values = {name: value for name, value in self.values.items() if name not in names}
        self.unloaded = names.union(self.unloaded or ())

    def document(self) -> Fields:
        """What a flush inserts: with the keys that its class does not map, if it was stored before."""
        extra = {name: value for name, value in (self.gone or {}).items() if name not in (*self.names, "version")}
        kind = {"_type": self.cls.__name__} if self.cls.__name__ in ("Dog", "Cat") else {}
        return deepcopy({**extra, **kind, **self.values})


@define
class Side:
    """A session, and what the model knows of it."""

    session: Any
    entities: list[Entity] = Factory(list)
    undo: list[tuple[Entity, Fields | None, Fields | None, frozenset[str] | None]] = Factory(list)
    """Base, deleted document, and what was not loaded before each write."""
    written: dict[Place, Fields] | None = None
    """The documents as the session sees them in a transaction."""
    unsure: list[Entity] | None = None
    """Those that were loaded since a statement wrote in the transaction, or a written object was expunged."""
    inserted: set[Place] = Factory(set)
    """What statements inserted in the transaction, of collections from which nothing had been deleted in it."""
    thinned: set[str] = Factory(set)
    """Those collections from which something was deleted."""

    def forget(self) -> None:
        """The transaction has ended."""
        self.written = self.unsure = None
        self.undo.clear()
        self.inserted.clear()
        self.thinned.clear()


@define
class UpdateModel:
    """What a flush sets and unsets in a document, by path."""

    sets: dict[Path, Any] = Factory(dict)
    unsets: list[Path] = Factory(list)
    parents: list[Path] = Factory(list)
    """The paths at which there must be a document still."""
    absent: list[Path] = Factory(list)
    """The paths at which there must be nothing still, as documents are added there."""
    in_order: bool = False
    """Whether keys are added in the order of `sets`, not in that of the alphabet."""

    @classmethod
    def of(cls, e: Entity) -> UpdateModel:
        """The smallest one; of a versioned object, whose document is as it was, what it comes to."""
        made, base = cls(), e.base or {}
        for name in e.altered:
            if name not in e.values:
                made.unsets.append((name,))
            elif e.versioned or name not in base:
                made.sets[name,] = e.values[name]
                if name not in e.lacking and isinstance(DEFAULTS[name], dict) and isinstance(e.values[name], dict):
                    made.absent += [] if e.versioned or name in base else [(name,)]
            else:
                made._compare((name,), base[name], e.values[name])
        made.parents += [path[:-1] for path in made.sets if len(path) > 1]
        if ("array",) in made.sets and "array" in base:  # dtype, shape and data
            made.parents.append(("array",))
        return made

    def _compare(self, path: Path, old: Any, new: Any) -> None:
        if text(old) == text(new):
            return
        if not _by_parts(old, new):
            self.sets[path] = new
            return
        for key, value in new.items():
            if key in old:
                self._compare((*path, key), old[key], value)
            else:
                self.sets[(*path, key)] = value
                self.absent += [(*path, key)] if isinstance(value, dict) else []
        self.in_order = self.in_order or list(new) != _order_of_operators(old, new)
        self.unsets += [(*path, key) for key in old if key not in new]

    def fits(self, document: Fields) -> bool:
        """Whether the parents are there, and nothing where documents are added."""
        if any(path[-1] in (_at(document, path[:-1]) or {}) for path in self.absent):
            return False
        return all(isinstance(_at(document, path), list if path == ("array",) else dict) for path in self.parents)

    def apply(self, document: Fields) -> None:
        """Change a document."""
        for path, value in self.sets.items() if self.in_order else sorted(self.sets.items()):
            _at(document, path[:-1])[path[-1]] = deepcopy(value)
        for path in self.unsets:
            parent = _at(document, path[:-1])
            if isinstance(parent, dict):
                parent.pop(path[-1], None)


def _by_parts(old: Any, new: Any) -> bool:
    """Whether what was there stays in its order, and what is added comes after it."""
    if not (isinstance(old, dict) and isinstance(new, dict)) or "" in {*old, *new}:
        return False
    kept = [key for key in old if key in new]
    return list(new)[: len(kept)] == kept


def _order_of_operators(old: Fields, new: Fields) -> list[str] | None:
    """The order of keys once operators have added what is new; None where it is not known."""
    added = sorted(new.keys() - old.keys())
    if len(added) > 1 and any(key[0].isdigit() for key in added):
        return None
    return [key for key in old if key in new] + added


def _at(document: Any, path: Path) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document
