"""Classes of scripts are pickled by value, with functions that name them, and work where the script is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = '''
from __future__ import annotations

import pickle
import sys
import threading
from enum import Enum
from pathlib import Path

import cloudpickle
import numpy as np

import superorm
from superorm import Document, Embedded, Mapped, Registry, Session, field, register_type, select, update, vector
from superorm.schema.registry import default_registry

LOCK = threading.Lock()  # what the module holds beside the classes need not be pickled
OTHERS = Registry()


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Colour:
    def __init__(self, code: str) -> None:
        self.code = code


register_type(Colour, lambda colour: colour.code, Colour)


class Rating(Embedded):
    stars: Mapped[float]
    votes: Mapped[int] = field(default=0)


class Verdict(Rating):
    by: Mapped[str] = field(default="")


class Stamped(Document):
    """Abstract."""

    __abstract__ = True
    note: Mapped[str] = field(default="", validator=lambda owner, part, value: None)


class Movie(Stamped):
    """A movie."""

    __collection__ = "pickled_movies"
    id: Mapped[int] = field(primary_key=True)
    title: Mapped[str]
    tags: Mapped[list[str]] = field(factory=list)
    rating: Mapped[Rating | None] = field(default=None)
    mood: Mapped[Mood] = field(default=Mood.CALM)
    colour: Mapped[Colour | None] = field(default=None)
    embedding: Mapped[np.ndarray | None] = vector(2)

    def shout(self) -> str:
        return self.title.upper()


class Film(Movie):
    reels: Mapped[int] = field(default=1)

    def shout(self) -> str:
        return super().shout() + "!"


class Apart(Document, registry=OTHERS):
    id: Mapped[int] = field(primary_key=True)
    words: Mapped[set[str]] = field(factory=set)


STATEMENT = select(Movie).where(Movie.rating.stars > 3)


def work(name):
    with superorm.connect(f"mongomock://{name}") as db:
        with db.begin() as session:
            session.add(Movie(id=1, title="one", rating=Verdict(stars=4, by="me"), embedding=np.array([1, 0])))
            session.add(Film(id=2, title="two", tags=["x"], mood=Mood.WILD, colour=Colour("red"), reels=3))
            session.add(Movie(id=3, title="three", embedding=[0.0, 1.0]))
            session.add(Apart(id=1, words={"b", "a"}))
        with db.begin() as session:
            session.execute(update(Movie).where(Movie.id == 1).set(Movie.tags.push("y")))
            session.get_one(Movie, 2).tags.append("z")
        with Session(db) as session:
            found = session.scalars(select(Movie).order_by(Movie.id)).all()
            near = session.scalars(select(Movie).like([0.0, 1.0], on=Movie.embedding, k=1)).one()
            return {
                "types": [type(one).__name__ for one in found],
                "same": [type(one) is kind for one, kind in zip(found, (Movie, Film, Movie))],
                "tags": [one.tags for one in found],
                "rating": (type(found[0].rating) is Verdict, found[0].rating == Verdict(stars=4, by="me")),
                "mood": found[1].mood is Mood.WILD,
                "colour": found[1].colour.code,
                "shout": [one.shout() for one in found],
                "near": near.id,
                "stored": session.scalars(STATEMENT).one() is found[0],
                "words": session.scalars(select(Apart.words)).one(),
                "films": session.scalars(select(Film.reels).where(Film.reels > 2)).all(),
                "note": [Movie.note.to("x").value, Movie.__doc__],
                "registered": [
                    default_registry.find("__main__.Movie") is Movie.__superorm__,
                    [one.name for one in Apart.__superorm_registry__] == ["Apart"],
                    default_registry.find("__main__.Apart") is None,
                ],
            }


EXPECTED = {
    "types": ["Movie", "Film", "Movie"],
    "same": [True, True, True],
    "tags": [["y"], ["x", "z"], []],
    "rating": (True, True),
    "mood": True,
    "colour": "red",
    "shout": ["ONE", "TWO!", "THREE"],
    "near": 3,
    "stored": True,
    "words": {"a", "b"},
    "films": [3],
    "note": ["x", "A movie."],
    "registered": [True, True, True],
}

if __name__ == "__main__":
    data = cloudpickle.dumps((work, EXPECTED))
    Path(sys.argv[1]).write_bytes(data)
    mapping, side = Movie.__superorm__, Movie.title
    again = cloudpickle.loads(data)[0]
    assert again.__globals__["Movie"] is Movie and Movie.__superorm__ is mapping and Movie.title is not None
    assert work("here") == EXPECTED, work("here")
    assert again("there") == EXPECTED
    one = cloudpickle.loads(cloudpickle.dumps(Film(id=5, title="five", rating=Rating(stars=1))))
    assert type(one) is Film and (one.title, one.rating) == ("five", Rating(stars=1))
'''

LOADING = """
import pickle
import sys
from pathlib import Path

