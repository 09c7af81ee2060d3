"""Where documents hold datetimes, and making them aware."""

from __future__ import annotations

import datetime as dt
from typing import Any

from superorm import Document, Embedded, Mapped, Registry, field, utcnow
from superorm.schema.dates import datetime_keys, make_aware
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


def test_keys() -> None:
    """Those of the document itself; none where datetimes may stand deeper down, or be keys, or of any type."""
    assert ("at", "u") == datetime_keys(class_map(Flat))
    assert ("at",) == datetime_keys(class_map(Nested))
    assert [None] * 5 == [datetime_keys(class_map(kind)) for kind in (Deep, Loose, Dated, Keeper, ByTime)]


def test_subclasses_that_come_later() -> None:
    """They may hold datetimes elsewhere, also those of embedded classes."""

    class Inner(Embedded, registry=registry):
        name: Mapped[str]

    class Outer(Document, registry=registry):
        inner: Mapped[Inner]
        at: Mapped[dt.datetime]

    class Lonely(Document, registry=registry):
        at: Mapped[dt.datetime]

    assert [("at",), ("at",)] == [datetime_keys(class_map(kind)) for kind in (Outer, Lonely)]

    class Timed(Inner):
        when: Mapped[dt.datetime]

    class Child(Lonely):
        when: Mapped[list[dt.datetime]]

    assert [None, None] == [datetime_keys(class_map(kind)) for kind in (Outer, Lonely)]
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
    documents: list[dict[str, Any]] = [{"a": moment, "b": moment} for moment in moments]
    documents += [{"a": None}, {"a": "x"}, {}]
    for document in documents:
        make_aware(document, ("a",))
    assert aware == [one["a"] for one in documents[:3]]
    assert all(one["a"].tzinfo is dt.UTC for one in documents[:3])
    assert moments == [one["b"] for one in documents[:3]]
    assert [{"a": None}, {"a": "x"}, {}] == documents[3:]
