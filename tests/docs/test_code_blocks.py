"""The code of the tutorial and of the pages that show no answers runs as it stands, on a server."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pymongo
import pytest

import superorm
from superorm import DB, Document, Registry
from superorm.schema import lookup
from tests.databases import drop_database

DOCS = Path(__file__).resolve().parents[2] / "docs"

ENCODERS = """
def encoder(text):
    return [float(text.lower().count(chr(97 + n))) for n in range(26)] + [0.0] * 358


def better_encoder(text):
    return [2 * number for number in encoder(text)][::-1]
"""

PAGES: dict[str, tuple[dict[int, str], str]] = {
    "tutorial/getting-started.md": (
        {0: ENCODERS},
        """
with Session(db) as session:
    nearest = session.scalars(select(Movie).like("A detective hunts a thief.", k=1)).one()
    assert ("Heat", ["Crime", "Drama"], 1995) == (nearest.title, nearest.genres, nearest.year)
    assert np.array_equal(np.array(encoder(nearest.plot), np.float32), nearest.embedding)
assert printed("Heat") == 1
assert printed("Up") == 0
""",
    ),
    "how-to/atlas.md": (
        {},
        """
with db.begin() as session:
    session.add_all([Movie(year=1980, embedding=np.ones(384)), Movie(year=2000, embedding=np.arange(384))])
with db.session() as session:
    assert [2000] == [movie.year for movie in session.scalars(stmt)]
assert "superorm_embedding" == index_name(spec)
kinds = [("vector", "embedding"), ("filter", "year"), ("filter", "_type")]
assert kinds == [(one["type"], one["path"]) for one in definition(spec)["fields"]]
""",
    ),
    "how-to/artifacts.md": (
        {},
        """
codec = XmlCodec()
assert (codec.name, 1, False) == ("xml", codec.version, codec.carries_code)
element = ElementTree.fromstring("<a><b>x</b></a>")
assert codec.takes(element) and not codec.takes("<a/>")
assert "x" == codec.decode(codec.encode(element)).find("b").text
""",
    ),
    "how-to/computed-vectors.md": (
        {
            0: ENCODERS,
            1: """
with db.begin() as session:
    session.add(Movie(title="Heat", plot="A heist"))
""",
        },
        """
assert [0, 1] == db.show("model", "encoder")
with db.session() as session:
    (movie,) = session.scalars(select(Movie))
    assert np.array_equal(np.array(better_encoder("A heist"), np.float32), movie.embedding)
""",
    ),
    "how-to/models.md": (
        {
            0: ENCODERS,
            1: "lines = ['a text', 'another']\n",
            4: """
assert ("encoder", 0) == (record.name, record.version)


def mended(text):
    return encoder(text)[::-1]


db.add(Model("encoder", better_encoder))
db.add(Model("reader", str.upper))
assert ["encoder", "reader"] == db.show("model")
""",
            5: """
assert [] == db.show("model")
lost = db.check().orphans
""",
        },
        """
assert 0 == model.version
assert len(lost) == len(db.check().orphans) == 4
assert 4 == len(db.gc(grace=timedelta(0)).removed)
assert db.check().ok
assert [] == list(db.check().orphans)
""",
    ),
    "how-to/listeners.md": (
        {
            0: ENCODERS
            + """
from superorm import Document, Mapped, connect, field


class Movie(Document):
    __collection__ = "heard_movies"

    year: Mapped[int]
    plot: Mapped[str] = field(default="")


movie = Movie(year=1995, plot="A thief.")
with connect("mongodb://localhost:27017/movies") as before, before.begin() as session:
    session.add_all([movie, Movie(year=1980, plot="A detective.")])
""",
        },
        """
assert {movie.id: encoder("A thief.")} == dict(db.outputs("plots"))
assert (movie.id, encoder("A thief.")) == (key, output)
with db.begin() as session:
    session.get_one(Movie, movie.id).plot = "Another thief."
assert encoder("Another thief.") == db.outputs("plots")[movie.id]
with db.session() as session:
    ((nearest, similarity),) = session.execute(statement).all()
    assert movie.id == nearest.id
    given, held = np.array(encoder("a thief")), np.array(encoder("Another thief."))
    cosine = given @ held / np.linalg.norm(given) / np.linalg.norm(held)
    assert np.isclose((1 + cosine) / 2, similarity)
assert db.check(Movie).ok
""",
    ),
    "how-to/training.md": (
        {
            0: """
from superorm import Document, Mapped, connect


class Movie(Document):
    __collection__ = "movies_to_learn"

    plot: Mapped[str]
    genre: Mapped[str]
    year: Mapped[int]


