"""Where documents hold datetimes, and making them aware."""

from __future__ import annotations

import datetime as dt
from typing import Any

from bson import ObjectId

from superorm import Document, Embedded, Mapped, Registry, field, utcnow
from superorm.codec.documents import load
from superorm.schema.dates import make_aware, reads_naive
from superorm.schema.mapping import class_map

registry = Registry()


class Flat(Document, registry=registry):
    at: Mapped[dt.datetime] = field(factory=utcnow)
    until: Mapped[dt.datetime | None] = field(default=None, name="u")
    title: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)


class Part(Embedded):
    name: Mapped[str]


class Nested(Document, registry=registry):
    at: Mapped[dt.datetime] = field(factory=utcnow)
    part: Mapped[Part | None] = field(default=None)
    parts: Mapped[dict[str, Part]] = field(factory=dict)


class Deep(Document, registry=registry):
    at: Mapped[dt.datetime] = field(factory=utcnow)
    times: Mapped[list[dt.datetime]] = field(factory=list)


class Loose(Document, registry=registry):
    anything: Mapped[Any] = field(default=None)


class Keeping(Embedded):
    __on_mismatch__ = "keep"
    n: Mapped[int]


class Keeper(Document, registry=registry):
    at: Mapped[dt.datetime] = field(factory=utcnow)
    part: Mapped[Keeping | None] = field(default=None)


class ByTime(Document, registry=registry):
    at: Mapped[dt.datetime] = field(primary_key=True)


class Dated(Document, registry=registry):
    day: Mapped[dt.date | None] = field(default=None)


def test_classes() -> None:
    """Those whose datetimes are fields of the document itself, and stand neither deeper down nor in its key."""
    assert [True] * 2 == [reads_naive(class_map(kind)) for kind in (Flat, Nested)]
    assert [False] * 5 == [reads_naive(class_map(kind)) for kind in (Deep, Loose, Dated, Keeper, ByTime)]


def test_subclasses_that_come_later() -> None:
    """They may hold datetimes elsewhere, also those of embedded classes."""

    class Inner(Embedded, registry=registry):
        name: Mapped[str]

    class Outer(Document, registry=registry):
        inner: Mapped[Inner]
        at: Mapped[dt.datetime]

    class Lonely(Document, registry=registry):
        at: Mapped[dt.datetime]

    assert [True] * 2 == [reads_naive(class_map(kind)) for kind in (Outer, Lonely)]

    class Timed(Inner):
        when: Mapped[dt.datetime]

    class Child(Lonely):
        when: Mapped[list[dt.datetime]]

    assert [False] * 2 == [reads_naive(class_map(kind)) for kind in (Outer, Lonely)]
    assert issubclass(Timed, Inner)
    assert issubclass(Child, Lonely)


def test_made_aware() -> None:
    """To the millisecond, from the first to the last year; what is no datetime stays."""
    aware = [
        dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=dt.UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    ]
    moments = [moment.replace(tzinfo=None) for moment in aware]
    documents: list[dict[str, Any]] = [{"at": moment, "u": moment, "title": moment, "x": moment} for moment in moments]
    documents += [{"at": None}, {"at": "x"}, {}]
    for document in documents:
        make_aware(class_map(Flat), document)
    assert aware == [one["at"] for one in documents[:3]] == [one["u"] for one in documents[:3]]
    assert all(one["at"].tzinfo is dt.UTC for one in documents[:3])
    assert moments == [one["title"] for one in documents[:3]] == [one["x"] for one in documents[:3]]
    assert [{"at": None}, {"at": "x"}, {}] == documents[3:]


def test_a_subclass_declared_between_read_and_load() -> None:
    """What was read naive is made aware, also where the quick way does not do."""

    class Base(Document, registry=registry):
        at: Mapped[dt.datetime]
        n: Mapped[int] = field(default=0)

    class Sub(Base):
        m: Mapped[int] = field(default=0)

    moment = dt.datetime(2020, 5, 6, 7, 8, 9, 123000)  # noqa: DTZ001
    quick, slow = load(class_map(Base), [{"_id": ObjectId(), "at": moment, "n": 1}, {"_id": ObjectId(), "at": moment}])
    assert [moment.replace(tzinfo=dt.UTC)] * 2 == [quick.at, slow.at]
    assert issubclass(Sub, Base)
