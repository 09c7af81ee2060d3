"""Other names for classes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from superorm import Document, Field, Mapped, StatementError, aliased, select
from tests.compile.classes import Movie


class Odd(Document):
    name: Mapped[str]
    cls: Mapped[str]
    call: Mapped[str]
    operator: Mapped[str]


@pytest.mark.parametrize("name", ["id", "name", "cls", "call", "operator"])
def test_fields_of_any_name(name: str) -> None:
    """No field is hidden by what an alias has itself."""
    other: Any = aliased(Odd, "other")
    assert isinstance(getattr(other, name), Field)
    assert f"other.{name}" == repr(getattr(other, name))
    stored = "_id" if name == "id" else name
    statement = select(Odd).join(other, other.name == Odd.cls).columns(getattr(other, name))
    assert {"$project": {f"__other.{stored}": 1, "_id": 0}} == statement.pipeline()[-1]


def test_rows_are_named_after_it() -> None:
    """A column of whole documents has the alias's name."""
    other: Any = aliased(Odd, "other")
    assert "<Select Odd, other>" == repr(select(Odd, other))


def test_copies_are_equal() -> None:
    """An alias stays itself in copies and pickles."""
    other = aliased(Odd, "other")
    assert other == copy.deepcopy(other) == pickle.loads(pickle.dumps(other))
    assert other != aliased(Odd, "another")


def test_wrong_aliases() -> None:
    """Neither other classes, nor names that cannot be attributes of rows, nor fields that the class lacks."""
    wrong: Any = int
    for cls, name in ((wrong, "x"), (Movie, "a b"), (Movie, "_x"), (Movie, "")):
        with pytest.raises(StatementError, match="takes a document class and a name for it"):
            aliased(cls, name)
    other: Any = aliased(Movie, "other")
    with pytest.raises(AttributeError):
        _ = other.nothing