data = Path(sys.argv[1]).read_bytes()
work, expected = pickle.loads(data)
assert work("first") == expected, work("first")
again, _ = pickle.loads(data)
assert again.__globals__["Movie"] is work.__globals__["Movie"]
assert again("second") == expected
assert work("third") == expected

from superorm import Mapped, field, select

Movie = work.__globals__["Movie"]

class Later(Movie):
    seen: Mapped[int] = field(default=1)

later = Later(id=1, title="x", tags=["y"])
assert (later.shout(), later.seen, later.tags) == ("X", 1, ["y"])
assert select(Later.title).where(Later.seen > 0).pipeline()[0]["$match"]["_type"] == "Later"
import cloudpickle
Path(sys.argv[1]).write_bytes(cloudpickle.dumps((again, expected)))
"""


def run(path: Path, text: str, data: Path) -> None:
    path.write_text(text)
    done = subprocess.run([sys.executable, str(path), str(data)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_functions_of_scripts_that_name_classes(tmp_path: Path) -> None:
    """The classes are whole in the next process, however often they are loaded, and in one after that."""
    data = tmp_path / "function.pkl"
    run(tmp_path / "script.py", SCRIPT, data)
    for name in ("first.py", "second.py"):
        run(tmp_path / name, LOADING, data)


MODULE = """
from __future__ import annotations
from superorm import Document, Embedded, Mapped, field

class Rating(Embedded):
    stars: Mapped[int] = field(default=1)

class Movie(Document):
    id: Mapped[int] = field(primary_key=True)
    rating: Mapped[Rating | None] = field(default=None)
"""

DERIVED = """
from __future__ import annotations
import sys
from pathlib import Path
import cloudpickle
import superorm
from known import Movie, Rating
from superorm import Mapped, Session, field, select

class Verdict(Rating):
    by: Mapped[str] = field(default="")

class Film(Movie):
    reels: Mapped[int] = field(default=1)

def work(name):
    with superorm.connect(f"mongomock://{name}") as db:
        with db.begin() as session:
            session.add_all([Film(id=1, rating=Verdict(by="me")), Movie(id=2, rating=Rating())])
        with Session(db) as session:
            found = session.scalars(select(Movie).order_by(Movie.id)).all()
            return [(type(one), type(one.rating)) for one in found] == [(Film, Verdict), (Movie, Rating)]

assert work("here")
Path(sys.argv[1]).write_bytes(cloudpickle.dumps(work))
"""


def test_classes_of_scripts_that_derive_from_those_of_modules(tmp_path: Path) -> None:
    """The classes of modules are found by their names, and know those that were pickled."""
    data = tmp_path / "function.pkl"
    (tmp_path / "known.py").write_text(MODULE)
    run(tmp_path / "script.py", DERIVED, data)
    loading = "import pathlib, pickle, sys; assert pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())('there')"
    run(tmp_path / "loading.py", loading, data)
