"""Generated statements over generated data: a server, mongomock and plain Python answer the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from tests.differential import statements
from tests.differential._async.world import AsyncWorld
from tests.differential.data import ODD, PLAIN, TYPED, Pool

EACH = 8
"""Statements run on one data set, at most."""

quick = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # the world finds the fewest documents itself
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)
long = settings(quick, max_examples=400)

KINDS: dict[str, tuple[Callable[[Pool], Any], Pool]] = {
    "where": (lambda pool: statements.ordered(pool, simple=True), ODD),
    "values": (statements.ordered, TYPED),
    "distinct": (statements.distinct, TYPED),
    "groups": (statements.grouped, TYPED),
    "totals": (statements.totals, TYPED),
    "unwind": (statements.unwound, ODD),
    "join": (statements.joined, TYPED),
    "windows": (statements.windowed, TYPED),
    "then": (statements.chained, TYPED),
    "buckets": (statements.bucketed, TYPED),
    "lists": (statements.listed, TYPED),
    "unions": (statements.united, TYPED),
    "facets": (statements.faceted, TYPED),
}
"""What statements there are, and the values that the server is tried with; mongomock has to know the plain ones."""


async def compare(world: AsyncWorld, kind: str, data: st.DataObject) -> None:
    """Run some statements on one data set."""
    statement, pool = KINDS[kind]
    plain = data.draw(st.booleans())
    pool = PLAIN if plain else pool
    found: Any = data.draw(pool.data())
    world.fill(found)
    for select in data.draw(st.lists(statement(pool), min_size=1, max_size=EACH)):
        await world.check(select, mock=plain)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
async def test_statements(world: AsyncWorld, kind: str, data: st.DataObject) -> None:
    """Each answer is what plain Python computes; mongomock may refuse, by name."""
    await compare(world, kind, data)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@long
@given(data=st.data())
async def test_many_statements(world: AsyncWorld, kind: str, data: st.DataObject) -> None:
    """The same, many more times."""
    await compare(world, kind, data)
