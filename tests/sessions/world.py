"""Sessions on one database beside a plain model of them: what is expected of each, and whether it is so."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from superorm import (
    DuplicateKeyError,
    NotLoadedError,
    PendingRollbackError,
    StaleDocumentError,
    SuperormError,
    delete,
    select,
)
from tests.sessions.classes import COLLECTIONS, Counted, Thing, shown, stored, stored_class, text
from tests.sessions.model import Entity, Fields, Place, Side, UpdateModel, place_of

__all__ = ["World", "raises"]

EVERYTHING: list[dict[str, Any]] = [
    {"$set": {"in": COLLECTIONS[0]}},
    *({"$unionWith": {"coll": name, "pipeline": [{"$set": {"in": name}}]}} for name in COLLECTIONS[1:]),
]
"""Reads all collections at once."""


def raises(kinds: type[Exception] | tuple[type[Exception], ...], action: Callable[[], object]) -> None:
    """Check that the action raises one of these errors."""
    try:
        action()
    except kinds:
        return
    raise AssertionError(f"no error, expected {kinds}")


class World(RuleBasedStateMachine):
    """Two sessions, of which one acts at a time, on a database to which somebody else writes too.

    `db` is a DB, or an `AsyncDB` that is `Driven`; `raw` is the same database by plain PyMongo, or mongomock.
    """

    def __init__(self, db: Any, raw: Any) -> None:
        super().__init__()
        self.db = db
        self.raw = raw
        self.transactions = db.capabilities.transactions
        for collection in COLLECTIONS:
            if collection != Counted.__collection__:
                raw[collection].delete_many({})
        session = db.session()  # which deletes vectors, too
        session.execute(delete(Counted).all())
        session.commit()
        session.close()
        self.committed: dict[Place, Fields] = {}
        self.sides = [Side(db.session()), Side(db.session())]

    def teardown(self) -> None:
        """All agrees at the end, and the vectors with their documents."""
        try:
            self.agree()
        finally:
            for side in self.sides:
                side.session.close()
        problems = list(self.db.check(Counted).problems)
        assert [] == problems, problems

    @property
    def side(self) -> Side:
        """The session that acts."""
        return self.sides[0]

    @property
    def session(self) -> Any:
        return self.side.session

    @property
    def entities(self) -> list[Entity]:
        return self.side.entities

    @property
    def in_transaction(self) -> bool:
        """Whether the session writes to what others do not see."""
        return self.side.written is not None

    @property
    def view(self) -> dict[Place, Fields]:
        """The documents that the session sees."""
        return self.committed if self.side.written is None else self.side.written

    def write(self) -> dict[Place, Fields]:
        """The documents that the session writes to."""
        if self.transactions and self.side.written is None:
            self.side.written = deepcopy(self.committed)
        return self.view

    def be_unsure(self) -> None:
        """From now on documents are loaded that may not be what is committed."""
        self.side.unsure = self.side.unsure or []

    def insert(self, place: Place) -> None:
        """A statement inserted this document."""
        if self.transactions and place[0] not in self.side.thinned:
            self.side.inserted.add(place)

    def known(self, place: Place) -> Entity | None:
        """The object of the identity map."""
        return next((e for e in self.entities if e.state == "stored" and e.place == place), None)

    def found(self, cls: type, least: int) -> list[Fields]:
        """The documents of a class with a number that is large enough, as the session sees them."""
        return [
            document
            for place, document in self.view.items()
            if issubclass(stored_class(place[0], document), cls) and document.get("number", -1) >= least
        ]

    def is_taken(self, place: Place) -> bool:
        """Whether the key of a document that a statement inserts, after its flush, is there already."""
        if not self.transactions:
            return place in self.view
        known = self.known(place)
        freed = known is not None and known.marked
        return (place in self.view and not freed) or any(e.state == "new" and e.place == place for e in self.entities)

    # What the session does

    def load(
        self, cls: type, documents: list[Fields], instances: list[Any], names: frozenset[str] | None = None
    ) -> None:
        """These objects stand for these documents; with `names` only for these attributes of them."""
        assert len(documents) == len(instances)
        for document, instance in zip(documents, instances, strict=True):
            e = self.known(place_of(instance.__collection__, document))
            if e is None:
                assert all(other.instance is not instance for other in self.entities)
                e = Entity(instance, {})
                e.show(document)
                e.state = "stored"
                if names is not None:
                    e.expire(e.names - names)
                self.entities.append(e)
                self.doubt(e)
            elif e.unloaded is not None:
                e.complete(document, e.names if names is None else names)
                self.doubt(e)
            assert e.instance is instance
            assert isinstance(instance, cls)

    def doubt(self, e: Entity) -> None:
        """What the object shows was read just now; one that was written before is to be what it was then."""
        if self.side.unsure is not None and e not in self.side.unsure and not self.written(e):
            self.side.unsure.append(e)

    def written(self, e: Entity) -> bool:
        """Whether a rollback gives something back to the object."""
        return any(one is e for one, *_ in self.side.undo)

    def remember(self, e: Entity) -> None:
        """Keep what the object is, for a rollback."""
        self.side.undo.append((e, e.base, e.gone, e.unloaded))

    def remove(self, e: Entity) -> None:
        """A stored object is deleted."""
        self.remember(e)
        self.side.thinned.add(e.place[0])
        e.base, e.gone, e.state, e.marked = None, e.base, "outside", False

    def expected_errors(self) -> set[type[SuperormError]]:
        """What a flush may raise."""
        errors: set[type[SuperormError]] = set()
        marked = {e.place for e in self.entities if e.marked}
        for e in self.entities:
            there = self.view.get(e.place)
            if e.state == "new" and e.place not in marked and (there is not None or self.known(e.place) is not None):
                errors.add(DuplicateKeyError)
            if e.changed and (there is None or not UpdateModel.of(e).fits(there)):
                errors.add(StaleDocumentError)
            is_written = e.versioned and (e.changed or e.marked)
            if is_written and (there is None or there["version"] != (e.base or {})["version"]):
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
            self.remember(e)
            if e.versioned:
                e.values["version"] = (e.base or e.gone or {"version": 0})["version"] + 1
            if e.state == "new":
                view[e.place] = e.document()
                e.base = e.document()
            else:
                update, own = UpdateModel.of(e), deepcopy(e.base or {})
                for document in (view[e.place], own):
                    update.apply(document)
                    if e.versioned:
                        document["version"] = e.values["version"]
                e.base = own
            e.assigned = set()
            e.gone, e.state = None, "stored"

    def rollback_model(self) -> None:
        """What was not committed is given up."""
        for e in self.entities:
            if e.state == "new":
                e.state = "outside"
        for e, base, _, _ in self.side.undo:
            if base is None and e.lacking:  # it is outside again, with all its values
                e.complete(e.forgotten, e.names)
        for e, base, gone, unloaded in reversed(self.side.undo):
            again = e.lacking.difference(unloaded or ())
            e.base, e.gone, e.unloaded = base, gone, unloaded
            e.state = "outside" if base is None or e.expunged else "stored"
            if e.versioned:
                e.values["version"] = (base or gone or {"version": 0})["version"]
            shown, assigned = {**e.values}, e.assigned
            if base is not None:
                e.restore()
                e.values = {**{name: value for name, value in e.values.items() if name in again}, **shown}
                e.assigned = assigned
        for e in self.entities:
            e.marked = e.expunged = False
            e.forgotten = {}
            if e.state == "stored":
                e.restore()

    def do(self, action: Callable[[], Any], *, flushes: bool = True) -> tuple[bool, Any]:
        """Whether the action, which flushes first, succeeds, and its result; after the error to expect, roll back."""
        errors = self.expected_errors() if flushes else set()
        if not errors:
            done = action()
            if flushes:
                self.flush_model()
            return True, done
        raises(tuple(errors), action)
        for step in (self.session.flush, self.session.commit, lambda: self.session.scalars(select(Thing))):
            raises(PendingRollbackError, step)
        if not self.transactions:
            self.committed = self.read()
        self.roll_back()
        return False, None

    def roll_back(self) -> None:
        """A rollback; objects whose documents are others now leave the session."""
        undone = bool(self.side.undo)
        self.session.rollback()
        self.rollback_model()
        unsure, inserted = self.side.unsure or [], self.side.inserted.copy()
        self.side.forget()
        if undone and not self.transactions:  # the objects show what the database does not
            self.agree()
            self.begin_session()
            return
        for e in unsure:
            if e.place in inserted:  # its document never was, and it is outside as a new one
                assert e.instance not in self.session
                assert "_superorm_raw" not in vars(e.instance)
                self.entities.remove(e)
            elif e.state == "stored" and self.known(e.place) is not e:  # another object was there before
                self.entities.remove(e)
            elif e.state == "stored":
                self.load_again(e)
        self.agree()

    def begin_session(self) -> None:
        """A session that knows nothing."""
        self.session.close()
        self.sides[0] = Side(self.db.session())

    def load_again(self, e: Entity) -> None:
        """An object that may show what never was is expired; `get` finds it, or that there is no such document."""
        raises(NotLoadedError, lambda: e.instance.number)
        document = self.committed.get(e.place)
        got = self.session.get(e.cls, e.instance.id)
        assert got is (e.instance if document is not None else None)
        if document is None:
            self.entities.remove(e)
        else:
            e.show(document)

    # Agreement

    def read(self) -> dict[Place, Fields]:
        """What is committed, by plain reads."""
        if self.transactions:
            documents = list(self.raw[COLLECTIONS[0]].aggregate(EVERYTHING))
        else:
            documents = [{**one, "in": name} for name in COLLECTIONS for one in self.raw[name].find({})]
        found = [(document.pop("in"), stored(document)) for document in documents]
        return {place_of(name, document): document for name, document in found}

    @invariant()
    def agree(self) -> None:
        """The database and the session hold what the model says."""
        expected = {place: _texts(document) for place, document in self.committed.items()}
        found = {place: _texts(document) for place, document in self.read().items()}
        different = {place for place in {*expected, *found} if expected.get(place) != found.get(place)}
        assert {} == {place: (expected.get(place), found.get(place)) for place in different}
        inside = [e for e in self.entities if e.state != "outside"]
        assert [] == [e for e in self.entities if (e in inside) != (e.instance in self.session)]
        assert {id(e.instance) for e in inside if e.state == "new"} == set(map(id, self.session.new))
        assert {id(e.instance) for e in inside if e.marked} == set(map(id, self.session.deleted))
        assert {id(e.instance) for e in inside if e.changed} <= set(map(id, self.session.dirty))
        for e in inside:
            assert (e.state == "new" or bool(e.altered)) == self.session.is_modified(e.instance), (e, e.altered)

    def look(self) -> None:
        """Every object shows what the model says."""
        for e in self.entities:
            self.look_at(e)

    def look_at(self, e: Entity) -> None:
        """An object shows what the model says."""
        assert _texts(e.values) == _texts(shown(e.instance)), e
        for name in e.lacking - e.values.keys() if e.state == "stored" else ():
            raises(NotLoadedError, lambda name=name: getattr(e.instance, name))


def _texts(fields: Fields) -> dict[str, str]:
    return {name: text(value) for name, value in fields.items()}
