"""Parents and children in a session, and a plain model of who belongs to whom; children are expunged and come back."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from superorm import Document, Mapped, NotLoadedError, SessionError, delete, field, relationship, select, selectinload
from tests.sessions.world import raises

__all__ = ["Child", "FamilyMachine", "Parent"]

PARENT = st.integers(0, 2)
CHILD = st.integers(0, 5)
FATES = [
    ["expunge", "load_twin", "take_outside", "flush"],
    ["expunge", "load_twin", "take_outside", "commit", "rollback"],
    ["expunge", "take_outside", "flush"],
    ["expunge", "take_outside", "come_back", "commit"],
    ["expunge", "give_outside", "commit"],
    ["expunge", "give_outside", "rollback"],
    ["delete_and_add", "commit"],
    ["delete_and_add", "flush", "rollback"],
    ["replace", "flush", "expunge", "load_twin", "take_outside", "commit"],
]
"""Steps of one child that have something to do with one another."""


class Parent(Document):
    __collection__ = "parents_of_families"

    id: Mapped[int] = field(primary_key=True)
    children: Mapped[list[Child]] = relationship(list["Child"], remote_key="parent_id")


class Child(Document):
    __collection__ = "children_of_families"

    id: Mapped[int] = field(primary_key=True)
    parent_id: Mapped[int | None] = field(default=None)
    parent: Mapped[Parent | None] = relationship(Parent, key="parent_id")


class FamilyMachine(RuleBasedStateMachine):
    """Steps of a session in which each child is changed at most once between two flushes."""

    def __init__(self, db: Any, raw: Any) -> None:
        super().__init__()
        self.db = db
        self.raw = raw
        self.session = db.session()
        for cls in (Parent, Child):
            self.session.execute(delete(cls).all())
        self.session.add_all([Parent(id=key) for key in range(3)])
        self.session.add_all([Child(id=key, parent_id=key % 3) for key in range(6)])
        self.session.commit()
        self.committed: dict[int, int | None] = {key: key % 3 for key in range(6)}
        self.begin()

    @rule(child=CHILD, parent=PARENT, fate=st.sampled_from(FATES), how=st.sampled_from(["reference", "key", "list"]))
    def meet_fate(self, child: int, parent: int, fate: list[str], how: str) -> None:
        """Several steps with one child."""
        for step in fate:
            if step in ("delete_and_add", "replace"):
                getattr(self, step)(child, parent, how)
            elif step == "give_outside":
                self.give_outside(child, parent)
            elif step in ("flush", "commit", "rollback"):
                getattr(self, step)()
            else:
                getattr(self, step)(child)
            self.agree()

    def begin(self) -> None:
        """A session that has loaded everything."""
        self.session.close()
        self.session = self.db.session()
        whole = selectinload(Parent.children).selectinload(Child.parent)
        self.parents = {one.id: one for one in self.session.scalars(select(Parent).options(whole))}
        orphans = self.session.scalars(select(Child).options(selectinload(Child.parent)))
        self.children = {one.id: one for one in orphans}
        self.outside: dict[int, Any] = {}
        """Expunged children."""
        self.left: set[int] = set()
        """Those of them that were taken from a list."""
        self.flushed = dict(self.committed)
        self.now = dict(self.committed)
        """The parent of each child, once it is flushed."""
        self.busy: set[int] = set()
        self.deleted: list[Any] = []
        """Those that a flush deletes."""
        self.forget()

    def forget(self) -> None:
        """Nothing can be rolled back any more."""
        self.written: list[Any] | None = None
        """The objects that were written since the last commit; None where nothing was."""
        self.unsure = False
        """Whether one of these was expunged since: nobody knows who wrote what is loaded then."""
        self.doubtful: list[Any] = []
        """What came to the session after that, and was not written before: a rollback expires it."""

    def doubt(self, one: Any) -> None:
        """The object comes to the session as a stored one."""
        if self.unsure and not any(one is other for other in self.written or ()):
            self.doubtful.append(one)

    def teardown(self) -> None:
        self.session.close()

    @invariant()
    def agree(self) -> None:
        """The database holds what is committed, the session what is known to be its own."""
        found = {document["_id"]: document["parent_id"] for document in self.raw[Child.__collection__].find({})}
        assert self.committed == found, (self.committed, found)
        assert all(one in self.session for one in self.children.values())
        assert not any(one in self.session for one in self.outside.values())

    def check(self) -> None:
        """After a flush the session's objects show on both sides what the model says."""
        stored = {row[0]: row[1] for row in self.session.execute(select(Child.id, Child.parent_id))}
        assert self.flushed == stored, (self.flushed, stored)
        for key, one in self.children.items():
            assert self.flushed[key] == one.parent_id
        known = self.children.keys() - self.outside.keys()
        for key, parent in self.parents.items():
            shown = [one.id for one in parent.children if one in self.session and one.id in known]
            assert sorted(shown) == sorted(one for one in known if self.flushed[one] == key)

    def is_free(self, child: int) -> bool:
        return child in self.children and child not in self.busy

    def moved(self, child: int, parent: int | None) -> None:
        self.now[child] = parent
        self.busy.add(child)

    def parent_of(self, child: int) -> Any:
        """The parent whose list shows the child, as far as that was flushed."""
        key = self.flushed[child]
        return None if key is None else self.parents[key]

    @rule(child=CHILD, parent=PARENT, how=st.sampled_from(["reference", "key", "list", "lists"]))
    def give(self, child: int, parent: int, how: str) -> None:
        """A child gets another parent."""
        if not self.is_free(child) or child in self.outside or self.flushed[child] == parent:
            return
        one, before = self.children[child], self.parent_of(child)
        if how == "reference":
            one.parent = self.parents[parent]
        elif how == "key":
            one.parent_id = parent
        else:
            self.parents[parent].children.append(one)
            if how == "lists" and before is not None:
                before.children.remove(one)
        self.moved(child, parent)

    @rule(child=CHILD, how=st.sampled_from(["reference", "key", "list"]))
    def take(self, child: int, how: str) -> None:
        """A child loses its parent."""
        if not self.is_free(child) or child in self.outside or self.flushed[child] is None:
            return
        if how == "reference":
            self.children[child].parent = None
        elif how == "key":
            self.children[child].parent_id = None
        else:
            self.parent_of(child).children.remove(self.children[child])
        self.moved(child, None)

    @rule(child=CHILD)
    def expunge(self, child: int) -> None:
        """A child leaves the session; the list still shows it."""
        if self.is_free(child) and child not in self.outside:
            self.outside[child] = self.children.pop(child)
            self.session.expunge(self.outside[child])
            self.unsure = self.unsure or any(one is self.outside[child] for one in self.written or ())

    @rule(child=CHILD)
    def take_outside(self, child: int) -> None:
        """An expunged child is removed from a list, which the session writes of its twin, if there is one."""
        if child in self.outside and child not in self.left | self.busy and self.flushed[child] is not None:
            self.parent_of(child).children.remove(self.outside[child])
            self.left.add(child)
            self.moved(child, None)

    @rule(child=CHILD)
    def come_back(self, child: int) -> None:
        """An expunged child is added again, and with it those that its relationships show, unless one has a twin."""
        if child not in self.outside or child in self.children:
            return
        shown = _shown_by(self.outside[child])
        back = [key for key, one in self.outside.items() if id(one) in shown]
        if self.children.keys() & back:
            raises(SessionError, lambda: self.session.add(self.outside[child]))
            return
        self.session.add(self.outside[child])
        for key in back:
            self.children[key] = self.outside.pop(key)
            self.doubt(self.children[key])
            self.left.discard(key)

    @rule(child=CHILD, parent=PARENT)
    def give_outside(self, child: int, parent: int) -> None:
        """An expunged child is put into another list, by which it comes back."""
        if child in self.outside and child not in self.children.keys() | self.left and self.flushed[child] != parent:
            self.parents[parent].children.append(self.outside[child])
            self.moved(child, parent)
            self.flush()

    @rule(child=CHILD)
    def load_twin(self, child: int) -> None:
        """The document of an expunged child is loaded as another object."""
        if child in self.outside and child not in self.children and self._write(self.session.flush):
            self.children[child] = self.session.get_one(Child, child, options=[selectinload(Child.parent)])
            assert self.children[child] is not self.outside[child]
            self.doubt(self.children[child])

    @rule(child=CHILD)
    def delete(self, child: int) -> None:
        """A child is deleted."""
        if self.is_free(child) and child not in self.outside:
            self.deleted.append(self.children.pop(child))
            self.session.delete(self.deleted[-1])
            del self.now[child]

    @rule(child=CHILD, parent=PARENT, how=st.sampled_from(["reference", "key", "list"]))
    def delete_and_add(self, child: int, parent: int, how: str) -> None:
        """A child is deleted, and then the same object is added with another parent."""
        one = self.children.get(child)
        if one is None or child in self.busy | self.outside.keys() or self.flushed[child] == parent:
            return
        self.delete(child)
        if self._write(self.session.flush) and not self.outside:
            one.parent_id = None  # else it counts as given
            self.session.add(one)
            self.children[child] = one
            self.give_to(one, parent, how)

    @rule(child=CHILD, parent=PARENT, how=st.sampled_from(["reference", "key", "list"]))
    def replace(self, child: int, parent: int, how: str) -> None:
        """A child is deleted, and another one with its key is added, in one flush."""
        if not self.is_free(child) or child in self.outside:
            return
        self.deleted.append(self.children[child])
        self.session.delete(self.deleted[-1])
        self.children[child] = new = Child(id=child)
        self.session.add(new)
        self.give_to(new, parent, how)

    def give_to(self, new: Any, parent: int, how: str) -> None:
        """A new child gets a parent."""
        if how == "reference":
            new.parent = self.parents[parent]
        elif how == "key":
            new.parent_id = parent
        else:
            self.parents[parent].children.append(new)
        self.moved(new.id, parent)

    @rule(parent=PARENT)
    def delete_parent(self, parent: int) -> None:
        """A parent is deleted, which lets go of its children, also of those that are not in the session."""
        if len(self.parents) > 1 and parent in self.parents and self._write(self.session.flush):
            self.session.delete(self.parents[parent])
            self.session.commit()
            self.committed = {key: None if now == parent else now for key, now in self.now.items()}
            self.raw[Parent.__collection__].insert_one({"_id": parent})
            self.begin()

    @rule()
    def flush(self) -> None:
        """Write what changed."""
        self._write(self.session.flush)

    @rule()
    def commit(self) -> None:
        """Write what changed, for others to see."""
        if self._write(self.session.commit):
            self.committed = dict(self.flushed)
            self.forget()

    def _write(self, action: Any) -> bool:
        if self.left - self.children.keys():
            raises(SessionError, action)
            self.rollback()
            return False
        action()
        self.flushed = dict(self.now)
        if not self.db.capabilities.transactions:
            self.committed = dict(self.flushed)
        for child in self.busy & self.outside.keys() - self.left:
            if child not in self.children:  # it came back by a list
                self.children[child] = self.outside.pop(child)
                self.doubt(self.children[child])
        written = [*self.deleted, *(self.children[child] for child in self.busy)]
        if written:
            self.written = [*(self.written or ()), *written]
        self.deleted.clear()
        self.busy.clear()
        self.check()
        return True

    @rule()
    def rollback(self) -> None:
        """Give up what was not committed."""
        self.session.rollback()
        if self.db.capabilities.transactions:
            for key, one in self.children.items():
                if key in self.committed and one in self.session:
                    if any(one is other for other in self.doubtful):
                        raises(NotLoadedError, lambda one=one: one.parent_id)
                    else:
                        assert self.committed[key] == one.parent_id
            for key, parent in self.parents.items():
                shown = {one.id for one in parent.children if one in self.session}
                assert shown <= {child for child, now in self.committed.items() if now == key}
        self.begin()


def _shown_by(one: Any) -> set[int]:
    """The ids of an object and all that its loaded relationships show."""
    found: set[int] = set()
    pending = [one]
    for one in pending:  # which grows
        if one is not None and id(one) not in found:
            found.add(id(one))
            shown = vars(one).get("parent" if isinstance(one, Child) else "children")
            pending += shown if isinstance(shown, list) else [shown]
    return found
