# pyright: reportPrivateUsage=false
"""Strategies for statements, made by the public interface."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from superorm import case, column, func, select, window
from superorm.expr.kinds import is_label
from superorm.expr.statements import Select
from tests.differential.classes import Other, Thing
from tests.differential.conditions import LISTS, NUMBERS, PATHS, TOP, Draw, arithmetic, comparison, conditions, values
from tests.differential.data import Pool, integers, texts

__all__ = [
    "bucketed",
    "chained",
    "distinct",
    "faceted",
    "grouped",
    "joined",
    "listed",
    "ordered",
    "totals",
    "united",
    "unwound",
    "windowed",
]


@st.composite
def ordered(draw: Draw, pool: Pool, *, simple: bool = False) -> Select[Any, Any]:
    """Documents or values of Things: where, order_by, offset, limit, distinct."""
    found: Select[Any, Any] = select(Thing.id)
    columns = 0
    if not simple and draw(st.booleans()):
        wanted = draw(
            st.lists(st.one_of(st.sampled_from(TOP), values(pool), conditions(pool, 1)), min_size=1, max_size=3)
        )
        columns = len(wanted)
        found = found.columns(Thing.id, *(node.label(f"c{n}") for n, node in enumerate(wanted)))
    elif draw(st.integers(0, 3)) == 0:
        found = found.columns(Thing.id, *draw(st.lists(st.sampled_from(TOP), max_size=3, unique_by=id)))
    for _ in range(draw(st.integers(0, 2))):
        found = found.where(draw(conditions(pool, simple=simple)))
    return cut(draw, found, [*PATHS, Thing.l] if simple else [*PATHS, Thing.l, *([column_of(found, columns)] * 3)])


def column_of(found: Select[Any, Any], columns: int) -> Any:
    """A computed column, where there is one."""
    return found._entities[columns] if columns else Thing.id


def cut(draw: Draw, found: Select[Any, Any], fields: list[Any], unique: Any = Thing.id) -> Select[Any, Any]:
    """With an order, and with a part of the rows where it is of all."""
    count = draw(st.integers(0, 2))
    chosen = draw(st.lists(st.sampled_from(fields), min_size=count, max_size=count, unique_by=id))
    several = [field for field in chosen if repr(field) in LISTS or is_label(field)]
    chosen = [field for field in chosen if not any(field is one for one in several[1:])]  # the server sorts by one list
    found = found.order_by(*(field.desc() if draw(st.booleans()) else field.asc() for field in chosen))
    if draw(st.booleans()):
        found = found.order_by(unique)
        if draw(st.booleans()):
            found = found.offset(draw(st.integers(0, 4)))
        if draw(st.booleans()):
            found = found.limit(draw(st.integers(1, 6)))
    return found


@st.composite
def distinct(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Each value once."""
    wanted = draw(st.lists(st.sampled_from([Thing.n, Thing.a, Thing.s, Thing.q]), min_size=1, max_size=2, unique_by=id))
    found = select(*wanted).distinct()
    if draw(st.booleans()):
        found = found.where(draw(conditions(pool, 1)))
    if draw(st.booleans()):
        found = found.order_by(*(field.desc() if draw(st.booleans()) else field for field in wanted[:1]))
    return found


def accumulators(draw: Draw) -> Any:
    """A value over the rows of a group."""
    number: Any = draw(st.one_of(st.sampled_from(NUMBERS), arithmetic()))
    whatever: Any = draw(st.sampled_from(TOP))
    name = draw(
        st.sampled_from(
            ["count", "count_of", "sum", "avg", "min", "max", "push", "add_to_set", "first", "last", "std_dev_pop"]
        )
    )
    match name:
        case "count":
            return func.count()
        case "count_of":
            return func.count(whatever)
        case "sum" | "avg":
            return getattr(func, name)(draw(st.sampled_from([number, whatever])))
        case "std_dev_pop":
            return func.std_dev_pop(case((Thing.q.between(-10, 10), Thing.q)))
        case "first" | "last":
            return getattr(func, name)(Thing.id)
        case _:
            return getattr(func, name)(whatever)


