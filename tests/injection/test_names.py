"""Where a name or a number is taken, nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from superorm import (
    ComponentNotFoundError,
    Session,
    StatementError,
    SuperormError,
    aliased,
    case,
    column,
    connect,
    func,
    graph_lookup,
    insert,
    select,
    update,
    window,
)
from superorm.expr.sources import Alias
from tests.injection.values import NAMES, NUMBERS, Part, Thing

T: Any = Thing
NAME_PLACES: dict[str, Callable[[Any], Any]] = {
    "label": lambda name: T.n.label(name),
    "label of a call": lambda name: (T.n + 1).label(name),
    "column": lambda name: column(name),
    "unwind index": lambda name: select(T).unwind(T.values, index=name),
    "depth_field": lambda name: graph_lookup(
        T, start_with=T.id, connect_from=T.value, connect_to=T.id, depth_field=name
    ),
    "aliased": lambda name: aliased(T, name),
    "facet": lambda name: select(T).facet(**{name: select(T)}),
    "func.object": lambda name: func.object(**{name: T.n}),
    "insert values": lambda name: insert(T).values(**{name: 1}),
    "insert dict": lambda name: insert(T).values({name: 1}),
    "update values": lambda name: update(T).values(**{name: 1}),
    "value of a dict": lambda name: T.meta[name],
    "func": lambda name: getattr(func, name)(T.n),
    "func argument": lambda name: func.date_trunc(T.value, "day", **{name: 1}),
    "date unit": lambda name: func.date_trunc(T.value, name),
    "window unit": lambda name: window(func.sum(T.n), order_by=T.value, range=(0, 1), unit=name),
    "granularity": lambda name: func.bucket_auto(T.n, buckets=2, granularity=name),
    "meta": lambda name: func.meta(name),
    "merge on": lambda name: select(T).merge_into("other", on=no_path(name)),
    "merge on several": lambda name: select(T).merge_into("other", on=["n", no_path(name)]),
    "merge when_matched": lambda name: select(T).merge_into("other", when_matched=name),
    "merge when_not_matched": lambda name: select(T).merge_into("other", when_not_matched=name),
    "sort_array key": lambda name: func.sort_array(T.values, {name: 1}),
    "an attribute": lambda name: getattr(T, name),
    "a part": lambda name: getattr(T.parts, name),
}


def no_path(name: Any) -> Any:
    """The name; a dotted path, and a list of names, are names here."""
    if ascii(name) in ("'a.b'", "['x']"):
        raise StatementError("not tried")
    return name


@pytest.mark.parametrize("place", NAME_PLACES)
def test_no_names(place: str) -> None:
    """What is no name is refused before anything is sent."""
    for name in NAMES:
        refused(place, NAME_PLACES[place], name)


def shown(value: object) -> str:
    """The value for the name of a test, which is the same in each process."""
    return re.sub(" at 0x[0-9a-f]+", "", ascii(value))


@pytest.mark.parametrize("target", [name for name in NAMES if ascii(name) != "'a.b'" and name is not Thing], ids=shown)
def test_no_collections(target: Any) -> None:
    """A collection is a document class or a plain name; these may have dots."""
    with pytest.raises((SuperormError, TypeError)):
        select(T).merge_into(target)


NUMBER_PLACES: dict[str, Callable[[Any], Any]] = {
    "limit": lambda number: select(T).limit(number),
    "offset": lambda number: select(T).offset(number),
    "sample": lambda number: select(T).sample(number),
    "k": lambda number: select(T).like([1, 0], k=number),
    "num_candidates": lambda number: select(T).like([1, 0], num_candidates=number),
    "window bound": lambda number: window(func.sum(T.n), order_by=T.n, documents=(number, 0)),
    "window bounds": lambda number: window(func.sum(T.n), order_by=T.n, documents=number),
    "max_depth": lambda number: graph_lookup(
        T, start_with=T.id, connect_from=T.value, connect_to=T.id, max_depth=number
    ),
    "buckets": lambda number: func.bucket_auto(T.n, buckets=number),
    "push position": lambda number: T.values.push(1, position=number),
    "sort_array": lambda number: func.sort_array(T.values, number),
    "sort_array way": lambda number: func.sort_array(T.values, {"a": number}),
    "arithmetic": lambda number: select(T).where(T.n + number > 0).pipeline() if no_number(number) else refuse(),
    "inc": lambda number: T.n.inc(number),
    "version": lambda number: T.n.to(number),
}


def no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float)) or value in (2**63,)


def refuse() -> None:
    raise SuperormError("numbers are numbers here")


@pytest.mark.parametrize("place", NUMBER_PLACES)
def test_no_numbers(place: str) -> None:
    """What is no number, or no whole one that the server counts by, is refused."""
    for number in NUMBERS:
        if place not in ("inc", "version", "window bound") or ascii(number) != str(-(2**63)):  # a number of 64 bits
            refused(place, NUMBER_PLACES[place], number)


FLAG_VALUES = [{"$ne": None}, "$n", "true", 1, [True], None]
CONDITION_PLACES: dict[str, Callable[[Any], Any]] = {
    "where": lambda value: select(T).where(value),
    "having": lambda value: select(T).having(value),
    "join": lambda value: select(T).join(aliased(T, "other"), value),
    "any_": lambda value: T.parts.any_(value),
    "case": lambda value: case((value, 1)),
    "case pair": lambda value: case(value),
    "and": lambda value: (T.n > 1) & value,
    "or": lambda value: (T.n > 1) | value,
    "cond": lambda value: func.cond(value, 1, 2),
    "filter": lambda value: func.filter(T.values, lambda item: value),
    "graph_lookup": lambda value: graph_lookup(T, start_with=T.id, connect_from=T.value, connect_to=T.id, where=value),
    "order_by": lambda value: select(T).order_by(value),
    "group_by": lambda value: select(T).group_by(value),
    "columns": lambda value: select(T).columns(value),
    "select": lambda value: select(value),
    "then": lambda value: select(T).then(value),
    "returning": lambda value: update(T).all().returning(value),
    "set": lambda value: update(T).all().set(value),
    "options": lambda value: select(T).options(value),
    "unwind": lambda value: select(T).unwind(value),
    "union_all": lambda value: select(T).union_all(value),
    "partition_by": lambda value: window(func.sum(T.n), partition_by=value),
    "join target": lambda value: select(T).join(value, T.n == 1),
    "select_from": lambda value: select(T).select_from(value),
    "insert": lambda value: insert(value),
    "update": lambda value: update(value),
    "upsert": lambda value: insert(T).upsert(value),
    "connect_from": lambda value: graph_lookup(T, start_with=T.id, connect_from=value, connect_to=T.id),
    "graph target": lambda value: graph_lookup(value, start_with=T.id, connect_from=T.n, connect_to=T.id),
    "aliased": lambda value: aliased(value, "x"),
    "bucket": lambda value: func.bucket(value, boundaries=[1, 2]),
    "stage": lambda value: select(T).stage(value),
    "raw values": lambda value: insert(T).values(value),
}
NOTHING: list[Any] = ["$n", "n", {"n": 1}, 5, True, b"x", ["$n"], object(), Part, lambda: 1, {"$where": "1", "n": 1}]


@pytest.mark.parametrize("place", CONDITION_PLACES)
def test_no_expressions(place: str) -> None:
    """Where a condition, field, class or statement is needed, no text, dict or number stands for one."""
    for value in NOTHING:
        if place != "raw values" or value != {"n": 1}:  # a row
            refused(place, CONDITION_PLACES[place], value)


def test_a_text_of_like_is_the_name_of_an_index() -> None:
    """Whatever it is, it is looked up as it is; nothing but a text or a field stands there."""
    for value in NOTHING:
        if not isinstance(value, str):
            refused("like on", lambda value: select(T).like([1, 0], on=value), value)
    with connect("mongomock://names", signing_key="key") as db, Session(db) as session:
        for name in ("$n", "n", "$$ROOT", "a.b", '{"$ne": null}'):
            with pytest.raises(ComponentNotFoundError, match=re.escape(name)):
                session.scalars(select(T).like([1, 0], on=name))


def refused(place: str, take: Callable[[Any], Any], value: Any) -> None:
    try:
        given = take(value)
    except (SuperormError, TypeError, AttributeError):
        return
    pytest.fail(f"{place} took {value!a} and gave {given!a}")


def test_alias_is_no_class() -> None:
    """The name of an alias never stands in the pipeline as it is written."""
    other: Any = aliased(T, "other")
    assert isinstance(other, Alias)
    pipeline = select(T).join(other, other.n == T.n).pipeline()
    assert "__other" == pipeline[0]["$lookup"]["as"]
