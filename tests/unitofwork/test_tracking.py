"""States of objects in a session, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from superorm import Document, Mapped, Registry, SessionError, ValidationError
from superorm.schema.fields import MISSING
from superorm.schema.mapping import class_map
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Delete, Insert, Update
from tests.schema.helpers import apply, through_bson
from tests.unitofwork.classes import Actor, Film, Tag, stored

FILM = class_map(Film)


def flush(tracker: Tracker) -> FlushPlan:
    """Plan, and take it as written."""
    plan = plan_flush(tracker.work(tracker.new_by_class(), tracker.possibly_changed()))
    tracker.flushed(plan)
    return plan


def test_one_object_for_one_document() -> None:
    """Loading again gives the same object, which keeps its changes; also for a key of another numeric type."""
    tracker = Tracker()
    (one,) = tracker.load(FILM, [stored(1, title="a")])
    one.title = "b"
    again, other, twice = tracker.load(FILM, [stored(1, title="c"), stored(2), stored(2)])
    assert (one, "b", other) == (again, one.title, twice)
    (wide,) = tracker.load(FILM, [{**stored(1), "_id": 1.0}])
    assert wide is one


def test_states() -> None:
    """New, stored, deleted, forgotten."""
    tracker = Tracker()
    new = Film(id=1)
    assert new not in tracker
    tracker.add(new)
    tracker.add(new)
    assert new in tracker
    assert [new] == list(tracker.new.values())
    flush(tracker)
    assert new in tracker
    assert {} == tracker.new
    tracker.delete(new)
    assert new in tracker
    flush(tracker)
    assert new not in tracker
    (other,) = tracker.load(FILM, [stored(2)])
    tracker.expunge(other)
    assert other not in tracker
    other.title = "x"
    assert {} == tracker.possibly_changed()


def test_what_a_session_refuses() -> None:
    """Objects that are no documents, are elsewhere, or are there already as another object."""
    tracker, elsewhere = Tracker(), Tracker()
    wrong: Any = Actor(name="x")
    for call in (tracker.add, tracker.delete):
        with pytest.raises(SessionError, match="a session holds documents, not Actor"):
            call(wrong)
    (foreign,) = elsewhere.load(FILM, [stored(1)])
    with pytest.raises(SessionError, match="this Film is not in the session; load it here"):
        tracker.delete(foreign)
    with pytest.raises(SessionError, match="Film 1 is in another session"):
        tracker.add(foreign)
    elsewhere.expunge(foreign)
    tracker.add(foreign)
    assert foreign in tracker
    (twin,) = Tracker().load(FILM, [stored(1)])
    with pytest.raises(SessionError, match="Film 1 is in the session already, as another object"):
        tracker.add(twin)
    tracker.expunge(twin)
    assert foreign in tracker


def test_rollback_of_changes() -> None:
    """Objects show what was last loaded or committed, flushed or not."""
    tracker = Tracker()
    (film,) = tracker.load(FILM, [stored(1, title="a", genres=["x"], lead={"name": "Al"})])
    film.title, film.lead.name = "b", "Bo"
    film.genres.append("y")
    flush(tracker)
    film.title = "c"
    del film.year
    tracker.rolled_back()
    assert ("a", None, ["x"], "Al") == (film.title, film.year, film.genres, film.lead.name)
    film.title = "d"
    film.genres.append("z")
    flush(tracker)
    tracker.committed()
    film.title = "e"
    tracker.rolled_back()
    assert ("d", ["x", "z"]) == (film.title, film.genres)
    assert not flush(tracker)


def test_rollback_of_new_and_deleted_objects() -> None:
    """New ones are outside again, deleted ones inside; a new one can be added once more."""
    tracker = Tracker()
    (film,) = tracker.load(FILM, [stored(1, genres=["x"])])
    new, waiting = Film(id=2, genres=["n"]), Film(id=3)
    tracker.add(new)
    tracker.delete(film)
    flush(tracker)
    tracker.add(waiting)
    tracker.rolled_back()
    assert [True, False, False] == [instance in tracker for instance in (film, new, waiting)]
    assert (["x"], ["n"]) == (film.genres, new.genres)
    tracker.add(new)
    (write,) = flush(tracker).writes
    assert isinstance(write, Insert)
    assert ["n"] == write.documents[0]["genres"]


@pytest.mark.parametrize("written", [False, True])
def test_an_expunged_object_that_had_expired(written: bool) -> None:
    """What it was is known no longer, as another may have its id soon; unless a rollback gives that back."""
    tracker = Tracker()
    one, other = tracker.load(FILM, [stored(1, title="a"), stored(2)])
    other.title = "b"
    if written:
        one.title = "c"
    flush(tracker)
    tracker.expire(one)
    tracker.expunge(one)
    assert ("c" if written else MISSING) == tracker.undo.forgotten(one, "title")
    tracker.rolled_back()
    tracker.add(one)
    tracker.load(FILM, [stored(1, title="a")])
    assert "a" == one.title


@pytest.mark.parametrize("deleted", [False, True])
def test_rollback_of_a_new_object_that_showed_its_document(deleted: bool) -> None:
    """It keeps what a statement made of it, also what nobody has read; what does not fit is refused later."""
    tracker = Tracker()
    films = [Film(id=key, genres=["old"]) for key in (1, 2)]
    tracker.add_all(films)
    flush(tracker)
    changes: list[Any] = [["new"], 7]
    documents = [stored(film.id, title="t", genres=genres) for film, genres in zip(films, changes, strict=True)]
    tracker.undo.refreshed(zip(films, documents, strict=True))
    if deleted:
        for film in films:
            tracker.delete(film)
        flush(tracker)
    tracker.rolled_back()
    fits, other = films
    assert (False, "t", ["new"], None) == (fits in tracker, fits.title, fits.genres, fits.embedding)
    tracker.add_all([fits])
    (write,) = flush(tracker).writes
    assert isinstance(write, Insert)
    assert ["new"] == write.documents[0]["genres"]
    tracker.add(other)
    with pytest.raises(ValidationError, match="genres"):
        flush(tracker)


def test_rollback_of_a_key_that_changed_hands() -> None:
    """The old object is back under its key."""
    tracker = Tracker()
    (old,) = tracker.load(FILM, [stored(1, title="old")])
    new = Film(id=1, title="new")
    tracker.delete(old)
    tracker.add(new)
    flush(tracker)
    assert [new] == tracker.load(FILM, [stored(1)])
    tracker.rolled_back()
    assert [old] == tracker.load(FILM, [stored(1)])
    assert ("old", False) == (old.title, new in tracker)


def test_flushed_objects_are_clean() -> None:
    """After a flush the next one has nothing to do, until something changes."""
    tracker = Tracker()
    film = Film(id=1, lead=Actor(name="x"), embedding=np.ones(2), genres=["a"])
    tracker.add(film)
    assert flush(tracker)
    assert not flush(tracker)
    film.lead.born = 7  # type: ignore[union-attr]
    film.genres.append("b")
    assert film.embedding is not None
    film.embedding[0] = 4
    (update,) = flush(tracker).writes
    assert isinstance(update, Update)
    assert {"lead.born", "genres", "embedding"} == update.ops[0]["u"]["$set"].keys()  # type: ignore[call-overload]
    assert not flush(tracker)


class Sessions(RuleBasedStateMachine):
    """Random work in one session, against plain dicts."""

    @initialize()
    def start(self) -> None:
        self.tracker = Tracker()
        self.committed: dict[int, dict[str, Any]] = {
            n: stored(n, title=str(n), genres=["g"], cast=[]) for n in range(3)
        }
        self.database = dict(self.committed)
        self.objects: dict[int, Any] = {}
        self.outside: list[Any] = []
        self.read()

    @rule()
    def read(self) -> None:
        """Load all that the database holds, except for what is deleted here."""
        for film in self.tracker.load(FILM, [through_bson(document) for document in self.database.values()]):
            self.objects.setdefault(film.id, film)

    def pick(self, data: st.DataObject) -> Any:
        """One of the objects in the session, if there is one."""
        return data.draw(st.sampled_from(sorted(self.objects))) if self.objects else None

    @rule(data=st.data(), title=st.text(max_size=2), year=st.none() | st.integers(0, 3))
    def change(self, data: st.DataObject, title: str, year: int | None) -> None:
        """Assign scalars, change a list in place, replace and change a part."""
        if (key := self.pick(data)) is None:
            return
        film = self.objects[key]
        film.title, film.year = title, year
        if data.draw(st.booleans()):
            film.genres.append(title)
        if data.draw(st.booleans()):
            film.lead = Actor(name=title)
        elif film.lead is not None:
            film.lead.born = year or 0

    @rule(key=st.integers(0, 6))
    def add(self, key: int) -> None:
        """Add a new film under a key that is free."""
        if key not in self.objects and key not in self.database:
            self.objects[key] = Film(id=key, title="new")
            self.tracker.add(self.objects[key])

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a film, and flush, so that its key is free."""
        if (key := self.pick(data)) is not None:
            self.tracker.delete(self.objects.pop(key))
            self.flush()

    @rule()
    def flush(self) -> None:
        """Write to the dicts what the plan says."""
        for write in flush(self.tracker).writes:
            if isinstance(write, Insert):
                self.database |= {document["_id"]: through_bson(dict(document)) for document in write.documents}
            elif isinstance(write, Delete):
                for filter in write.filters:
                    del self.database[filter["_id"]]
            else:
                for op in write.ops:
                    assert isinstance(op["u"], dict)
                    self.database[op["q"]["_id"]] = apply(self.database[op["q"]["_id"]], op["u"])

    @rule()
    def commit(self) -> None:
        self.flush()
        self.tracker.committed()
        self.committed = dict(self.database)

    @rule()
    def rollback(self) -> None:
        self.tracker.rolled_back()
        self.database = dict(self.committed)
        for key, film in list(self.objects.items()):
            if film not in self.tracker:
                del self.objects[key]
        self.read()
        for key, film in self.objects.items():
            assert self.committed[key]["title"] == film.title
            assert self.committed[key]["genres"] == film.genres

    @invariant()
    def the_session_has_one_object_each(self) -> None:
        """The objects in the session are those that the model knows."""
        if hasattr(self, "tracker"):
            assert all(film in self.tracker for film in self.objects.values())

    def teardown(self) -> None:
        """What was flushed is what the objects show."""
        if not hasattr(self, "tracker"):
            return
        self.commit()
        for key, film in self.objects.items():
            document = self.database[key]
            assert (film.title, film.year, film.genres) == (document["title"], document["y"], document["genres"])
            lead = document.get("lead")
            assert film.lead == (None if lead is None else Actor(**lead))
        assert self.objects.keys() == self.database.keys()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_add_all() -> None:
    """It is `add` of each: of new objects, stored ones, deleted ones, of several classes, and of what is none."""
    tracker = Tracker()
    kept, gone = tracker.load(class_map(Film), [stored(1), stored(2)])
    (elsewhere,) = Tracker().load(class_map(Film), [stored(3)])
    new = [Film(id=key) for key in (4, 5)]
    tracker.add_all(iter(new))
    assert new == list(tracker.new.values())
    tracker.add_all([elsewhere, kept])
    tracker.delete(gone)
    tag = Tag(word="t")
    tracker.add_all([gone, tag])
    assert [*new, tag] == list(tracker.new.values())
    assert not tracker.deleted
    assert all(one in tracker for one in (kept, gone, elsewhere))
    with pytest.raises(SessionError, match="as another object"):
        tracker.add_all([Film(id=6), *Tracker().load(class_map(Film), [stored(1)])])
    wrong: Any
    for wrong, said in (([Film(id=8), 1], "not int 1"), (Film(id=8), "in a list"), (Film.title, "in a list")):
        before = list(tracker.new.values())
        with pytest.raises(SessionError, match=said):
            tracker.add_all(wrong)
        assert before == list(tracker.new.values())


