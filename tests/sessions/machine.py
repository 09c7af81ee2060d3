"""A session and a plain model of it: what each step does to the database, to the session and to its objects."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from superorm import (
    Document,
    NoResultFound,
    NotLoadedError,
    StaleDocumentError,
    delete,
    insert,
    load_only,
    score,
    select,
    update,
)
from tests.sessions.changes import CHANGES
from tests.sessions.classes import (
    ATTRIBUTES,
    CONCRETE,
    DEFAULTS,
    KEYS,
    Animal,
    Cat,
    Counted,
    Dog,
    Keyed,
    Thing,
    name_of,
    plain,
    shown,
    stored,
    text,
)
from tests.sessions.model import Entity, Fields, Place, place_of
from tests.sessions.world import World, raises

__all__ = ["SCRIPTS", "SessionMachine"]

PICK = st.integers(0, 40)
SMALL = st.integers(0, 5)
WORD = st.sampled_from("abc")
HOW = st.tuples(PICK, SMALL, WORD)
ACTS = [
    *["change"] * 6,
    *["flush", "rollback", "underneath", "expire", "refresh", "merge", "other session"] * 2,
    *["commit", "delete", "add", "expunge", "replace", "update", "write", "upsert", "bulk", "get", "look"],
    *["expire one", "refresh one", "only", "nearest", "merge own", "another", "expunge all"],
]
UNDERNEATH = ["others", "others", "gone", "no point", "without point", "no corner", "without table", "unmapped"]
LAZY = (Thing, Counted, Dog, Cat, Keyed)
NESTED = (Thing, Counted)
SCRIPTS: list[tuple[Any, str]] = [
    # what others took away, into which parts are set
    (Thing, "point.new, commit, no point, point.x, flush"),
    (Thing, "point.new, table.all, commit, without point, point.tag, table.key, flush"),
    (Thing, "point.new, table.all, commit, without table, point.x, table.key, flush"),
    (Thing, "point.corner, commit, no corner, point.y, flush"),
    (Cat, "point.new, commit, without point, point.x, flush"),
    # parts of versioned documents and others
    (NESTED, "point.new, table.all, commit, point.none, table.pop, flush, look, commit"),
    (
        NESTED,
        "table.all, commit, table.drop_two, flush, table.key, rollback, table.drop_two, commit, table.clear, commit",
    ),
    (NESTED, "table.all, commit, table.order, commit, table.first, flush, table.pop, commit, table.numbers, commit"),
    (NESTED, "table.clear, commit, table.key, commit, table.append, table.nameless, commit, table.pop, commit"),
    (NESTED, "point.new, commit, point.corner, commit, point.y, commit, point.no_corner, point.tag, commit"),
    (
        Counted,
        "tags.set, commit, tags.append, flush, tags.drop, commit, tags.put, tags.append, commit, tags.sort, commit",
    ),
    (Thing, "table.all, other session, table.key, commit, other session, table.append, commit, look"),
    (Thing, "table.set, commit, theirs table.numbers, table.clear, commit, theirs table.numbers, table.key, commit"),
    (Thing, "table.all, commit, theirs table.numbers, table.pop, commit, refresh, table.first, commit, look"),
    (Thing, "table.clear, commit, theirs table.key, table.numbers, table.append, commit, refresh, look"),
    (Thing, "without table, refresh, theirs table.key, table.append, commit, refresh, table.append, commit, look"),
    (Thing, "without table, refresh, theirs table.set, table.set, commit, refresh, look"),
    (Thing, "point.corner, commit, theirs point.y, point.tag, commit, theirs point.none, point.y, commit"),
    # vectors and arrays
    (Counted, "embedding.set, commit, nearest, embedding.store, commit, nearest, embedding.none, commit, nearest"),
    (
        Counted,
        "embedding.set, commit, nearest, embedding.del, commit, nearest, embedding.set, flush, nearest, rollback",
    ),
    (Counted, "embedding.set, commit, nearest, delete, flush, nearest, rollback, nearest, delete, commit, nearest"),
    (Counted, "embedding.none, commit, nearest, embedding.set, commit, nearest, embedding.del, commit, nearest"),
    (Counted, "embedding.set, commit, embedding.store, rollback, nearest, write, nearest, upsert, nearest, commit"),
    (Thing, "array.set, commit, array.store, flush, array.store, rollback, array.store, commit, array.del, commit"),
    # deleted attributes
    (LAZY, "tags.append, point.new, commit, tags.del, flush, look, rollback, look, tags.del, point.del, commit, look"),
    (LAZY, "look, tags.del, point.del, commit, look, tags.append, commit, tags.set, point.new, commit, look"),
    (Document, "number.del, commit, look, number.set, flush, number.del, rollback, look, number.del, flush, look"),
    (Document, "number.del, tags.del, point.none, update, refresh, look, commit, expire, get, look"),
    (Document, "tags.del, number.set, write, rollback, look"),
    # keys, deletes and new objects with the same key
    (Document, "replace, commit, change, flush, delete, rollback, look"),
    (Document, "change, replace, flush, change, rollback, delete, flush, rollback, look"),
    (Keyed, "replace, flush, get, rollback, replace, commit, look, delete, bulk, commit, get"),
    (Document, "gone, another, flush, look, another, commit"),
    (Document, "change, flush, expunge all, look, rollback, look, add, change, commit"),
    (Document, "delete, add, delete, flush, add, flush, rollback, add, look"),
    (Document, "change, delete, flush, rollback, look, change, delete, flush, bulk, get, rollback, look, commit"),
    (
        Document,
        "unmapped, refresh, delete, flush, add, commit, look, expire, unmapped, get, delete, commit, add, commit",
    ),
    (Document, "unmapped, refresh, expire one, unmapped, get, delete, flush, add, commit, look"),
    (Document, "delete, commit, add, flush, write, rollback, look, add, flush, expire, rollback, look, add, commit"),
    (Counted, "commit, delete, others, flush"),
    (Counted, "commit, change, change, others, flush"),
    (Counted, "commit, tags.append, delete, flush, add, tags.append, flush, look, rollback, add, flush"),
    # two sessions
    (Document, "other session, change, commit, other session, change, flush, other session, delete, commit"),
    (Document, "change, commit, other session, change, refresh, change, commit, other session, merge, commit"),
    # states
    (Document, "expire, look, number.set, tags.set, get, look, commit"),
    (
        LAZY,
        "tags.del, point.del, commit, refresh, look, theirs change, expire, tags.set, point.none, commit, get, look",
    ),
    (LAZY, "tags.del, point.del, commit, expire, tags.set, point.none, get, look, commit, look"),
    (LAZY, "tags.del, point.del, commit, refresh, expire, update, look, rollback, look, get, look, commit"),
    (Document, "expire, number.set, point.new, rollback, look, others, refresh, look"),
    (Document, "change, flush, expire, look, change, rollback, look, expire, others, only, look, get, look"),
    (Document, "expire one, look, change, others, get, look, commit, expire one, flush, refresh one, look"),
    (Document, "look, change, refresh, look, change, change, refresh one, look, commit"),
    (Document, "change, flush, refresh, change, look, rollback, look, change, commit"),
    (Document, "gone, refresh, bulk, refresh, look, rollback, get"),
    (Document, "gone, expire, bulk, get, look, rollback, get"),
    (Document, "change, flush, expunge, rollback, look, add, change, commit"),
    (Document, "change, flush, expire, expunge, rollback, add, look, commit"),
    (Document, "commit, expunge, change, merge, look, commit, change, merge, rollback"),
    (Document, "change, commit, expunge, change, get, change, merge, look, rollback, merge, delete, merge, commit"),
    (LAZY, "expunge, look, tags.del, point.del, merge, look, tags.append, commit, look"),
    (Document, "expunge, gone, change, merge, look, commit"),
    (LAZY, "delete, commit, merge, tags.append, point.tag, look, commit, look"),
    (
        LAZY,
        "tags.append, commit, expunge, get, tags.append, point.new, merge, tags.append, point.tag, look, commit, look",
    ),
    (Document, "theirs change, refresh, expire, merge, look, commit, change, merge own, look, commit"),
    (Document, "theirs change, refresh, delete, merge, look, commit, look"),
    (Document, "theirs change, refresh, replace, merge, look, commit, look"),
    (LAZY, "tags.del, point.del, commit, number.set, flush, expire, rollback, look, number.set, commit"),
    (LAZY, "number.set, tags.append, point.tag, flush, expunge, get, look, rollback, look, get, commit"),
    # statements that write
    (Document, "change, update, change, update, look, rollback, look, change, commit"),
    (Document, "change, flush, change, update, look, flush, change, rollback, change"),
    (Document, "commit, change, update, expunge, add, rollback, change, update, look"),
    (Document, "upsert, look, change, upsert, look, rollback, look, delete, upsert, get, rollback, look"),
    (Document, "change, write, look, change, write, rollback, look, expire, write, look, rollback, look, commit"),
    (Document, "delete all, look, rollback, look, change, delete all, bulk, get, commit"),
    # found by long runs
    (Document, "change, flush, expunge, expunge all, rollback, look, add, change, commit"),
    (Document, "expire, number.set, number.del, look, commit, get, number.set, number.del, commit, look"),
    (LAZY, "expire, point.new, tags.append, commit, point.del, tags.del, commit, get, look, point.new, commit, look"),
    (LAZY, "expire, point.new, tags.append, point.del, tags.del, rollback, look, get, look, point.tag, commit, look"),
]
"""Each with the classes of the objects to follow it."""


class SessionMachine(World):
    """Steps of sessions, one after another."""

    @initialize(number=SMALL, scripts=st.lists(st.sampled_from(SCRIPTS), min_size=2, max_size=5), data=st.data())
    def begin(self, number: int, scripts: list[tuple[Any, str]], data: st.DataObject) -> None:
        """Begin with some scripts."""
        self.fill(number)
        for script in scripts:
            self.act_by_script(number, script, data)

    def fill(self, number: int) -> None:
        """Objects of each class, stored and new, with something in each attribute."""
        for position, cls in enumerate([*CONCRETE, *CONCRETE, Thing, Counted]):
            if position == 2 * len(CONCRETE):
                self.commit()
            self.add(cls, position // len(CONCRETE) * 2 + position % 2, number)
            for name in [next(name for name in CHANGES if name.startswith(f"{one}.")) for one in ATTRIBUTES[cls][2:]]:
                self.change(self.entities[-1], name, number, "a")

    def play(self, script: tuple[Any, str], random: Random) -> None:
        """A script with an object of each of its classes."""
        classes, acts = script
        for cls in [cls for cls in CONCRETE if issubclass(cls, classes)]:
            self.rollback()
            if classes is Keyed:
                for key, make in enumerate(KEYS[Keyed]):
                    if (Keyed.__collection__, name_of(plain(make()))) not in self.view:
                        self.add(Keyed, key, key)
                self.commit()
            self.query(cls, 0, 4, False)
            found = [e for e in self.entities if e.state == "stored" and e.cls is cls]
            for e in found if classes is Keyed else found[:1]:
                if e in self.entities:
                    self.follow(e, acts, lambda: (random.randrange(41), random.randrange(6), random.choice("abc")))

    @rule()
    def look_at_all(self) -> None:
        """Touch every attribute of every object, which unpacks what is unpacked at first touch."""
        self.look()

    # Steps with objects

    def may_insert(self, place: Place) -> bool:
        """Whether an object with this key may be added: two new ones may not have it; others see to it beforehand."""
        if any(e.state == "new" and e.place == place for e in self.entities):
            return False
        known = self.known(place)
        return self.transactions or (known.marked if known is not None else place not in self.view)

    @rule(cls=st.sampled_from(CONCRETE), key=SMALL, number=SMALL)
    def add(self, cls: Any, key: int, number: int) -> None:
        """Add a new object."""
        made = KEYS[cls][key]()
        if self.may_insert((cls.__collection__, name_of(plain(made)))):
            instance = cls(id=made, number=number)
            self.session.add(instance)
            values = shown(instance)
            if cls is Counted:
                assert 0 == values["version"]
            self.entities.append(Entity(instance, values, state="new"))

    @precondition(lambda self: self.entities)
    @rule(which=PICK, acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=8), data=st.data())
    def act_on_one(self, which: int, acts: list[str], data: st.DataObject) -> None:
        """Several steps with one object."""
        self.follow(self.entities[which % len(self.entities)], ", ".join(acts), lambda: data.draw(HOW))

    @precondition(lambda self: self.entities)
    @rule(which=PICK, script=st.sampled_from(SCRIPTS), data=st.data())
    def act_by_script(self, which: int, script: tuple[Any, str], data: st.DataObject) -> None:
        """Steps with one object that have something to do with one another."""
        classes, acts = script
        if self.in_transaction and which % 2:
            self.commit()
        found = [e for e in self.entities if e.state == "stored" and isinstance(e.instance, classes)]
        if found:
            self.follow(found[which % len(found)], acts, lambda: data.draw(HOW))

    def follow(self, e: Entity, acts: str, how: Callable[[], tuple[int, int, str]]) -> None:
        """These steps with an object."""
        for act in acts.split(", "):
            self.act(e, act, *how())
            if act != "change" and act not in CHANGES:  # only in memory
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
        name = act.replace(" ", "_")
        if act == "change":
            forms = [name for name, form in CHANGES.items() if form.attribute in e.names]
            self.change(e, forms[kind % len(forms)], number, word)
        elif act in CHANGES:
            self.change(e, act, number, word)
        elif act in UNDERNEATH or act == "underneath":
            self.change_underneath(e.place, UNDERNEATH[kind % len(UNDERNEATH)] if act == "underneath" else act)
        elif act in ("flush", "commit", "rollback", "look"):
            getattr(self, name)()
        elif act == "update":
            self.update_all(e.cls, min(number, e.values.get("number", 0)), 1)
        elif act == "delete all":
            self.delete_all(e.cls, e.values.get("number", 0))
        elif act == "nearest":
            self.nearest(number)
        elif act == "only":
            self.query_part(e.cls, 0, ATTRIBUTES[e.cls][kind % len(e.names)])
        elif act.startswith("theirs "):
            self.act_other_session(e, kind, number, word, act[7:])
        else:
            getattr(self, f"act_{name}")(e, kind, number, word)

    def change(self, e: Entity, name: str, number: int, word: str) -> None:
        """Change an attribute of an object at some depth; what is not loaded can only be replaced."""
        form = CHANGES[name]
        one = form.attribute
        if one not in e.names or not form.is_possible(e.values):
            return
        if form.make is None and form.act is None and (e.base is None or one not in e.values):
            return
        values = deepcopy(e.values)
        form.change_values(values, number, word)
        known = e.base is not None and one not in {*e.base, *e.lacking, *e.assigned}
        if known and text(values.get(one)) == text(DEFAULTS[one]):
            return  # whether that is a change depends on whether it was read before
        form.change_object(e.instance, number, word)
        e.values = values

    def act_delete(self, e: Entity, kind: int, number: int, word: str) -> None:
        if e.state != "outside" and not e.marked:
            self.session.delete(e.instance)
            e.state, e.marked = ("outside", False) if e.state == "new" else ("stored", True)

    def act_add(self, e: Entity, kind: int, number: int, word: str) -> None:
        """Keep an object after all, or add one that was rolled back, deleted or expunged."""
        if e.marked:
            if not any(other.state == "new" and other.place == e.place for other in self.entities):
                self.session.add(e.instance)
                e.marked = False
        elif e.state == "outside" and e.base is None:
            if self.may_insert(e.place) and e.unloaded is None:
                self.session.add(e.instance)
                e.state = "new"
        elif e.state == "outside" and self.known(e.place) is None:
            self.session.add(e.instance)
            self.doubt(e)  # nobody knows since when it is outside
            e.state, e.expunged = "stored", False

    def act_expunge(self, e: Entity, kind: int, number: int, word: str) -> None:
        if e.state == "outside":
            return
        if self.side.undo:
            self.look_at(e)  # what is read at first touch would be what it was before
        self.session.expunge(e.instance)
        if e.state == "stored" and self.written(e):
            e.expunged = True
            self.be_unsure()
        e.state, e.marked = "outside", False

    def act_replace(self, e: Entity, kind: int, number: int, word: str) -> None:
        """Delete an object and add a new one with its key."""
        if e.state == "stored" and not e.marked:
            self.session.delete(e.instance)
            e.marked = True
            self.act_another(e, kind, number, word)

    def act_expire(self, e: Entity, kind: int, number: int, word: str) -> None:
        if self.may_expire(e):
            self.session.expire(e.instance)
            e.expire(e.names)

    def act_expire_one(self, e: Entity, kind: int, number: int, word: str) -> None:
        if self.may_expire(e):
            name = ATTRIBUTES[e.cls][kind % len(e.names)]
            self.session.expire(e.instance, [name])
            e.expire(frozenset([name]))

    def may_expire(self, e: Entity) -> bool:
        """Whether it is stored; then what it shows is kept for a rollback."""
        if self.side.undo and e.state == "stored":
            e.forgotten = {**e.forgotten, **(e.base or {})}
        return e.state == "stored" and not e.marked

    def act_refresh(self, e: Entity, kind: int, number: int, word: str) -> None:
        if e.state != "stored":
            return
        document = self.view.get(e.place)
        if document is None:
            raises(NoResultFound, lambda: self.session.refresh(e.instance))
            return
        self.session.refresh(e.instance)
        e.show(document)
        self.doubt(e)

    def act_refresh_one(self, e: Entity, kind: int, number: int, word: str) -> None:
        document = self.view.get(e.place)
        if e.state == "stored" and document is not None:
            name = ATTRIBUTES[e.cls][kind % len(e.names)]
            self.session.refresh(e.instance, [name])
            whole = e.unloaded is None
            e.expire(frozenset([name]))
            e.complete(document, frozenset([name]))
            e.unloaded = None if whole else e.unloaded
            self.doubt(e)

    def act_get(self, e: Entity, kind: int, number: int, word: str) -> None:
        self.get_key(e.cls, e.instance.id, e.place)

    def act_merge(self, e: Entity, kind: int, number: int, word: str) -> None:
        """Merge an object that is outside, or an object of the other session."""
        others = [other for other in self.sides[1].entities if other.cls is e.cls]
        same = [other for other in others if other.place == e.place] or others
        given = e if e.state == "outside" or not others else same[number % len(same)]
        if given.state == "outside" or given is not e:
            self.merge(given, pickled=kind % 2 == 0)

    def act_merge_own(self, e: Entity, kind: int, number: int, word: str) -> None:
        """An object of the session is what it is merged into; unless it is flushed, nothing happens."""
        if e.state == "stored" and not e.marked:
            done, found = self.do(lambda: self.session.merge(e.instance), flushes=self.transactions)
            assert not done or found is e.instance

    def act_another(self, e: Entity, kind: int, number: int, word: str) -> None:
        """Add another object with the key, which is refused while this one has it."""
        keys = [name_of(plain(key())) for key in KEYS[e.cls]]
        self.add(e.cls, keys.index(e.place[1]), number)

    def act_expunge_all(self, e: Entity, kind: int, number: int, word: str) -> None:
        for one in self.entities if self.side.undo else ():
            self.look_at(one)
        self.session.expunge_all()
        left = [one for one in self.entities if one.state == "stored" and self.written(one)]
        for one in left:
            one.expunged = True
        for one in self.entities:
            one.state, one.marked = "outside", False
        if left:
            self.be_unsure()

    def merge(self, given: Entity, *, pickled: bool) -> None:
        """Copy an object onto the session's own, or onto a new one."""
        known, document = self.known(given.place), self.view.get(given.place)
        target = next((e for e in self.entities if e.state == "new" and e.place == given.place), None)
        kept = known if target is None and known is not None and known.marked else None
        target = target or known
        base = document if target is None else target.base
        for name in given.names:
            default = name in given.values and text(given.values[name]) == text(DEFAULTS[name])
            if (base is not None and default and name not in base) or (target is not None and target.assigned):
                return  # whether that is a change depends on whether it was read before
        if kept is not None:
            kept.marked = False
        instance = pickle.loads(pickle.dumps(given.instance)) if pickled else given.instance
        errors: list[Any] = []

        def act() -> Any:
            try:
                return self.session.merge(instance)
            except (NotLoadedError, StaleDocumentError) as error:
                if not (self.transactions and self.expected_errors()):
                    errors.append(type(error))
                    return None
                raise

        done, found = self.do(act, flushes=self.transactions)
        if done:
            self.merge_model(given, found, errors)
            if kept is not None:
                kept.marked = bool(errors)

    def merge_model(self, given: Entity, found: Any, errors: list[Any]) -> None:
        """What is `found`, or the errors, are as they should be."""
        place = given.place
        document = self.view.get(place)
        target = self.known(place)
        if document is not None and (target is None or target.unloaded is not None):
            instance = found if found is not None else self.session.get(given.cls, given.instance.id)
            self.load(given.cls, [document], [instance])
            target = self.known(place)
        mine = (given.base or given.values).get("version", 0)
        if target is None or target.marked:
            target = next((e for e in self.entities if e.state == "new" and e.place == place), None)
        if target is None:
            self.merge_as_new(given, found, errors)
            return
        if target.state == "new":
            pass
        elif given.versioned and (given.base is not None or mine) and mine != (target.base or {})["version"]:
            assert [StaleDocumentError] == errors
            return
        assert [] == errors
        assert target.instance is found
        for name in given.names - (given.lacking - given.values.keys()):
            if name in given.values:
                target.values[name] = deepcopy(given.values[name])
            else:
                target.values.pop(name, None)

    def merge_as_new(self, given: Entity, found: Any, errors: list[Any]) -> None:
        """There is no document any more."""
        if given.unloaded is not None:
            assert [NotLoadedError] == errors
        elif given.base is not None and given.versioned:
            assert [StaleDocumentError] == errors
        else:
            assert [] == errors
            gone = deepcopy(given.base or given.gone)
            self.entities.append(Entity(found, deepcopy(given.values), state="new", gone=gone))

    def act_upsert(self, e: Entity, kind: int, number: int, word: str) -> None:
        """A statement that changes the object's document, or inserts one."""
        given = {"number": number} | ({"tags": [word]} if "tags" in e.names else {})
        if e.cls in (Animal, Dog, Cat):
            return
        if e.cls is Counted:
            given["embedding"] = [float(number), 1.0, 0.0]
        statement = insert(e.cls).values({"id": e.instance.id, **given}).upsert()
        done, _ = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if not done:
            return
        view = self.write()
        document = view.get(e.place)
        self.be_unsure()
        if document is None:
            values = {name: deepcopy(DEFAULTS[name]) for name in e.names} | given
            version = {"version": 1} if e.versioned else {}
            view[e.place] = {"_id": e.values["_id"], **values, **version}
            self.insert(e.place)
            return
        self.statement_writes(document, e.cls, given)

    def statement_writes(self, document: Fields, cls: Any, given: Fields) -> None:
        """A statement sets values in a document; the session's object shows it where the user changed nothing."""
        document |= deepcopy(given)
        if cls is Counted:
            document["version"] += 1
        e = self.known(place_of(cls.__collection__, document))
        if e is None:
            return
        self.remember(e)
        kept = {name: e.values.get(name) for name in e.altered}
        there = {name for name in e.altered if name in e.values}
        e.show(document)
        for name, value in kept.items():
            if name in there:
                e.values[name] = value
            else:
                del e.values[name]
        if any(name not in document and text(e.values[name]) == text(DEFAULTS[name]) for name in there):
            self.act_expunge(e, 0, 0, "")  # whether that is a change depends on whether it was read before
            self.entities.remove(e)

    def act_write(self, e: Entity, kind: int, number: int, word: str) -> None:
        """A statement that sets several attributes of documents."""
        given: Fields = {"number": number}
        if "tags" in e.names:
            given["tags"] = [word]
        if e.versioned:
            given["embedding"] = [float(number), 2.0, 0.0]
        cls = e.cls
        least = min(number, e.values.get("number", 0))
        statement = update(cls).where(cls.number >= least).values(**given)
        done, written = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if done:
            self.write()
            self.be_unsure()
            matched = self.found(cls, least)
            assert len(matched) == written.matched
            for document in matched:
                self.statement_writes(document, cls, given)

    def act_bulk(self, e: Entity, kind: int, number: int, word: str) -> None:
        """Insert another object with the key, which the session does not know, where there is none."""
        made = [e.cls(id=e.instance.id, number=number)]
        values = shown(made[0])
        if self.is_taken(e.place):
            return
        if number % 2:
            done, _ = self.do(lambda: self.session.bulk_insert(made), flushes=self.transactions)
        else:
            statement = insert(e.cls).values(made)
            done, _ = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if done:
            self.be_unsure()
            view = self.write()
            assert e.place not in view
            view[e.place] = Entity(made[0], {**values, **({"version": 1} if e.versioned else {})}).document()
            self.insert(e.place)

    def act_other_session(self, e: Entity, kind: int, number: int, word: str, act: str = "change") -> None:
        """The other session changes the same document, and commits."""
        if self.in_transaction or e.place not in self.committed:
            return
        place, key, cls = e.place, e.instance.id, e.cls
        self.sides.reverse()
        self.get_key(cls, key, place)
        other = self.known(place)
        if other is not None and not other.marked:
            self.act(other, act, kind, number, word)
            self.act(other, act, kind + number, number, word)
            if kind == 0 and act == "change":
                self.act(other, "delete", kind, number, word)
        self.commit()
        self.sides.reverse()

    @precondition(lambda self: not self.in_transaction)
    @rule()
    def switch(self) -> None:
        """The other session goes on."""
        self.sides.reverse()

    # Reading

    @rule(cls=st.sampled_from(CONCRETE), of=st.sampled_from(CONCRETE), key=SMALL)
    def get(self, cls: Any, of: Any, key: int) -> None:
        """An object by its key."""
        of = of if issubclass(of, cls) else cls
        made = KEYS[of][key]()
        self.get_key(cls, made, (cls.__collection__, name_of(plain(made))))

    def get_key(self, cls: Any, key: Any, place: Place) -> None:
        """An object by its key."""
        known = self.known(place)
        if known is not None:
            there = isinstance(known.instance, cls) and not known.marked
            if not there or known.unloaded is None:
                assert (known.instance if there else None) is self.session.get(cls, key)
                return
        done, got = self.do(lambda: self.session.get(cls, key), flushes=self.transactions)
        if not done:
            return
        document, known = self.view.get(place), self.known(place)
        if document is None:
            assert got is None
            if known is not None:  # it has expired, and is there no more
                known.state, known.marked, known.expunged = "outside", False, bool(self.side.undo)
                if self.side.undo:
                    self.be_unsure()
        elif known is not None:
            known.complete(document, known.names)
            self.doubt(known)
            assert got is known.instance
        else:
            self.load(cls, [document], [got])

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, limit=st.integers(1, 4), descending=st.booleans())
    def query(self, cls: Any, least: int, limit: int, descending: bool) -> None:
        """Objects by a condition, in an order, up to a limit."""
        order = [cls.number.desc(), cls.id.desc()] if descending else [cls.number, cls.id]
        statement = select(cls).where(cls.number >= least).order_by(*order)
        if cls is not Keyed:
            statement = statement.limit(limit)
        done, got = self.do(lambda: list(self.session.scalars(statement)), flushes=self.transactions)
        if done:
            documents = self.found(cls, least)
            if cls is Keyed:
                documents.sort(key=lambda document: repr(name_of(document["_id"])))
                got.sort(key=lambda instance: repr(name_of(plain(instance.id))))
            else:
                documents.sort(key=lambda document: (document["number"], document["_id"]), reverse=descending)
                documents = documents[:limit]
            self.load(cls, documents, got)

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, which=PICK)
    def query_partly(self, cls: Any, least: int, which: int) -> None:
        """Objects with one attribute."""
        self.query_part(cls, least, ATTRIBUTES[cls][which % len(ATTRIBUTES[cls])])

    def query_part(self, cls: Any, least: int, name: str) -> None:
        """Objects with an attribute, those that the session has with what they have."""
        statement = select(cls).where(cls.number >= least).options(load_only(getattr(cls, name)))
        done, got = self.do(lambda: list(self.session.scalars(statement)), flushes=self.transactions)
        if done:
            documents = self.found(cls, least)
            documents.sort(key=lambda document: repr(name_of(document["_id"])))
            got.sort(key=lambda instance: repr(name_of(plain(instance.id))))
            self.load(cls, documents, got, frozenset([name]))

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL)
    def query_columns(self, cls: Any, least: int) -> None:
        """Columns, which show the database's side."""
        statement = select(cls.id, cls.number).where(cls.number >= least)
        done, got = self.do(lambda: self.session.execute(statement).all(), flushes=self.transactions)
        if done:
            expected = [(name_of(document["_id"]), document["number"]) for document in self.found(cls, least)]
            assert sorted(map(repr, expected)) == sorted(repr((name_of(plain(row[0])), row[1])) for row in got)

    @rule(number=SMALL)
    def nearest(self, number: int) -> None:
        """All vectors by their similarity to one, which includes what was flushed."""
        query = np.array([1.0, number, 2.0])
        k = 1 + number % 3 * 3
        statement = select(Counted.id, score()).like(query.tolist(), on=Counted.embedding, k=k, exact=True)
        done, got = self.do(lambda: self.session.execute(statement).all(), flushes=self.transactions)
        if done:
            found = {document["_id"]: document.get("embedding") for document in self.found(Counted, -1)}
            vectors = {key: np.array(vector) for key, vector in found.items() if vector is not None}
            cosines = {key: v @ query / np.linalg.norm(v) / np.linalg.norm(query) for key, v in vectors.items()}
            assert len({row[0] for row in got}) == len(got)
            assert np.allclose([(1 + cosines[row[0]]) / 2 for row in got], [row[1] for row in got], atol=1e-5)
            assert np.allclose(sorted(cosines.values())[::-1][:k], [cosines[row[0]] for row in got], atol=1e-5)

    # Writing

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, rolls_back=st.booleans())
    def load_after_statement(self, cls: Any, least: int, rolls_back: bool) -> None:
        """A session of its own loads what a statement wrote."""
        self.another_session(False)
        self.update_all(cls, least, 1)
        self.query(cls, least, 4, False)
        if rolls_back:
            self.rollback()

    @rule(cls=st.sampled_from(CONCRETE), least=SMALL, step=st.integers(1, 3))
    def update_all(self, cls: Any, least: int, step: int) -> None:
        """A statement that changes documents; the session's objects show it where the user changed nothing."""
        statement = update(cls).where(cls.number >= least).set(cls.number.inc(step))
        done, written = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if done:
            self.write()
            self.be_unsure()
            matched = self.found(cls, least)
            assert len(matched) == written.matched
            for document in matched:
                self.statement_writes(document, cls, {"number": document["number"] + step})

    @rule(cls=st.sampled_from(CONCRETE), least=st.integers(3, 8))
    def delete_all(self, cls: Any, least: int) -> None:
        """A statement that deletes documents; the session's objects of them are outside then."""
        statement = delete(cls).where(cls.number >= least)
        done, written = self.do(lambda: self.session.execute(statement), flushes=self.transactions)
        if done:
            view = self.write()
            self.be_unsure()
            matched = self.found(cls, least)
            assert len(matched) == written.matched
            self.side.thinned.add(cls.__collection__)
            for place in [place_of(cls.__collection__, document) for document in matched]:
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
            self.side.forget()
            for e in self.entities:
                e.expunged = False
                e.forgotten = {}

    @rule()
    def rollback(self) -> None:
        """Give up what was not committed."""
        self.roll_back()
        self.look()

    @precondition(lambda self: self.committed and not self.in_transaction)
    @rule(which=PICK, how=st.sampled_from(UNDERNEATH))
    def somebody_else(self, which: int, how: str) -> None:
        """Another client changes or deletes a document."""
        places = sorted(self.committed, key=repr)
        if places:
            self.change_underneath(places[which % len(places)], how)

    def change_underneath(self, place: Place, how: str) -> None:
        """Another client changes a field that the session does not, or deletes the document, or a part of it."""
        document = self.committed.get(place)
        if self.in_transaction or document is None:
            return
        collection = self.raw[place[0]]
        key = next(one["_id"] for one in collection.find({}, {"_id": 1}) if place_of(place[0], stored(one)) == place)
        if how == "gone":
            if "version" in document:  # its vector has to go too
                other = self.db.session()
                other.delete(other.get(Counted, key))
                other.commit()
                other.close()
            else:
                collection.delete_one({"_id": key})
            del self.committed[place]
            return
        change: Fields = {"$inc": dict.fromkeys(["others", *(["version"] if "version" in document else [])], 1)}
        for name in change["$inc"]:
            document[name] = document.get(name, 0) + 1
        point = document.get("point")
        if how == "no point" and point is not None:
            change["$set"] = {"point": None}
            document["point"] = None
        elif how == "no corner" and point is not None:
            change["$set"] = {"point.corner": None}
            point["corner"] = None
        elif how == "unmapped":
            document["unmapped"] = document["others"]
            change["$set"] = {"unmapped": document["unmapped"]}
        elif how.startswith("without") and how[8:] in document:
            change["$unset"] = {how[8:]: ""}
            del document[how[8:]]
        collection.update_one({"_id": key}, change)

    @rule(loads=st.booleans())
    def another_session(self, loads: bool) -> None:
        """Close the session and begin another, which may load all there is."""
        self.begin_session()
        for cls in (Thing, Counted, Animal, Keyed) if loads else ():
            self.query(cls, 0, 100, False)