plots = {"crime": ["A thief plans a heist.", "A detective hunts a thief."], "love": ["A kiss.", "A late wedding."]}
with connect("mongodb://localhost:27017/movies") as before, before.begin() as session:
    session.add_all(
        [Movie(plot=plot, genre=genre, year=year) for genre in plots for plot in plots[genre] for year in (1990, 2005)]
    )
""",
            1: """
with db.begin() as session:
    session.add(Movie(plot="A robbery.", genre="crime", year=1999))
""",
            2: """
import torch.nn as nn


class Ratings(Document):
    __collection__ = "ratings_to_learn"

    votes: Mapped[list[float]]
    rating: Mapped[float]


with db.begin() as session:
    session.add_all([Ratings(votes=[n, 1.0], rating=2.0 * n) for n in range(9)])
""",
        },
        """
assert ["crime", "love"] == clf.predict(["a thief and a detective", "a late wedding"])
assert (0, 1) == (clf.version, again.version)
assert {"share right"} == set(db.show("model", "genre", 1)["metrics"])
assert (4, 5) == tuple(db.show("model", "genre", version)["documents"] for version in (0, 1))
assert "done" == clf.job.status
assert 30 >= len([line for line in rating.job.logs if line.startswith("epoch")]) > 3
assert db.check().ok
""",
    ),
    "how-to/connecting.md": (
        {2: "client = pymongo.MongoClient()\n"},
        """
assert all("test_db" in repr(part) for part in (db.parts.data_backend, db.parts.metadata, db.parts.artifact_store))
""",
    ),
    "how-to/document-classes.md": (
        {
            2: """
class Movie(Document):
    title: Mapped[str]
    year: Mapped[int]
    plot: Mapped[str] = field(default="long")


db = connect()
session = db.session()
session.add_all([Movie(title="Heat", year=1995), Novel(title="Emma", year=1815, heroes=["Emma"]), Account()])
session.commit()
session.expunge_all()
"""
        },
        """
assert [("Heat", 1995)] == [(movie.title, movie.year) for movie in movies]
assert "plot" not in vars(movies[0])
assert [["Emma"]] == [book.heroes for book in session.scalars(select(Work))]
account = session.scalars(select(Account)).one()
account.money = 5
before = account.version
session.commit()
assert before + 1 == account.version
session.close()
""",
    ),
    "how-to/events.md": (
        {
            0: """
from datetime import datetime


class Movie(Document):
    title: Mapped[str]
    changed: Mapped[datetime | None] = field(default=None)


before = utcnow()
""",
        },
        """
db = connect()
with db.begin() as session:
    session.add(Movie(title="Heat"))
with db.begin() as session:
    movie = session.scalars(select(Movie)).one()
    movie.title = "Ronin"
remove_listener(Session, "after_commit", tell)
assert printed("committed") == 2
assert movie.changed is None  # its listener was removed
""",
    ),
    "how-to/indexes.md": (
        {
            0: "db = connect()\n",
            1: """
backend = db.parts.data_backend
made = {one["name"]: one for one in backend.client[backend.name]["movie"].list_indexes()}
assert {"title": 1, "year": -1} == made["title_1_year_-1"]["key"].to_dict()
assert {"year": {"$gt": 2000}} == made["title_1_year_-1"]["partialFilterExpression"].to_dict()
assert {"director.name_1_year_-1", "meta.$**_1", "any_case", "director.name_1", "cast.name_1"} <= made.keys()
assert [30 * 24 * 3600] == [one["expireAfterSeconds"] for one in made.values() if "expireAfterSeconds" in one]
assert [{"title": 1, "plot": 1}] == [one["weights"].to_dict() for one in made.values() if "weights" in one]
""",
            2: "assert [('title', 1), ('year', -1)] == [(key.path, key.kind) for key in Movie.__indexes__[0].keys]\n",
        },
        """
assert Movie.__validate__
""",
    ),
    "how-to/objects.md": (
        {
            0: """
class Movie(Document):
    title: Mapped[str]
    year: Mapped[int]


db = connect()
session = db.session()
movies = [Movie(title="Heat", year=1995), Movie(title="Alien", year=1979)]
session.add_all(movies)
session.commit()
movie = movies[0]
with db.begin() as other:
    other.execute(update(Movie).all().values(year=2000))
given = Movie(id=movie.id, title="Ronin", year=1998)
""",
            1: """
assert [2000, 2000] == [one.year for one in movies]
""",
        },
        """
