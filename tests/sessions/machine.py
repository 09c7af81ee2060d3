"""A session and a plain model of it: what each step does to the database, to the session and to its objects."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from attrs import define
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from superorm import (
    Document,
    DuplicateKeyError,
    NotLoadedError,
    PendingRollbackError,
    StaleDocumentError,
    SuperormError,
    delete,
    select,
    update,
)
from tests.sessions.classes import (
    ATTRIBUTES,
    COLLECTIONS,
    CONCRETE,
    Animal,
    Cat,
    Counted,
    Dog,
    Point,
    Thing,
    class_of,
    shown,
    stored,
)

Place = tuple[str, int]
"""A collection and a key."""

PICK = st.integers(0, 40)
SMALL = st.integers(0, 5)
WORD = st.sampled_from("abc")
HOW = st.tuples(PICK, SMALL, WORD)
ACTS = [*["change"] * 4, *["flush", "rollback", "somebody else"] * 2, "commit", "delete", "add", "expunge", "update"]
SCRIPTS: list[tuple[type, str]] = [
    (Counted, "commit, delete, somebody else, flush"),
    (Counted, "commit, change, change, somebody else, flush"),
    (Counted, "commit, tags, delete, flush, add, tags, flush, rollback, add, flush"),
    (Counted, "embedding, commit, embedding, update, rollback, tags, commit"),
    (Thing, "table, table, table, commit, table, table, number, flush, table, number, table, commit"),
    (Thing, "point, point, commit, point, point, somebody else, number, flush"),
    (Thing, "change, flush, change, flush, expunge, rollback, add, change, commit"),
    (Thing, "change, replace, flush, change, rollback, delete, flush, rollback"),
    (Document, "replace, commit, change, flush, delete, rollback"),
    (Document, "change, update, change, update, rollback, change, commit"),
    (Document, "change, flush, change, update, flush, change, rollback, change"),
    (Document, "commit, change, update, expunge, add, rollback, change, update"),
    (Document, "delete, add, delete, flush, add, flush, rollback"),
]
"""Each with the class of the objects to follow it."""


@define(eq=False)
class Entity:
    """An object, and what the model knows of it."""

    instance: Any
    values: dict[str, Any]
    """What it shows."""
    base: dict[str, Any] | None = None
    """What it was when it was last loaded or flushed; None for one that is not stored as far as it knows."""
    state: str = "outside"
    """``outside``, ``new`` or ``stored``: in the session's identity map."""
    marked: bool = False
    """Whether the session is to delete it."""
    gone: dict[str, Any] | None = None
    """What it was when it was deleted."""
    expunged: bool = False
    """Whether it was expunged in the transaction."""

    @property
    def place(self) -> Place:
        """Where it is stored."""
        return self.instance.__collection__, self.values["_id"]

    @property
    def changed(self) -> bool:
        """Whether a flush has to update it."""
        return self.state == "stored" and not self.marked and self.values != self.base

    @property
    def sets_into_point(self) -> bool:
        """Whether a flush sets parts of an embedded object, which has to be there then."""
        before, now = (self.base or {}).get("point"), self.values.get("point")
        return before is not None and now is not None and before != now


