"""The same values on mongomock, which is refused by name where it cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from superorm import DB, SuperormError, UnsupportedError, connect, select, update
from superorm.compile.plan import Find
from superorm.unitofwork.writes import Delete, Insert
from tests.injection.test_literals import CHANGES, CONDITIONS, TEXT_VALUES, TEXTS, VALUES
from tests.injection.values import HOSTILE, STORED, Thing, same, stored

T: Any = Thing
POINTED = [value for value in HOSTILE if isinstance(stored(value), (str, dict, list)) or value is None]
"""Those that could be more than a value."""


@pytest.fixture(scope="module")
def db() -> Iterator[DB]:
    """A document for each value, in all its fields, and one without any."""
    with connect(f"mongomock://injection_{uuid4().hex[:12]}", vector_database="memory://") as db:
        documents: list[dict[str, Any]] = [
            {"_id": n, "n": n, "value": value, "values": [value], "parts": [{"value": value}], "meta": {"a": value}}
            for n, value in enumerate(STORED)
        ]
        documents.append({"_id": len(STORED), "n": len(STORED), "values": [], "parts": [{}], "meta": {}})
        db.parts.data_backend.write(Insert("things", documents))
        yield db


def run(db: DB, statement: Any) -> list[Any] | None:
    """The rows, or None where mongomock is refused."""
    try:
        with db.session() as session:
            return list(session.execute(statement))
    except UnsupportedError:
        return None


@pytest.mark.parametrize("place", CONDITIONS)
def test_conditions(db: DB, place: str) -> None:
    """A condition finds just the documents that hold the value, and so does that of an update."""
    condition, finds = CONDITIONS[place]
    for number, value in enumerate(POINTED):
        rows = run(db, select(T.id).where(condition(value)))
        if rows is None or finds(value) is None:
            continue
        assert finds(value) == sorted(row[0] for row in rows), ascii(value)
        if number % 4 == 0:
            with db.session() as session:
                written = session.execute(update(T).where(condition(value)).set(T.text.to("")))
            assert len(finds(value) or ()) == written.matched, ascii(value)


@pytest.mark.parametrize("place", VALUES)
def test_values(db: DB, place: str) -> None:
    """A value that is selected comes back as it is."""
    make, gives = VALUES[place]
    for value in POINTED:
        if not ((place in ("max_n", "reduce to") and value is None) or (place == "shift" and value is not None)):
            for row in run(db, select(make(value).label("x")).select_from(T).limit(1)) or ():
                assert same(gives(stored(value)), row[0]), (ascii(value), row)


@pytest.mark.parametrize("place", TEXT_VALUES)
def test_texts(db: DB, place: str) -> None:
    """So are texts where functions take these."""
    make, gives = TEXT_VALUES[place]
    for text in TEXTS:
        for row in run(db, select(make(text).label("x")).select_from(T).limit(1)) or ():
            assert gives(text) == row[0], ascii(text)


@pytest.mark.parametrize("beside", ["alone", "beside an expression"])
@pytest.mark.parametrize("place", CHANGES)
def test_changes(db: DB, place: str, beside: str) -> None:
    """What an update writes is the value, or refused where no document may hold it."""
    make, gives = CHANGES[place]
    thing = {"_id": "x", "n": 0, "value": 0, "values": STORED, "parts": [{"value": one} for one in STORED], "meta": {}}
    backend = db.parts.data_backend
    written = 0
    for value in POINTED:
        backend.write(Delete("things", [{"_id": "x"}]))
        backend.write(Insert("things", [thing]))
        try:
            statement = update(T).where(T.id == "x")
            statement = statement.values(value=value) if place == "values" else statement.set(make(value))
            statement = statement.set(T.n.to(T.n + 1)) if beside != "alone" else statement
            with db.session() as session:
                session.execute(statement)
        except SuperormError:
            continue
        (after,) = backend.read(Find("things", {"_id": "x"}))
        assert same({**gives(thing, stored(value)), "n": int(beside != "alone")}, after), (ascii(value), after)
        written += 1
    backend.write(Delete("things", [{"_id": "x"}]))
    assert written > 20 or beside != "alone"  # there it refuses what changes lists


SEARCHES: list[tuple[Callable[[str], Any], Callable[[str, str], bool]]] = [
    (T.text.startswith, str.startswith),
    (T.text.endswith, str.endswith),
    (T.text.contains, str.__contains__),
]


@pytest.mark.parametrize("text", [*TEXTS, "a+b", "(", "[a]", "\\", "\\E", "a|b", "^", "x{2}", "#", " "], ids=ascii)
def test_searches(text: str) -> None:
    """startswith, endswith and contains take all characters as they are; a NUL they refuse."""
    candidates = ["", text, f"{text}x", f"x{text}", f"x{text}x", f"{text}\n", "other", "aa", "xx", "b", "a\\b"]
    with connect(f"mongomock://texts_{uuid4().hex[:12]}", vector_database="memory://") as db:
        db.parts.data_backend.write(Insert("things", [{"_id": n, "text": one} for n, one in enumerate(candidates)]))
        for search, holds in SEARCHES:
            if "\0" not in text:
                finds = [n for n, one in enumerate(candidates) if holds(one, text)]
                assert finds == [row[0] for row in run(db, select(T.id).where(search(text)).order_by(T.id)) or ()]