assert movie is movies[0]
assert ("Ronin", 1998) == (movie.title, movie.year)
session.close()
""",
    ),
    "how-to/relationships.md": (
        {
            1: """
db = connect()
author = Author(name="Ann")
movie = Movie(title="Alien", author=author, studio=Studio(name="Fox"))
session = db.session()
session.add(movie)
session.commit()
key, other = movie.id, Author(name="Bea")
""",
            2: """
whole = select(Author).options(selectinload(Author.movies).joinedload(Movie.studio))
with db.session() as another:
    assert ["Fox"] == [one.studio.name for one in another.scalars(whole).one().movies]
session.refresh(author, ["movies"])
""",
        },
        """
session.commit()
with db.session() as another:
    found = another.scalars(select(Movie).options(selectinload(Movie.author))).all()
    assert {"Alien": "Bea", "Heat": "Ann"} == {one.title: one.author and one.author.name for one in found}
session.close()
""",
    ),
    "how-to/storing-statements.md": (
        {
            0: """
class Movie(Document):
    title: Mapped[str]
    year: Mapped[int]
    genres: Mapped[list[str]] = field(factory=list)


db = connect()
with db.begin() as session:
    session.add_all([Movie(title="Clue", year=1985, genres=["Comedy"]), Movie(title="Big", year=1999)])
    session.add(Movie(title="Fargo", year=1996, genres=["Crime", "Comedy"]))
backend = db.parts.data_backend
saved = backend.client[backend.name]["saved"]
"""
        },
        """
assert [("Fargo", 1996)] == [tuple(row) for row in rows]
""",
    ),
    "how-to/transactions.md": (
        {
            0: """
from itertools import islice


def batched(rows, size):  # of itertools, from Python 3.12 on
    rows = iter(rows)
    while part := list(islice(rows, size)):
        yield part


class Movie(Document):
    title: Mapped[str] = field(default="")


class Account(Document):
    id: Mapped[int] = field(primary_key=True)
    balance: Mapped[int]
    version: Mapped[int] = field(version=True)


class Author(Document):
    id: Mapped[str] = field(primary_key=True)


class Book(Document):
    id: Mapped[str] = field(primary_key=True)
    author_id: Mapped[str | None] = field(default=None)
    author: Mapped[Author | None] = relationship("Author", key="author_id")


class Reader(Document):
    id: Mapped[str] = field(primary_key=True)
    units: Mapped[int] = field(default=0)


async def transfer_async(session):
    source, target = await session.get_one(Account, 1), await session.get_one(Account, 2)
    source.balance, target.balance = source.balance - 10, target.balance + 10
    return source.balance


db, adb = connect(), connect_async()
with db.begin() as session:
    session.add_all([Account(id=1, balance=100), Account(id=2, balance=0), Reader(id="r")])
rows = [{"title": str(n)} for n in range(5)]
""",
            3: """
assert 80 == left
await adb.close()
""",
            4: """
for unit in range(3):
    db.run(lambda session: take_up(session, "r", unit))
with db.session() as session:
    assert 3 == session.get_one(Reader, "r").units
    assert ["r, 2"] == [book.id for book in session.scalars(select(Book))]
    key = session.scalars(select(Movie).where(Movie.title == "Heat")).one().id
""",
            5: "session = db.session()\n",
        },
        """
session.close()
assert "Heat" == (await handler()).title
with db.session() as session:
    assert ["0", "1", "2", "3", "4", "Heat", "Ronin"] == sorted(session.scalars(select(Movie.title)))
""",
    ),
    "how-to/types.md": (
        {
            0: """
from attrs import frozen
from bson import Decimal128


@frozen
class Money:
    amount: str
    currency: str


def money_from(stored):
    return Money(str(stored["n"]), stored["c"])
""",
        },
        """
db = connect()
with db.begin() as session:
    session.add(Item(price=Money("1.50", "EUR"), history=[Money("2", "EUR")]))
    session.add_all([Drawing(shape=Circle(radius=2.0)), Drawing(shape=Square(edge=2.0))])
with db.session() as session:
    item = session.scalars(select(Item).where(Item.price == Money("1.50", "EUR"))).one()
    assert [Money("2", "EUR")] == item.history
    wide = session.scalars(select(Drawing).where(Drawing.shape.radius > 1))
    assert [Circle(radius=2.0)] == [drawing.shape for drawing in wide]
""",
    ),
    "how-to/vector-search.md": (
        {
            3: """
