"""Single statements that were answered wrongly once, and what mongomock has to refuse."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import UnsupportedError, case, column, func, select, window
from superorm.expr.statements import Select
from tests.differential._async.world import AsyncWorld
from tests.differential.classes import Other, Part, Thing

DATA: dict[type, list[dict[str, Any]]] = {
    Thing: [
        {"_id": 0, "s": "a", "q": None, "l": [], "key": 1, "e": None, "m": {"k": 1}},
        {"_id": 1, "s": "a", "l": [2, 1], "key": [1, 2], "e": {"n": 0}},
        {"_id": 2, "s": "", "q": 0, "l": [[1]], "e": {}, "p": [{"n": 1}, {"s": "a"}]},
        {"_id": 3, "q": 2.5, "l": None, "key": None},
    ],
    Other: [{"_id": 0, "k": 1, "v": 0}, {"_id": 1, "k": [2, 3], "v": ""}, {"_id": 2}],
}
count = func.count().label("n")
share = (func.sum(Thing.q) / func.count()).label("share")

EXAMPLES: dict[str, Select[Any, Any]] = {
    "distinct rows, null and missing": select(Thing.s, Thing.q).distinct(),
    "an element that is not there": select(Thing.id, case((Thing.l[0] == None, 1), else_=0)),  # noqa: E711
    "an order that is not of the rows": select(Thing.id).where((Thing.q + 1) > 0, ~(Thing.s == "a")),
    "null below null": select(Thing.id).where(Thing.e.n.is_(None)),
    "all of nothing": select(Thing.id).where(Thing.l.all_([])),
    "all of null": select(Thing.id).where(Thing.l.all_([None])),
    "a list in a list": select(Thing.id).where(Thing.l == [1]),
    "below a list": select(Thing.id).where(Thing.p[0].n == 1),
    "one of two fields": select(Thing.id).where(Thing.s == Thing.q),
    "neither of two": select(Thing.id).where(~(Thing.s == Thing.a)),
    "a condition as a value": select(Thing.id, (Thing.q > 0).label("more"), (~(Thing.q > 0)).label("less")),
    "a total of nothing": select(count).where(Thing.id > 9),
    "calculated from a total of nothing": select((func.count() + 1).label("more")).where(Thing.id > 9),
    "having of nothing": select(count).where(Thing.id > 9).having(count == 0),
    "a total that is left out": select(count).select_from(Thing).then().where(count > 9),
    "a total of totals": select(count).where(Thing.id > 9).then(func.sum(count)),
    "a facet of nothing": select(Thing.id).where(Thing.id > 9).facet(a=select(count).select_from(Thing)),
    "labels of calculated values": select(Thing.s, share).group_by(Thing.s).then(func.max(share)),
    "groups counted": select(Thing.s, count).group_by(Thing.s).then(func.count().label("groups"), func.sum(count)),
    "some of the first ones": select(Thing.id).order_by(Thing.id).limit(3).then().offset(1),
    "keys of groups that are lists": select(Thing.l, func.count()).group_by(Thing.l).order_by(Thing.l),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_example(world: AsyncWorld, name: str) -> None:
    """The answer is what plain Python computes, on both."""
    world.fill(DATA)
    await world.check(EXAMPLES[name].select_from(Thing), mock=True)


IRREGULAR: dict[type, list[dict[str, Any]]] = {
    Thing: [
        {"_id": 0, "s": "a", "n": 1, "q": 3, "l": [[1, 2]], "p": [5], "e": [[{"n": 1}]], "key": [1, 3]},
        {
            "_id": 1,
            "s": "b",
            "n": None,
            "q": -3,
            "l": 7,
            "p": [{"n": None}, {"n": 1}, {}],
            "e": [{"n": 1}, {}],
            "key": 3,
        },
        {"_id": 2, "q": -2.5, "l": [0, 0.0, False], "p": {"n": 1}, "e": {"n": 1}, "key": [2]},
    ],
    Other: [{"_id": 0, "k": 1}, {"_id": 1, "k": [2, 3]}],
}
IRREGULAR_EXAMPLES: dict[str, Select[Any, Any]] = {
    "the length of a list, and not of its elements": select(Thing.id).where(Thing.l.size() == 2),
    "elements that are no documents": select(Thing.id).where(Thing.p.any_(Part.n == None)),  # noqa: E711
    "below a list in a list": select(Thing.id).where(Thing.e.n == 1),
    "the same as a value": select(Thing.id, case((Thing.e.n == 1, 1), else_=0)),
    "values below a list": select(func.concat_arrays(Thing.p.n, [2])).where(Thing.id == 1),
    "a place in what is no list": select(Thing.id, column("at")).unwind(Thing.l, index="at"),
    "joined by elements": select(Thing.id, Other.id).join(Other, Thing.k == Other.k),
    "the sign of a remainder": select(Thing.id, Thing.q % 2, Thing.q % -2),
    "no element is pushed": select(func.push(Thing.l[1])),
    "one of null": select(Thing.id, case((Thing.n.in_([5, None]), 1), else_=0)),
    "at most null, at least null": select(Thing.id).where((Thing.n >= None) & (Thing.n <= None)),
}


@pytest.mark.parametrize("name", IRREGULAR_EXAMPLES)
async def test_irregular(world: AsyncWorld, name: str) -> None:
    """The same over lists in lists and values where there should be lists."""
    world.fill(IRREGULAR)
    await world.check(IRREGULAR_EXAMPLES[name].select_from(Thing), mock=True)
    assert not world.refused, f"mongomock refuses {[*world.refused]}"


REFUSED: dict[str, Select[Any, Any]] = {
    "$addToSet": select(func.add_to_set(Thing.q)),
    "$stdDevPop": select(func.std_dev_pop(Thing.q)),
    "$toUpper": select(func.to_upper(Thing.s)),
    "$setWindowFields": select(window(func.sum(Thing.q), order_by=Thing.id)),
    "$unionWith": select(Thing.id).union_all(select(Other.id)),
    "pipeline": select(Thing.id).join(Other, Other.k == Thing.k, Other.v > 0),
    "sort by l": select(Thing.id).order_by(Thing.l),
    "join by l": select(Thing.id).join(Other, Thing.l == Other.k),
}


@pytest.mark.parametrize("named", REFUSED)
async def test_refused(world: AsyncWorld, named: str) -> None:
    """mongomock computes it otherwise than a server, and says so."""
    world.fill(DATA)
    async with world.mock.session() as session:
        with pytest.raises(UnsupportedError) as refused:
            await session.execute(REFUSED[named])
    assert named in str(refused.value)
    await world.check(REFUSED[named], mock=False)
