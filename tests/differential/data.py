"""Strategies for stored documents and for literals; of few values, so that many are equal."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from attrs import frozen
from bson import Decimal128, Int64, ObjectId
from hypothesis import strategies as st

from tests.differential.classes import Other, Thing
from tests.differential.values import MISSING

__all__ = ["ODD", "PLAIN", "TYPED", "Pool", "integers", "texts"]

Strategy = st.SearchStrategy[Any]

_DAY = dt.datetime(2020, 2, 29, 12, 30, tzinfo=dt.UTC)

integers = st.integers(-3, 3)
texts = st.sampled_from(["", "a", "b", "ab", "aB", "ba", "a.b", "a\nb", "$a", "é"])
absent = st.sampled_from([None, MISSING])
nothing = st.nothing()

some_numbers = st.one_of(integers, integers, integers.map(Int64), st.sampled_from([0.5, -1.5, 2.0, 2.25]))
all_numbers = st.one_of(
    some_numbers, some_numbers, integers.map(float), st.sampled_from([Decimal128("0.5"), Decimal128("-1.50")])
)
odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, Decimal128("NaN"), Int64(2**53 + 1), float(2**53)])
plain_scalars = st.one_of(some_numbers, texts, st.none(), st.sampled_from([_DAY, _DAY.replace(year=1960)]))
all_scalars = st.one_of(
    all_numbers,
    texts,
    odd_numbers,
    st.booleans(),
    st.none(),
    st.sampled_from([b"", b"ab", ObjectId("0" * 24), ObjectId("1" * 24), _DAY, _DAY.replace(year=1960)]),
)
anything = st.one_of(
    all_scalars,
    all_scalars,
    st.lists(st.one_of(integers, texts, st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["n", "s"]), st.one_of(integers, texts, st.none()), max_size=2),
    st.lists(st.lists(integers, max_size=2), max_size=2),
)


@frozen
class Pool:
    """What values there are in documents and statements."""

    numbers: Strategy
    scalars: Strategy
    """Literals to compare with."""
    anything: Strategy
    """The same, lists and documents among them."""
    values: Strategy
    """What fields of any type hold."""
    odd: Strategy = nothing
    """What else stands where a list or an embedded document is declared."""

    def data(self) -> Strategy:
        """Documents of each class, as stored."""
        part = st.fixed_dictionaries({}, optional={"n": self.numbers | st.none(), "s": texts | st.none()})
        joined_by = st.one_of(integers, integers, absent, st.lists(st.one_of(integers, st.none()), max_size=3))
        things = {
            "n": st.one_of(self.numbers, self.numbers, absent),
            "q": st.one_of(self.numbers, absent),
            "a": st.one_of(self.values, absent),
            "s": st.one_of(texts, texts, absent),
            "key": joined_by,
            "l": st.one_of(st.lists(st.one_of(integers, texts, st.none()), max_size=4), absent, self.odd),
            "e": st.one_of(part, absent, st.nothing() if self.odd is nothing else st.lists(part), self.odd),
            "p": st.one_of(st.lists(part, max_size=3), absent, self.odd),
            "m": st.one_of(st.dictionaries(st.just("k"), self.scalars, max_size=1), absent, self.odd),
        }
        others = {"k": joined_by, "v": st.one_of(self.numbers, texts, absent)}
        return st.builds(lambda one, other: {Thing: one, Other: other}, _documents(things, 14), _documents(others, 6))


def _documents(fields: dict[str, Strategy], size: int) -> Strategy:
    def numbered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"_id": n, **{key: value for key, value in document.items() if value is not MISSING}}
            for n, document in enumerate(found)
        ]

    return st.lists(st.fixed_dictionaries(fields), max_size=size).map(numbered)


PLAIN = Pool(some_numbers, plain_scalars, plain_scalars, texts)
"""Fields of one type each, and no number that mongomock takes for another."""
TYPED = Pool(all_numbers, all_scalars, anything, anything)
"""Every type, lists and embedded documents where they are declared."""
ODD = Pool(all_numbers, all_scalars, anything, anything, anything)
"""Anything anywhere."""