class SessionMachine(RuleBasedStateMachine):
    """Steps of one session after another on a database, to which somebody else writes too.

    `db` is a DB, or an `AsyncDB` that is `Driven`; `raw` is the same database by plain PyMongo, or mongomock.
    """

    def __init__(self, db: Any, raw: Any) -> None:
        super().__init__()
        self.db = db
        self.raw = raw
        self.transactions = db.capabilities.transactions
        for collection in COLLECTIONS:
            raw[collection].delete_many({})
        self.committed: dict[Place, dict[str, Any]] = {}
        self.begin_session()

    def begin_session(self) -> None:
        """A session that knows nothing."""
        self.session = self.db.session()
        self.entities: list[Entity] = []
        self.undo: list[tuple[Entity, dict[str, Any] | None, dict[str, Any] | None]] = []
        self.view = self.committed
        self.unsure: list[Entity] | None = None
        """Those that were loaded since a statement wrote in the transaction, or a written object was expunged."""

    @initialize(number=SMALL, scripts=st.lists(st.sampled_from(SCRIPTS), min_size=3, max_size=6), data=st.data())
    def fill(self, number: int, scripts: list[tuple[type, str]], data: st.DataObject) -> None:
        """Objects of each class, stored and new, with something in each attribute; then some scripts."""
        for position, cls in enumerate([*CONCRETE, *CONCRETE, Thing, Counted]):
            if position == 2 * len(CONCRETE):
                self.commit()
            self.add(cls, [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 5, 5][position], number)
            for form in [forms[0] for name, forms in CHANGES.items() if name in ATTRIBUTES[cls]]:
                form(self.entities[-1].instance, self.entities[-1].values, number, "a")
        for script in scripts:
            self.act_by_script(number, script, data)

    def teardown(self) -> None:
        """All agrees at the end, and the vectors with their documents."""
        try:
            self.agree()
        finally:
            self.session.close()
        assert [] == list(self.db.check(Counted).problems)

    # The model

    @property
    def in_transaction(self) -> bool:
        """Whether the session writes to what others do not see."""
        return self.view is not self.committed

    def write(self) -> dict[Place, dict[str, Any]]:
        """The documents that the session writes to."""
        if self.transactions and not self.in_transaction:
            self.view = deepcopy(self.committed)
        return self.view

    def statement_wrote(self) -> dict[Place, dict[str, Any]]:
        """The same for a statement, which writes what the session's objects do not know."""
        self.unsure = self.unsure or []
        return self.write()

    def known(self, place: Place) -> Entity | None:
        """The object of the identity map."""
        return next((e for e in self.entities if e.state == "stored" and e.place == place), None)

    def load(self, cls: type, documents: list[dict[str, Any]], instances: list[Any]) -> None:
        """These objects stand for these documents."""
        assert len(documents) == len(instances)
        for document, instance in zip(documents, instances, strict=True):
            entity = self.known((instance.__collection__, document["_id"]))
            if entity is None:
                assert all(e.instance is not instance for e in self.entities)
                entity = Entity(instance, deepcopy(document), deepcopy(document), "stored")
                self.entities.append(entity)
                if self.unsure is not None:
                    self.unsure.append(entity)
            assert entity.instance is instance
            assert isinstance(instance, cls)

    def expected_errors(self) -> set[type[SuperormError]]:
        """What a flush may raise."""
        errors: set[type[SuperormError]] = set()
        marked = {e.place for e in self.entities if e.marked}
        for e in self.entities:
            there = self.view.get(e.place)
            if e.state == "new" and there is not None and e.place not in marked:
                errors.add(DuplicateKeyError)
            if e.changed and (there is None or there.get("version") != (e.base or {}).get("version")):
                errors.add(StaleDocumentError)
            if e.changed and e.sets_into_point and (there or {}).get("point") is None:
                errors.add(StaleDocumentError)
            versioned = e.marked and "version" in e.values
            if versioned and (there is None or there["version"] != (e.base or {})["version"]):
                errors.add(StaleDocumentError)
        return errors

    def flush_model(self) -> None:
        """A flush that succeeds."""
        found = [e for e in self.entities if e.marked or e.changed or e.state == "new"]
        if not found:
            return
        view = self.write()
        for e in [e for e in found if e.marked]:
            self.remove(e)
            view.pop(e.place, None)
        for e in [e for e in found if e.state == "new" or e.changed]:
            self.undo.append((e, e.base, e.gone))
            if "version" in e.values:
                e.values["version"] = (e.base or e.gone or {"version": 0})["version"] + 1
            before = e.base or {}
            sets = {name: value for name, value in e.values.items() if name not in before or before[name] != value}
            view[e.place] = {**view.get(e.place, {}), **deepcopy(sets)}
            e.base, e.gone, e.state = deepcopy(e.values), None, "stored"

    def remove(self, e: Entity) -> None:
        """A stored object is deleted."""
        self.undo.append((e, e.base, e.gone))
        e.base, e.gone, e.state, e.marked = None, e.base, "outside", False

    def rollback_model(self) -> None:
        """What was not committed is given up."""
        for e in self.entities:
            if e.state == "new":
                e.state = "outside"
        for e, base, gone in reversed(self.undo):
            e.base, e.gone = base, gone
            e.state = "outside" if base is None or e.expunged else "stored"
            if base is None and "version" in e.values:
                e.values["version"] = (gone or {"version": 0})["version"]
        for e in self.entities:
            e.marked = e.expunged = False
            if e.state == "stored":
                e.values = deepcopy(e.base or {})
        self.undo.clear()
        self.view = self.committed

    def do(self, action: Callable[[], Any], *, flushes: bool = True) -> tuple[bool, Any]:
        """Whether the action, which flushes first, succeeds, and its result; after the error to expect, roll back."""
        errors = self.expected_errors() if flushes else set()
        if not errors:
            done = action()
            if flushes:
                self.flush_model()
            return True, done
        try:
            action()
        except tuple(errors):
            pass
        else:
            raise AssertionError(f"no error, expected one of {errors}")
        for step in (self.session.flush, self.session.commit, lambda: self.session.scalars(select(Thing))):
            try:
                step()
            except PendingRollbackError:
                continue
            raise AssertionError("a failed session goes on without a rollback")
        if not self.transactions:
            self.committed = self.view = self.read()
        self.roll_back()
        return False, None

    def roll_back(self) -> None:
        """A rollback; objects whose documents are others now leave the session."""
        undone = bool(self.undo)
        self.session.rollback()
        self.rollback_model()
        if undone and not self.transactions:  # the objects show what the database does not
            self.agree()
            self.session.close()
            self.begin_session()
            return
        unsure, self.unsure = self.unsure or [], None
        for e in unsure:
            if e.state == "stored":
                self.load_again(e)
        self.agree()

    def load_again(self, e: Entity) -> None:
        """An object that may show what never was is expired; `get` finds it, or that there is no such document."""
        cls, (_, key) = class_of(e.instance), e.place
        try:
            _ = e.instance.number
        except NotLoadedError:
            pass
        else:
            raise AssertionError("it shows what was rolled back")
        document = self.committed.get(e.place)
        assert self.session.get(cls, key) is (e.instance if document is not None else None)
        if document is None:
            self.entities.remove(e)
        else:
            e.base, e.values = deepcopy(document), deepcopy(document)

    # Agreement

    def read(self) -> dict[Place, dict[str, Any]]:
        """What is committed, by plain reads."""
        return {
            (name, document["_id"]): stored(document) for name in COLLECTIONS for document in self.raw[name].find({})
        }

    @invariant()
    def agree(self) -> None:
        """The database and the session hold what the model says."""
        found = self.read()
        different = {place for place in {*self.committed, *found} if self.committed.get(place) != found.get(place)}
        assert {} == {place: (self.committed.get(place), found.get(place)) for place in different}
        inside = [e for e in self.entities if e.state != "outside"]
        assert [] == [e for e in self.entities if (e in inside) != (e.instance in self.session)]
        assert {id(e.instance) for e in inside if e.state == "new"} == set(map(id, self.session.new))
        assert {id(e.instance) for e in inside if e.marked} == set(map(id, self.session.deleted))
        dirty = set(map(id, self.session.dirty))
        assert {id(e.instance) for e in inside if e.changed} <= dirty

    def look(self) -> None:
        """Every object shows what the model says."""
        for e in self.entities:
            assert e.values == shown(e.instance), e

    @rule()
    def look_at_all(self) -> None:
        """Touch every attribute of every object, which unpacks what is unpacked at first touch."""
        self.look()

    # Steps

    def may_insert(self, place: Place) -> bool:
        """Whether an object with this key may be added: two new ones may not have it; others see to it beforehand."""
        if any(e.state == "new" and e.place == place for e in self.entities):
            return False
        known = self.known(place)
        if self.transactions:  # a new object must not take the place of one whose document somebody else deleted
            return known is None or known.marked or place in self.view
        return known.marked if known is not None else place not in self.view

    @rule(cls=st.sampled_from(CONCRETE), key=SMALL, number=SMALL)
    def add(self, cls: Any, key: int, number: int) -> None:
        """Add a new object."""
        if self.may_insert((cls.__collection__, key)):
            instance = cls(id=key, number=number)
            self.session.add(instance)
            values = shown(instance)
            if "version" in values:
                assert 0 == values["version"]
            self.entities.append(Entity(instance, values, state="new"))

    @precondition(lambda self: self.entities)
    @rule(which=PICK, acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=8), data=st.data())
    def act_on_one(self, which: int, acts: list[str], data: st.DataObject) -> None:
        """Several steps with one object."""
        self.follow(self.entities[which % len(self.entities)], acts, data)

    @precondition(lambda self: self.entities)
    @rule(which=PICK, script=st.sampled_from(SCRIPTS), data=st.data())
    def act_by_script(self, which: int, script: tuple[type, str], data: st.DataObject) -> None:
        """Steps with one object that have something to do with one another."""
        cls, acts = script
        found = [e for e in self.entities if e.state == "stored" and isinstance(e.instance, cls)]
        if found:
            self.follow(found[which % len(found)], acts.split(", "), data)

    def follow(self, e: Entity, acts: list[str], data: st.DataObject) -> None:
        """These steps with an object."""
        for act in acts:
            self.act(e, act, *data.draw(HOW))
            self.agree()
            if e not in self.entities:
                break

    @precondition(lambda self: self.entities)
    @rule(changes=st.lists(st.tuples(PICK, st.sampled_from(ACTS), PICK, SMALL, WORD), min_size=1, max_size=6))
    def act_on_several(self, changes: list[tuple[int, str, int, int, str]]) -> None:
        """A step with each of several objects."""
        for which, act, kind, number, word in changes:
            if self.entities:
                self.act(self.entities[which % len(self.entities)], act, kind, number, word)

    def act(self, e: Entity, act: str, kind: int, number: int, word: str) -> None:
        """A step with an object, where its state permits that."""
        if act in ("change", *CHANGES) and e.state != "outside":
            self.change(e, act, kind, number, word)
        elif act == "delete" and e.state != "outside" and not e.marked:
            self.session.delete(e.instance)
            e.state, e.marked = ("outside", False) if e.state == "new" else ("stored", True)
        elif act == "add" and e.marked:
            if not any(other.state == "new" and other.place == e.place for other in self.entities):
                self.session.add(e.instance)
                e.marked = False
        elif act == "add" and e.state == "outside":
            self.add_again(e)
        elif act == "expunge" and e.state != "outside":
            self.session.expunge(e.instance)
            if e.state == "stored" and self.undo:
                e.expunged = True
                self.unsure = self.unsure or []
            e.state, e.marked = "outside", False
        elif act == "replace" and e.state == "stored" and not e.marked:
            self.session.delete(e.instance)
            e.marked = True
            self.add(class_of(e.instance), e.values["_id"], number)
        elif act == "update":
            self.update_all(class_of(e.instance), min(number, e.values["number"]), 1)
        elif act == "somebody else" and not self.in_transaction and e.place in self.committed:
            self.change_underneath(e.place, number)
        elif act in ("flush", "commit", "rollback"):
            getattr(self, act)()

    def add_again(self, e: Entity) -> None:
        """Add an object that was rolled back, deleted or expunged."""
        if e.base is None:
            if self.may_insert(e.place):
                self.session.add(e.instance)
                e.state = "new"
        elif self.known(e.place) is None:
            self.session.add(e.instance)
            e.state, e.expunged = "stored", False

    def change(self, e: Entity, what: str, kind: int, number: int, word: str) -> None:
        """Change an attribute of an object, or any, at some depth."""
        own = ATTRIBUTES[class_of(e.instance)]
        forms = [form for name, forms in CHANGES.items() if name in own and what in ("change", name) for form in forms]
        if forms:
            forms[kind % len(forms)](e.instance, e.values, number, word)

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, rolls_back=st.booleans())
    def load_after_statement(self, cls: Any, least: int, rolls_back: bool) -> None:
        """A session of its own loads what a statement wrote."""
        self.another_session(False)
        self.update_all(cls, least, 1)
        self.query(cls, least, 4, False)
        if rolls_back:
            self.rollback()

    @rule(cls=st.sampled_from(CONCRETE), key=SMALL)
    def get(self, cls: Any, key: int) -> None:
        """An object by its key."""
        place = cls.__collection__, key
        known = self.known(place)
        if known is not None:
            expected = known.instance if isinstance(known.instance, cls) and not known.marked else None
            assert expected is self.session.get(cls, key)
            return
        done, found = self.do(lambda: self.session.get(cls, key), flushes=self.transactions)
        if done:
            document = self.view.get(place)
            if document is not None and not issubclass(_class_of(place, document), cls):
                document = None
            self.load(cls, [document] if document else [], [found] if found is not None else [])

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, limit=st.integers(1, 4), descending=st.booleans())
    def query(self, cls: Any, least: int, limit: int, descending: bool) -> None:
        """Objects by a condition, in an order, up to a limit."""
        order = [cls.number.desc(), cls.id.desc()] if descending else [cls.number, cls.id]
        statement = select(cls).where(cls.number >= least).order_by(*order).limit(limit)
        done, found = self.do(lambda: self.session.scalars(statement).all(), flushes=self.transactions)
        if done:
            documents = self.matching(cls, least)
            documents.sort(key=lambda document: (document["number"], document["_id"]), reverse=descending)
            self.load(cls, documents[:limit], list(found))

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL)
    def query_columns(self, cls: Any, least: int) -> None:
        """Columns, which show the database's side."""
        statement = select(cls.id, cls.others).where(cls.number >= least).order_by(cls.id)
        done, found = self.do(lambda: self.session.execute(statement).all(), flushes=self.transactions)
        if done:
            expected = sorted((document["_id"], document["others"]) for document in self.matching(cls, least))
            assert expected == [tuple(row) for row in found]

    def matching(self, cls: type, least: int) -> list[dict[str, Any]]:
        """The documents of a class with a number that is large enough, as the session sees them."""
        return [
            document
            for place, document in self.view.items()
            if issubclass(_class_of(place, document), cls) and document["number"] >= least
        ]

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, step=st.integers(1, 3))
    def update_all(self, cls: Any, least: int, step: int) -> None:
        """A statement that changes documents; the session's objects show it where the user changed nothing."""
        statement = update(cls).where(cls.number >= least).set(cls.number.inc(step))
        done, written = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if not done:
            return
        self.statement_wrote()
        matched = self.matching(cls, least)
        assert len(matched) == written.matched
        for document in matched:
            document["number"] += step
            if "version" in document:
                document["version"] += 1
            e = self.known((cls.__collection__, document["_id"]))
            if e is not None:
                self.undo.append((e, e.base, e.gone))
                old, e.base = e.base or {}, deepcopy(document)
                for name, value in document.items():
                    if name == "version" or e.values[name] == old[name]:
                        e.values[name] = deepcopy(value)

    @rule(cls=st.sampled_from(CONCRETE), least=st.integers(3, 8))
    def delete_all(self, cls: Any, least: int) -> None:
        """A statement that deletes documents; the session's objects of them are outside then."""
        done, written = self.do(
            lambda: self.session.execute(delete(cls).where(cls.number >= least)), flushes=self.transactions
        )
        if not done:
            return
        view = self.statement_wrote()
        matched = self.matching(cls, least)
        assert len(matched) == written.matched
        for document in matched:
            place = cls.__collection__, document["_id"]
            del view[place]
            e = self.known(place)
            if e is not None:
                self.remove(e)

    @rule()
    def flush(self) -> None:
        """Write what changed."""
        self.do(self.session.flush)

    @rule()
    def commit(self) -> None:
        """Write what changed, for others to see."""
        done, _ = self.do(self.session.commit)
        if done:
            self.committed = self.view
            self.undo.clear()
            self.unsure = None
            for e in self.entities:
                e.expunged = False

    @rule()
    def rollback(self) -> None:
        """Give up what was not committed."""
        self.roll_back()
        self.look()

    @precondition(lambda self: self.committed and not self.in_transaction)
    @rule(which=PICK, how=SMALL)
    def somebody_else(self, which: int, how: int) -> None:
        """Another client changes or deletes a document."""
        places = sorted(self.committed)
        if places:
            self.change_underneath(places[which % len(places)], how)

    def change_underneath(self, place: Place, how: int) -> None:
        """Another client changes a field that the session does not, or deletes the document, or a part of it."""
        collection, key = place
        if how == 0 and not any(e.state == "new" and e.place == place for e in self.entities):
            self.raw[collection].delete_one({"_id": key})
            del self.committed[place]
            return
        document = self.committed[place]
        names = ["others", "version"] if "version" in document else ["others"]
        self.raw[collection].update_one({"_id": key}, {"$inc": dict.fromkeys(names, 1)})
        for name in names:
            document[name] += 1
        if how == 1 and document.get("point") is not None:
            self.raw[collection].update_one({"_id": key}, {"$set": {"point": None}})
            document["point"] = None

    @rule(loads=st.booleans())
    def another_session(self, loads: bool) -> None:
        """Close the session and begin another, which may load all there is."""
        self.session.close()
        self.view = self.committed
        self.begin_session()
        for cls in (Thing, Counted, Animal) if loads else ():
            self.query(cls, 0, 100, False)


