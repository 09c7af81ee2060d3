"""Documents that are loaded in part."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from bson import ObjectId

from superorm import Document, Mapped, NotLoadedError, Registry, ValidationError, field
from superorm.codec.documents import complete, load_partial, renew
from superorm.schema.mapping import class_map
from superorm.schema.vector_binary import encode_vector
from superorm.unitofwork.computed import needs
from superorm.unitofwork.flush import FlushPlan, plan_flush
from superorm.unitofwork.tracking import Tracker
from superorm.unitofwork.writes import Delete, Update, UpdateOp
from tests.schema.helpers import through_bson
from tests.unitofwork.classes import Actor, Film, stored

FILM = class_map(Film)
ONLY = frozenset({"title", "cast"})


class Root(Document, registry=Registry()):
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    version: Mapped[int] = field(version=True, name="v")


class Closed(Document, registry=Registry()):
    __extra__ = "forbid"
    id: Mapped[int] = field(primary_key=True)
    n: Mapped[int] = field(default=0)
    m: Mapped[int] = field(default=0)


class Below(Root):
    m: Mapped[int] = field(default=0, name="mm")
    names: Mapped[list[str]] = field(factory=list)

    def __getattr__(self, name: str) -> Any:
        if name == "extra":
            return "by hand"
        raise AttributeError(f"nothing called {name}")


ROOT = class_map(Root)


def whole(key: int = 1) -> dict[str, Any]:
    """A film with everything, and more than the class knows."""
    values = {"title": "Heat", "y": 1995, "genres": ["a"], "lead": {"name": "Al", "born": 1940}, "cast": []}
    return through_bson(stored(key, **values, more=1))


def only(document: dict[str, Any], attributes: frozenset[str] = ONLY) -> dict[str, Any]:
    """The same with the keys that a partial read asks for."""
    names = FILM.stored_for(attributes)
    return {key: value for key, value in document.items() if key in names}


def partial(tracker: Tracker, key: int = 1, attributes: frozenset[str] = ONLY) -> Any:
    """A film loaded in part."""
    (film,) = tracker.load_partial(FILM, [only(whole(key), attributes)], attributes)
    return film


def flush(tracker: Tracker) -> FlushPlan:
    """Plan, and take it as written."""
    plan = plan_flush(tracker.work(tracker.new_by_class(), tracker.possibly_changed()))
    tracker.flushed(plan)
    return plan


def test_keys_to_read() -> None:
    """Key, version and discriminator are always read, as are fields of subclasses."""
    assert ["_id", "title", "y"] == FILM.stored_for(["title", "year"])
    assert ["_id", "_type", "v", "mm"] == ROOT.stored_for({"m"})


def test_attributes() -> None:
    """What was loaded is there, what was not says how to load it; nothing is taken for changed."""
    tracker = Tracker()
    film = partial(tracker)
    assert (1, "Heat", []) == (film.id, film.title, film.cast)
    for name in ("year", "genres", "lead", "embedding"):
        with pytest.raises(NotLoadedError) as raised:
            getattr(film, name)
        message = (
            f"Film 1: {name} was not loaded, or has expired; refresh() the object, "
            f"give Film.{name} to load_only(...), or select the whole document"
        )
        assert message == str(raised.value)
        assert (Film, 1, name) == (raised.value.document_class, raised.value.key, raised.value.field)
    with pytest.raises(AttributeError, match="'Film' object has no attribute 'nothing'"):
        film.nothing  # noqa: B018
    assert "Film(id=1, title='Heat', cast=[])" == repr(film)
    assert isinstance(film, Film)
    assert not flush(tracker)
    for again in (pickle.loads(pickle.dumps(film)), copy.deepcopy(film)):
        assert repr(film) == repr(again)
        with pytest.raises(NotLoadedError):
            again.year  # noqa: B018


def test_whole_objects_are_as_ever() -> None:
    """The class of whole objects has no hook for missing attributes, which would slow all others down."""
    (film,) = Tracker().load(FILM, [whole()])
    assert Film is type(film)
    assert "__getattr__" not in vars(Film)


def test_changes() -> None:
    """Only what changed is written, also where it was not loaded before."""
    tracker = Tracker()
    film = partial(tracker)
    film.title, film.genres, film.year = "Up", ["b"], 2009
    film.cast.append(Actor(name="x"))
    cast = [{"name": "x", "born": 1900}]
    op = UpdateOp(q={"_id": 1}, u={"$set": {"title": "Up", "y": 2009, "genres": ["b"], "cast": cast}})
    assert [Update("film", [op])] == flush(tracker).writes
    assert not flush(tracker)
    assert ("Up", ["b"], 2009) == (film.title, film.genres, film.year)
    film.genres.append("c")
    del film.year
    op = UpdateOp(q={"_id": 1}, u={"$set": {"genres": ["b", "c"]}, "$unset": {"y": ""}})
    assert [Update("film", [op])] == flush(tracker).writes
    film.lead = 5
    with pytest.raises(ValidationError, match="lead cannot be stored"):
        flush(tracker)


def test_rollback() -> None:
    """What was assigned, flushed or not, is not loaded again."""
    tracker = Tracker()
    film = partial(tracker)
    film.year, film.genres, film.title = 1, ["x"], "y"
    flush(tracker)
    film.lead = None
    tracker.rolled_back()
    assert ("Heat", []) == (film.title, film.cast)
    for name in ("year", "genres", "lead"):
        with pytest.raises(NotLoadedError):
            getattr(film, name)
    assert not flush(tracker)


def test_completion() -> None:
    """Loading the whole document gives the object what it lacks, and keeps what it has and what was changed."""
    tracker = Tracker()
    film = partial(tracker)
    film.year, film.title = 2000, "Mine"
    film.cast.append(Actor(name="x"))
    there = {**whole(), "title": "Theirs", "genres": ["their"]}
    (same,) = tracker.load(FILM, [through_bson(there)])
    assert film is same
    assert Film is type(film)
    assert ("Mine", 2000, ["their"], "Al") == (film.title, film.year, film.genres, film.lead.name)
    assert film.embedding is None
    (update,) = flush(tracker).writes
    op = UpdateOp(q={"_id": 1}, u={"$set": {"title": "Mine", "y": 2000, "cast": [{"name": "x", "born": 1900}]}})
    assert Update("film", [op]) == update
    tracker.rolled_back()
    assert ("Heat", 1995, []) == (film.title, film.year, film.cast)


def test_completion_with_what_does_not_fit() -> None:
    """An object that cannot be completed stays as it is, and a save touches none of what it lacks."""
    tracker = Tracker()
    film = partial(tracker)
    state, known = dict(vars(film)), type(film)
    with pytest.raises(ValidationError, match="Film 1: the stored value of y does not fit: expected int"):
        tracker.load(FILM, [through_bson({**whole(), "y": "1995"})])
    assert (state, known) == (vars(film), type(film))
    film.title = "Mine"
    (update,) = flush(tracker).writes
    assert Update("film", [UpdateOp(q={"_id": 1}, u={"$set": {"title": "Mine"}})]) == update


def test_completion_with_what_is_forbidden() -> None:
    """Keys that the class does not map are refused when the whole document comes."""
    (before,) = load_partial(class_map(Closed), [{"_id": 1, "n": 2}], frozenset({"n"}))
    with pytest.raises(ValidationError, match="other does not fit: Closed has no key 'other'"):
        complete(before, {"_id": 1, "n": 2, "m": 3, "other": 4})
    with pytest.raises(NotLoadedError):
        before.m  # noqa: B018
    complete(before, {"_id": 1, "n": 2, "m": 3})
    assert 3 == before.m


def test_the_class_is_not_the_users_own() -> None:
    """What the user does with each new subclass is not done with it."""
    seen: list[str] = []

    class Watched(Document, registry=Registry()):
        n: Mapped[int] = field(default=0)

        def __init_subclass__(cls, *, label: str, **rest: Any) -> None:
            super().__init_subclass__(**rest)
            seen.append(label)

    (found,) = load_partial(class_map(Watched), [{"_id": ObjectId()}], frozenset())
    assert isinstance(found, Watched)
    assert not seen


def test_completion_step_by_step() -> None:
    """Another partial load adds its attributes; whole objects stay whole."""
    tracker = Tracker()
    film = partial(tracker)
    more = frozenset({"year", "genres", "title"})
    (same,) = tracker.load_partial(FILM, [only({**whole(), "title": "other"}, more)], more)
    assert film is same
    assert ("Heat", 1995, ["a"]) == (film.title, film.year, film.genres)
    with pytest.raises(NotLoadedError):
        film.lead  # noqa: B018
    first, second = tracker.load_partial(FILM, [only(whole(2)), only(whole(1))], ONLY)
    assert (2, film) == (first.id, second)
    (third,) = tracker.load(FILM, [whole(3)])
    assert [third] == tracker.load_partial(FILM, [only(whole(3))], ONLY)
    assert "Al" == third.lead.name
    assert not flush(tracker)


def test_completion_after_a_flush_that_is_undone() -> None:
    """The object lacks again what it lacked before the flush."""
    tracker = Tracker()
    film = partial(tracker)
    film.year = 1
    flush(tracker)
    tracker.load(FILM, [{**whole(), "y": 1}])
    assert (1, ["a"]) == (film.year, film.genres)
    tracker.rolled_back()
    for name in ("year", "genres"):
        with pytest.raises(NotLoadedError):
            getattr(film, name)
    assert "Heat" == film.title
    tracker.load(FILM, [whole()])
    assert (1995, ["a"]) == (film.year, film.genres)


def test_defaults() -> None:
    """A key that was asked for and is missing reads as the default."""
    tracker = Tracker()
    (film,) = tracker.load_partial(FILM, [{"_id": 1}], frozenset({"year", "genres"}))
    assert (None, []) == (film.year, film.genres)
    assert not flush(tracker)
    with pytest.raises(ValidationError, match="the stored value of title does not fit"):
        tracker.load_partial(FILM, [{"_id": 2, "title": 5}], frozenset({"title"}))


def test_deletion() -> None:
    """A partial object can be deleted; adding it again would lose what was not loaded."""
    tracker = Tracker()
    film = partial(tracker)
    tracker.delete(film)
    assert [Delete("film", [{"_id": 1}])] == flush(tracker).writes
    tracker.add(film)
    message = "Film 1 was loaded in part only, so it cannot be added again; load the whole document first"
    with pytest.raises(NotLoadedError, match=message):
        flush(tracker)
    tracker.rolled_back()
    assert film in tracker
    assert "Heat" == film.title
    with pytest.raises(NotLoadedError, match="Film 1: year was not loaded"):
        film.year  # noqa: B018


def test_computed_vectors() -> None:
    """A source that is assigned is computed anew; one that is not loaded cannot be, where its vector was changed."""
    tracker = Tracker()
    film = partial(tracker, attributes=frozenset({"year"}))
    film.title = "New"
    (need,) = needs(FILM, [], [film])
    assert [(film, "New")] == need.objects
    vectors = frozenset({"embedding"})
    document = {"_id": 2, "embedding": encode_vector(np.ones(2, np.float32))}
    (other,) = tracker.load_partial(FILM, [document], vectors)
    assert [] == needs(FILM, [], [other])
    other.embedding = None
    with pytest.raises(NotLoadedError, match="Film 2: embedding is computed from title, which was not loaded"):
        needs(FILM, [], [other])


def test_hierarchies() -> None:
    """Each document is of its own class, with the version; other hooks of the class still work."""
    tracker = Tracker()
    documents = [{"_id": 1, "_type": "Below", "v": 3, "mm": 5}, {"_id": 2, "v": 1}]
    below, root = tracker.load_partial(ROOT, documents, frozenset({"m"}))
    assert (5, 3, 1, "by hand") == (below.m, below.version, root.version, below.extra)
    for instance, name in ((below, "n"), (below, "names"), (root, "n")):
        with pytest.raises(NotLoadedError):
            getattr(instance, name)
    with pytest.raises(AttributeError, match="nothing called other"):
        below.other  # noqa: B018
    root.n = 4
    below.names = ["x"]
    (update,) = flush(tracker).writes
    assert [
        UpdateOp(q={"_id": 1, "v": 3}, u={"$set": {"names": ["x"], "v": 4}}),
        UpdateOp(q={"_id": 2, "v": 1}, u={"$set": {"n": 4, "v": 2}}),
    ] == update.ops  # type: ignore[union-attr]
    assert (4, 2) == (below.version, root.version)


def test_renewal() -> None:
    """Another state of the whole document replaces all, changes too."""
    tracker = Tracker()
    film = partial(tracker)
    film.year, film.title = 5, "mine"
    renew(film, {**whole(), "title": "new"})
    assert (Film, "new", 1995) == (type(film), film.title, film.year)
    assert not flush(tracker)


def test_without_a_session() -> None:
    """The codec alone does the same."""
    (film,) = load_partial(FILM, [only(whole())], ONLY)
    assert "Heat" == film.title
