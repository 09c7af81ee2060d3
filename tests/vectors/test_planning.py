"""How a search decides what to do, from counts alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from attrs import evolve

from superorm.vectors.planning import (
    FEW,
    FEW_READ,
    CountMatches,
    Known,
    ListMatches,
    ListRows,
    Rank,
    Step,
    masks,
    next_part,
    plan,
)

HELD = [None, 0, 1, 999, 4_000, 20_000, 20_001, 100_000, 1_000_000]
MATCHING = [0, 1, 10, 249, 250, 999, 1_000, 1_001, 1_500, 5_000, 5_001, 50_000, 50_001, 1_000_000]
KS = [1, 10, 333, 334, 5_000, 10_000_000]


def decided(known: Known, matching: int) -> Iterator[tuple[Known, Step]]:
    """All steps until a ranking that succeeds, where so many documents match."""
    for _ in range(10):
        step = plan(known)
        yield known, step
        if isinstance(step, Rank):
            if step.strategy != "over-fetch" or step.last:
                return
            known = evolve(known, in_vain=step.limit)
            continue
        more = step.limit is not None and matching > step.limit
        counted = step.limit if more else matching
        listed = isinstance(step, ListMatches) and not more
        known = evolve(known, matched=counted, more=more, listed=listed)
    pytest.fail("no decision")


@pytest.mark.parametrize(("held", "matching", "k"), list(itertools.product(HELD, MATCHING, KS)))
def test_every_way_ends(held: int | None, matching: int, k: int) -> None:
    """Whatever the counts: a bounded list first, never more than two counts of the filter before a ranking, an end.

    Nothing is listed without a bound, and no more than three keys for each row beyond what is few.
    """
    steps = list(decided(Known("memory", k, True, held), matching))
    few = FEW_READ if held is None else FEW
    assert ListMatches(few) == steps[0][1]
    before = list(itertools.takewhile(lambda pair: not isinstance(pair[1], Rank), steps))
    assert len(before) <= 3
    assert sum(isinstance(step, CountMatches) for _, step in steps) <= 1
    later = [(known, step) for known, step in steps[1:] if isinstance(step, ListMatches)]
    assert len(later) <= 1
    for known, listing in later:
        assert known.held is not None
        if listing.limit is None:  # everything is listed only where that was counted to be little
            assert not known.more
            assert (known.matched or 0) <= max(few, 0.05 * known.held + 1)
        else:
            assert known.in_vain or k > (known.matched or 0) / 3
            assert listing.limit <= 3 * known.held
    known, last = steps[-1]
    assert isinstance(last, Rank)
    assert known.listed or (last.strategy == "over-fetch" and last.last)
    assert known.listed or held is None or matching > 3 * held
    if known.listed:
        assert (matching, False) == (known.matched, known.more)
        assert ("mask" if held is not None and matching >= 0.25 * held else "gather") == last.strategy
    for known, step in steps:
        if isinstance(step, Rank):
            assert step.limit >= k
            assert str(known.matched) in step.why
            assert step.why == step.why.strip().rstrip(".")
            if step.strategy == "over-fetch":
                assert matching > (known.matched or 0) >= few


@pytest.mark.parametrize(
    ("held", "matching", "expected"),
    [
        (20_000, 0, ["list", "gather"]),
        (20_000, 20, ["list", "gather"]),
        (20_000, 3_000, ["list", "gather"]),
        (20_000, 3_001, ["list", "over-fetch", "list", "gather"]),
        (20_000, 10_000, ["list", "over-fetch", "list", "mask"]),
        (2_000, 700, ["list", "mask"]),
        (60_000, 3_001, ["list", "over-fetch", "list", "gather"]),
        (100_000, 3_000, ["list", "gather"]),
        (100_000, 5_000, ["list", "count", "list", "gather"]),
        (100_000, 5_001, ["list", "count", "over-fetch", "list", "gather"]),
        (20_000, 60_000, ["list", "over-fetch", "list", "mask"]),
        (20_000, 60_001, ["list", "over-fetch", "list", "over-fetch"]),
        (100, 1_000_000, ["list", "over-fetch", "over-fetch"]),
        (0, 3_001, ["list", "over-fetch", "over-fetch"]),
        (None, 1_000, ["list", "gather"]),
        (None, 1_001, ["list", "over-fetch"]),
    ],
)
def test_the_order_of_steps(held: int | None, matching: int, expected: list[str]) -> None:
    """Few matching are gathered, some are counted further, of many the nearest rows are looked through first."""
    names = {CountMatches: "count", ListMatches: "list"}
    steps = [step for _, step in decided(Known("lancedb", 10, True, held), matching)]
    assert expected == [step.strategy if isinstance(step, Rank) else names[type(step)] for step in steps]


@pytest.mark.parametrize("held", HELD)
def test_without_a_filter(held: int | None) -> None:
    """Nothing is counted where there is no filter."""
    step = plan(Known("lancedb", 10, False, held))
    assert isinstance(step, Rank)
    assert ("exact", True) == (step.strategy, step.limit > 10)
    assert ("lancedb" if held is None else str(held)) in step.why
    assert (held is None) == ("ranked" not in step.why)  # LanceDB may go by an index


def test_a_large_k_is_not_over_fetched() -> None:
    """Where k is so large that looking through candidates costs more than listing what matches, that is done."""
    known = Known("memory", 334, True, 20_000, matched=1_000, more=True)
    assert ListMatches(60_000) == plan(known)
    step = plan(evolve(known, k=333))
    assert isinstance(step, Rank)
    assert ("over-fetch", 333) == (step.strategy, step.limit)


def test_why_tells_what_was_tried() -> None:
    """After an over-fetch in vain the reason names how many were looked through."""
    step = plan(Known("memory", 10, True, 20_000, matched=2_600, listed=True, in_vain=123))
    assert isinstance(step, Rank)
    assert "123" in step.why
    assert "2600" in step.why
    assert "20000" in step.why


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.2, 0.05])
def test_parts_follow_the_rate(rate: float) -> None:
    """Parts are enough for the hits that are lacking at the rate seen so far, with some to spare, and no more."""
    for seen in (100, 1_000):
        found = round(rate * seen)
        size = next_part(10, seen, found, None)
        assert size is not None
        assert 10 / rate <= size <= 2.5 * 10 / rate


def test_giving_up() -> None:
    """A first part is always looked up; then the rest must promise enough, unless there is no other way."""
    assert next_part(10, 0, 0, 5) is not None
    assert next_part(10, 30, 0, 300) is None
    assert next_part(10, 30, 0, None) is not None
    assert next_part(10, 30, 3, 300) is not None
    assert next_part(1, 99, 0, 101) is not None
    assert next_part(1, 99, 0, 100) is None


def test_masks() -> None:
    """From a quarter of the rows on all are ranked."""
    assert [False, True, True] == [masks(n, 100) for n in (24, 25, 100)]
    assert masks(0, 0)
    assert not masks(0, 1)


def test_what_the_engine_says_of_the_filter() -> None:
    """All of it: few rows are listed by the engine, of more it finds the nearest. A part: the server lists, if few."""
    known = Known("lancedb", 10, True, None, pushed=True)
    assert ListRows(FEW_READ) == plan(known)
    few = plan(evolve(known, passing=312, listed=True))
    assert isinstance(few, Rank)
    assert "gather" == few.strategy
    assert "312 rows" in few.why
    many = plan(evolve(known, passing=FEW_READ))
    assert isinstance(many, Rank)
    assert ("push-down", True) == (many.strategy, 10 < many.limit < 50)
    assert f"more than {FEW_READ} rows" in many.why
    assert "no declared index" in few.why
    part = evolve(known, left="'title' is not mirrored")
    assert ListMatches(FEW_READ) == plan(part)
    assert ["gather", "push-down"] == [
        getattr(plan(evolve(part, matched=FEW_READ, listed=listed, more=not listed)), "strategy", None)
        for listed in (True, False)
    ]
    some = plan(evolve(part, matched=FEW_READ, more=True))
    assert isinstance(some, Rank)
    assert some.limit >= 200
    assert some.why.endswith("; 'title' is not mirrored")
    nothing = plan(evolve(part, pushed=False, matched=FEW_READ, more=True))
    assert isinstance(nothing, Rank)
    assert "over-fetch" == nothing.strategy
    assert nothing.why.endswith("; 'title' is not mirrored")


def test_an_index_of_the_server() -> None:
    """Where one finds all that the filter matches, the server counts it by that; nobody lists it."""
    known = Known("lancedb", 10, True, None, pushed=True, index="year, genre")
    assert CountMatches(FEW_READ) == plan(known)
    few = plan(evolve(known, matched=312))
    many = plan(evolve(known, matched=FEW_READ, more=True))
    assert isinstance(few, Rank)
    assert isinstance(many, Rank)
    assert ["gather", "push-down"] == [few.strategy, many.strategy]
    assert "312 documents match by the index on year, genre" in few.why
    assert f"more than {FEW_READ} documents match by the index on year, genre" in many.why
    assert (True, True) == (many.last, 10 < many.limit < 50)
    held = evolve(known, held=20_000, pushed=False)
    assert ListMatches(FEW) == plan(held)
    whole = plan(evolve(known, lists=False))
    assert isinstance(whole, Rank)
    assert "push-down" == whole.strategy