def _class_of(place: Place, document: dict[str, Any]) -> type:
    return {"things": Thing, "counted": Counted}.get(place[0]) or {"Animal": Animal, "Dog": Dog, "Cat": Cat}[
        document.get("_type", "Animal")
    ]


Change = Callable[[Any, dict[str, Any], int, str], None]
"""Changes an object and its plain values alike."""


def _assign(name: str, make: Callable[[int, str], Any]) -> Change:
    def change(instance: Any, values: dict[str, Any], number: int, word: str) -> None:
        setattr(instance, name, make(number, word))
        values[name] = plain(make(number, word))

    return change


def _in_place(name: str, act: Callable[[Any, int, str], None]) -> Change:
    """The same act on the object's value and on the plain one, where there is a value."""

    def change(instance: Any, values: dict[str, Any], number: int, word: str) -> None:
        if values[name] is not None:
            act(getattr(instance, name), number, word)
            act(values[name], number, word)

    return change


def plain(value: Any) -> Any:
    """A value as the model holds it."""
    if isinstance(value, Point):
        return {"x": value.x, "tags": list(value.tags)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(one) for one in value]
    return deepcopy(value)


def _set_x(point: Any, number: int, word: str) -> None:
    if isinstance(point, dict):
        point["x"] = number
    else:
        point.x = number