with db.begin() as session:
    session.add_all(Photo(year=2019 + n, tags=["sea"] * (n % 2), embedding=np.eye(64)[n]) for n in range(8))
    session.add_all(Picture(year=1963 + n, embedding=np.eye(64)[n]) for n in range(64))
with db.session() as session:
    assert [2020 + n for n in range(7)] == sorted(picture.year for picture in session.scalars(stmt))
    counted = select(Photo.year, func.count().label("n")).like(query, k=100).group_by(Photo.year)
    assert [(2019 + n, 1) for n in range(8)] == sorted(map(tuple, session.execute(counted)))
""",
        },
        """
assert "gather" == explanation.strategy
with db.begin() as session:
    session.add(Album(cover=Cover(artist="Ann", embedding=query)))
with db.session() as session:
    assert ["Ann"] == [album.cover.artist for album in session.scalars(stmt)]
""",
    ),
    "how-to/writing.md": (
        {
            0: """
class Movie(Document):
    title: Mapped[str] = field(default="")
    slug: Mapped[str] = field(default="")
    year: Mapped[int] = field(default=0)
    old: Mapped[bool] = field(default=False)


class Counter(Document):
    id: Mapped[str] = field(primary_key=True)
    n: Mapped[int] = field(default=0)


db = connect()
""",
            3: "session = db.session()\n",
            4: "session.commit()\n",
        },
        """
assert printed("1 1") == 1
session.commit()
backend = db.parts.data_backend
assert {1980: 1, 1996: 1} == {one["_id"]: one["n"] for one in backend.client[backend.name]["by_year"].find()}
assert {1980: 1, 1996: 1} == {one.id: one.films for one in session.scalars(select(Year))}
session.close()
""",
    ),
}
"""Of each page: what its blocks take for granted, by the number of the block that it stands before, and what holds
after the last one."""


class _Connections:
    """Connects to one new database, whatever URL and vector database a page names."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = f"test_{uuid4().hex[:12]}"
        self.opened: list[DB | pymongo.MongoClient[dict[str, Any]]] = []

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in given.items() if name not in ("artifact_store", "vector_database")}
        return {**kept, "database": self.name, "artifact_store": "memory://", "vector_database": "memory://"}

    def connect(self, url: str | None = None, **given: Any) -> DB:
        self.opened.append(db := _CONNECT(self.uri, **self.options(given)))
        return db

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """In the place of ``pymongo.MongoClient``."""
        self.opened.append(client := pymongo.MongoClient[dict[str, Any]](self.uri))
        return client

    def connect_async(self, url: str | None = None, **given: Any) -> superorm.AsyncDB:
        return _CONNECT_ASYNC(self.uri, **self.options(given))


_CONNECT, _CONNECT_ASYNC = superorm.connect, superorm.connect_async


@pytest.fixture
def connections(mongodb_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Connections]:
    """In the place of `connect`; the classes of a page are in a registry of their own."""

    registry = Registry()

    class Base(Document, registry=registry):
        __abstract__ = True

    made = _Connections(mongodb_uri)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(superorm, "Document", Base)
    monkeypatch.setattr(lookup, "default_registry", registry)
    monkeypatch.setattr(superorm, "connect", made.connect)
    monkeypatch.setattr(superorm, "connect_async", made.connect_async)
    with ExitStack() as stack:
        yield made
        for one in made.opened:
            stack.callback(one.close)
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        drop_database(client, made.name)


@pytest.mark.parametrize("page", PAGES)
async def test_pages(page: str, connections: _Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block runs in the names of those before it; what the tutorial shows needs nothing else but its encoder."""
    before, after = PAGES[page]
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    module = ModuleType(f"page_{Path(page).stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names, output = vars(module), StringIO()
    names |= {} if page.startswith("tutorial") else {name: getattr(superorm, name) for name in superorm.__all__}

    def printed(text: str) -> int:
        return output.getvalue().count(text)

    names["pymongo"] = SimpleNamespace(MongoClient=connections.client)
    with redirect_stdout(output):
        for number, block in enumerate(blocks):
            await run(before.get(number, ""), names, f"before block {number} of {page}")
            await run(block, names, f"block {number} of {page}")
        names |= {"np": np, "printed": printed}
        await run(after, names, f"after {page}")


def test_all_pages_run() -> None:
    """Those that show answers are run by other tests."""
    others = {page.name for page in DOCS.rglob("*.md") if "```python\n" in page.read_text(encoding="utf-8")}
    assert {"functions.md"} == others - {Path(page).name for page in PAGES}


async def run(code: str, names: dict[str, Any], where: str) -> None:
    """Execute code, which may await."""
    done = eval(compile(code, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(done):
        await done