def test_objects_are_in_one_session() -> None:
    """A stored one that another session holds is refused, until that forgets it or has gone."""
    tracker, other = Tracker(), Tracker()
    new, deleted = Film(id=1), Film(id=2)
    (stored_one,) = other.load(FILM, [stored(3)])
    other.add_all([new, deleted])
    flush(other)
    other.delete(deleted)
    for held in (new, deleted, stored_one):
        for call in (tracker.add, lambda one: tracker.add_all([Film(id=9), one])):
            with pytest.raises(SessionError, match=f"Film {held.id} is in another session") as caught:
                call(held)
            assert held.id == caught.value.key
            assert held not in tracker
    other.add(new)  # its own
    other.expunge(new)
    tracker.add(new)
    assert new in tracker
    with pytest.raises(SessionError, match="another session"):
        other.add(new)
    other.clear()
    tracker.add(stored_one)
    third = Tracker()
    (lost,) = third.load(FILM, [stored(6)])
    del third
    tracker.add(lost)
    assert all(one in tracker for one in (stored_one, lost))


def test_an_object_that_finds_all_attributes_in_another() -> None:
    """Whether it is stored is its own."""

    class Review(Document, registry=Registry()):
        text: Mapped[str]

        def __getattr__(self, name: str) -> Any:
            return getattr(film, name)

    (film,) = Tracker().load(class_map(Film), [stored(1)])
    tracker = Tracker()
    review = Review(text="x")
    tracker.add_all([review])
    assert [review] == list(tracker.new.values())
    tracker.flushed(plan_flush(tracker.work(tracker.new_by_class(), {})))
    tracker.rolled_back()
    assert review not in tracker
    assert not {name for name in vars(review) if name.startswith("_superorm")}