def _tags_of(point: Any) -> Any:
    return point["tags"] if isinstance(point, dict) else point.tags


def _put(items: Any, number: int, word: str) -> None:
    if items:
        items[number % len(items)] = word


def _drop(items: Any, number: int, word: str) -> None:
    if items:
        del items[number % len(items)]


def _drop_two(table: Any, number: int, word: str) -> None:
    for one in {"a", "b", "c"} - {word}:
        table.pop(one, None)


def _store(array: Any, number: int, word: str) -> None:
    array[number % 3] = float(number)


def _points(act: Callable[[Any, int, str], None]) -> Callable[[Any, int, str], None]:
    def change(points: Any, number: int, word: str) -> None:
        if points:
            act(points[number % len(points)], number, word)

    return change


def _push_point(instance: Any, values: dict[str, Any], number: int, word: str) -> None:
    instance.points.append(Point(x=number, tags=[word]))
    values["points"].append({"x": number, "tags": [word]})


def _push_tag(point: Any, number: int, word: str) -> None:
    _tags_of(point).append(word)


CHANGES: dict[str, list[Change]] = {
    "number": [_assign("number", lambda number, word: number)],
    "tags": [
        _assign("tags", lambda number, word: [word] * number),
        _in_place("tags", lambda tags, number, word: tags.append(word)),
        _in_place("tags", lambda tags, number, word: tags.insert(0, word)),
        _in_place("tags", _put),
        _in_place("tags", _drop),
        _in_place("tags", lambda tags, number, word: tags.sort()),
    ],
    "table": [
        _assign("table", lambda number, word: {word: [number]}),
        _in_place("table", lambda table, number, word: table.update({word: [number]})),
        _in_place("table", lambda table, number, word: table.setdefault(word, []).append(number)),
        _in_place("table", lambda table, number, word: table.update({one: [number] for one in "abc"})),
        _in_place("table", lambda table, number, word: table.pop(word, None)),
        _in_place("table", _drop_two),
    ],
    "point": [
        _assign("point", lambda number, word: None),
        _assign("point", lambda number, word: Point(x=number)),
        _in_place("point", _set_x),
        _in_place("point", _push_tag),
    ],
    "points": [
        _assign("points", lambda number, word: [Point(x=number, tags=[word])]),
        _push_point,
        _in_place("points", _points(_set_x)),
        _in_place("points", _points(_push_tag)),
        _in_place("points", _drop),
    ],
    "array": [_assign("array", lambda number, word: np.full(3, number, "f8")), _in_place("array", _store)],
    "embedding": [
        _assign("embedding", lambda number, word: np.array([number, 1, 2], "f4")),
        _assign("embedding", lambda number, word: None),
        _in_place("embedding", _store),
    ],
}