@st.composite
def grouped(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Groups with accumulators, conditions on them, an order and a part."""
    of = st.one_of(st.sampled_from([Thing.n, Thing.s, Thing.a, Thing.q, Thing.e.s]), values(pool))
    keys = [
        node.label(f"k{n}") if draw(st.booleans()) or not _selectable(node) else node
        for n, node in enumerate(draw(st.lists(of, min_size=1, max_size=2, unique_by=id)))
    ]
    wanted = [accumulators(draw).label(f"v{n}") for n in range(draw(st.integers(0, 3)))]
    found = select(*keys, *wanted).group_by(*keys)
    if draw(st.booleans()):
        found = found.where(draw(conditions(pool, 1)))
    asked = [*keys, *wanted, func.count(), func.sum(Thing.q)]
    if draw(st.booleans()):
        found = found.having(comparison(draw, draw(st.sampled_from(asked)), pool.scalars))
    orders = draw(st.lists(st.sampled_from(asked), max_size=2, unique_by=id))
    orders = [node for node in orders if not _list_valued(node)]
    return found.order_by(*(node.desc() if draw(st.booleans()) else node.asc() for node in orders))


def _selectable(node: Any) -> bool:
    return any(node is field for field in TOP)


def _list_valued(node: Any) -> bool:
    """Whether the server might sort by two lists at once."""
    return getattr(getattr(node, "expr", None), "operator", None) is not None


@st.composite
def totals(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """One row of accumulators over all rows."""
    wanted = [accumulators(draw).label(f"v{n}") for n in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        wanted.append((func.sum(Thing.q) * 2 + func.count()).label("more"))
    found = select(*wanted).select_from(Thing)
    if draw(st.booleans()):
        found = found.where(draw(conditions(pool, 1)))
    if draw(st.integers(0, 2)) == 0:
        found = found.having(comparison(draw, func.count(), st.integers(0, 2)))
    match draw(st.integers(0, 5)):
        case 0:
            return found.then().where(comparison(draw, wanted[0], pool.scalars))
        case 1:
            return found.then(func.count().label("rows"), func.count(wanted[-1]))
        case 2:
            return found.limit(1).offset(draw(st.integers(0, 1)))
        case _:
            return found


@st.composite
def unwound(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Elements of lists."""
    index = draw(st.sampled_from([None, "at"]))
    found: Select[Any, Any] = select(Thing.id, Thing.l.item(), *([] if index is None else [column(index)]))
    if draw(st.booleans()):
        found = found.where(draw(conditions(pool, 1, simple=True)))
    found = found.unwind(Thing.l, keep_empty=draw(st.booleans()), index=index)
    if draw(st.booleans()):
        found = found.where(comparison(draw, Thing.l.item(), st.one_of(integers, texts)))
    if draw(st.integers(0, 2)) == 0:
        return found.columns(Thing.l.item(), func.count().label("n")).group_by(Thing.l.item())
    return found.order_by(Thing.l.item(), Thing.id.desc()) if draw(st.booleans()) else found


@st.composite
def joined(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Things with Others."""
    on = draw(st.sampled_from([Thing.k == Other.k, Other.k == Thing.k, Thing.q == Other.k, Thing.k == Other.v]))
    more = draw(st.sampled_from([[], [Other.v > 0], [Other.v == Thing.s], [Other.v >= Thing.q]]))
    joined = select(Thing.id, Other) if draw(st.booleans()) else select(Thing.id, Other.id)
    found = joined.join(Other, on, *more, outer=draw(st.booleans()))
    if draw(st.booleans()):
        found = found.where(
            draw(st.one_of(conditions(pool, 1, simple=True), st.just(Other.v.is_(None)), st.just(Other.k > 0)))
        )
    if draw(st.booleans()):
        found = found.order_by(Other.v, Thing.id, Other.id)
    elif draw(st.integers(0, 2)) == 0:
        return found.columns(Other.v, func.count().label("n")).group_by(Other.v)
    return found


@st.composite
def windowed(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Values over the rows around each row."""
    partition = draw(st.sampled_from([(), Thing.s, (Thing.s, Thing.q)]))
    order = [Thing.id.desc() if draw(st.booleans()) else Thing.id]
    documents = draw(
        st.sampled_from([None, ("unbounded", "current"), ("current", "unbounded"), (-1, 1), (-2, 0), (1, 2)])
    )
    call = draw(st.sampled_from([func.sum(Thing.q), func.avg(Thing.q), func.min(Thing.a), func.push(Thing.s)]))
    values = [window(call, partition_by=partition, order_by=order, documents=documents)]
    if draw(st.booleans()):
        ranked = draw(st.sampled_from([func.rank(), func.dense_rank()]))
        values.append(window(ranked, partition_by=partition, order_by=draw(st.sampled_from([Thing.q, Thing.s.desc()]))))
    found = select(Thing.id, *(node.label(f"w{n}") for n, node in enumerate(values)))
    if len(values) > 1:
        found = found.where(Thing.q.exists(), Thing.s.exists())  # whether null and missing rank alike is the version's
    return found.where(draw(conditions(pool, 1))) if draw(st.booleans()) else found


@st.composite
def chained(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """What follows then(): conditions on what was computed, groups of groups, sums of a part."""
    key = draw(st.sampled_from([Thing.s.label("key"), Thing.q.label("key"), case((Thing.q > 0, "some")).label("key")]))
    n, total = func.count().label("n"), func.sum(Thing.q).label("total")
    share = (func.sum(Thing.q) / func.count()).label("share")
    groups = select(key, n, total, share).group_by(key)
    part = (
        select(Thing.id, (Thing.q + 1).label("more")).order_by(Thing.q.desc(), Thing.id).limit(draw(st.integers(1, 9)))
    )
    if draw(st.booleans()):
        groups, part = groups.where(draw(conditions(pool, 1))), part.where(draw(conditions(pool, 1)))
    match draw(st.integers(0, 6)):
        case 0:
            return groups.having(n > 1).then().where(comparison(draw, total, pool.numbers)).order_by(n.desc())
        case 1:
            return groups.then(func.avg(n).label("mean"), func.max(total), func.push(n * 0 + 1), func.min(share))
        case 2:
            return groups.then(n, func.count().label("groups"), func.min(total).label("least")).group_by(n).order_by(n)
        case 3:
            return part.then().where(draw(conditions(pool, 1)))
        case 4:
            return part.then(func.sum(Thing.q).label("sum"), func.count().label("n"), func.last(Thing.id))
        case 5:
            more = part._entities[1]
            return part.then().where(comparison(draw, more, pool.numbers)).order_by(more, Thing.id.desc())
        case _:
            return part.then(Thing.s, func.count().label("n")).group_by(Thing.s).order_by(Thing.s)


@st.composite
def bucketed(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Groups of ranges."""
    limits = sorted(draw(st.sets(st.sampled_from([-3, -1, 0, 0.5, 2, 9]), min_size=2)))
    bucket = func.bucket(draw(st.sampled_from([Thing.q, Thing.n])), boundaries=limits, default="other")
    found = select(bucket, func.count().label("n"), func.sum(Thing.q).label("sum")).group_by(bucket)
    return found.where(draw(conditions(pool, 1))) if draw(st.booleans()) else found


@st.composite
def listed(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Other documents as a list in each row."""
    on = draw(st.sampled_from([Other.k == Thing.k, Thing.q == Other.k, Other.v == Thing.s, Other.v > Thing.q]))
    inner = draw(st.sampled_from([select(Other.id), select(Other.id, Other.v), select(Other)])).where(on)
    if draw(st.booleans()):
        inner = inner.where(comparison(draw, Other.v, pool.scalars))
    if draw(st.integers(0, 3)) == 0:
        inner = select(func.count()).select_from(Other).where(on)
    else:
        inner = inner.order_by(Other.id.desc())
        inner = inner.limit(2) if draw(st.booleans()) else inner
    found = select(Thing.id, inner.as_list().label("others"))
    return found.where(draw(conditions(pool, 1))) if draw(st.booleans()) else found


@st.composite
def united(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """The rows of two statements."""
    one = select(Thing.id, Thing.q).where(draw(conditions(pool, 1)))
    other = draw(st.sampled_from([select(Other.id, Other.v), select(Other.id, func.count()).group_by(Other.id)]))
    found = one.union_all(other.where(comparison(draw, Other.v, pool.scalars)))
    match draw(st.integers(0, 3)):
        case 0:
            return found.where(comparison(draw, Thing.q, pool.numbers))
        case 1:
            return found.order_by(Thing.q.desc(), Thing.id)
        case 2:
            return found.then(func.count().label("n"), func.max(Thing.id).label("most"))
        case _:
            return found


@st.composite
def faceted(draw: Draw, pool: Pool) -> Select[Any, Any]:
    """Several statements over the same rows."""
    facets = {
        "first": select(Thing.id).where(draw(conditions(pool, 1))).order_by(Thing.q, Thing.id.desc()).limit(3),
        "groups": select(Thing.s, func.count().label("n")).group_by(Thing.s).order_by(Thing.s),
        "total": select(func.count().label("n"), func.avg(Thing.q)).select_from(Thing).where(draw(conditions(pool, 1))),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(facets)), min_size=1, unique=True))
    found = select(Thing.id).where(draw(conditions(pool, 1)))
    return found.facet(**{name: facets[name] for name in chosen})
