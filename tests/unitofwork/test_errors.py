"""Errors of backends, in the user's words."""

from __future__ import annotations

import pytest

from superorm import Document, DuplicateKeyError, Embedded, Mapped, WriteError, field
from superorm.schema.mapping import class_map
from superorm.unitofwork.errors import of_class


class Score(Embedded):
    rating: Mapped[float] = field(name="r")
    votes: Mapped[int] = field(default=0)


class Film(Document):
    __collection__ = "films_of_errors"

    slug: Mapped[str] = field(name="s")
    title: Mapped[str]
    score: Mapped[Score | None] = field(default=None, name="sc")
    scores: Mapped[list[Score]] = field(factory=list, name="all")
    extra: Mapped[dict[str, str]] = field(factory=dict, name="x")


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("_id", "id"),
        ("s", "slug"),
        ("title", "title"),
        ("s, title", "slug, title"),
        ("sc.r", "score.rating"),
        ("sc.votes", "score.votes"),
        ("all.r", "scores.rating"),
        ("all.2.r", "scores.2.rating"),
        ("x.s", "extra.s"),
        ("unmapped.s", "unmapped.s"),
        (None, None),
    ],
)
def test_fields_by_their_attributes(stored: str | None, shown: str | None) -> None:
    """Whatever the keys that they are stored under."""
    for kind in (DuplicateKeyError, WriteError):
        error = of_class(kind("db.films: no", key=7, field=stored), class_map(Film))
        assert (kind, "Film: db.films: no") == (type(error), str(error))
        assert (Film, 7, shown) == (error.document_class, error.key, error.field)
