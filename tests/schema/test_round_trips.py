"""Values of every supported type through real BSON bytes, and what of it is a change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superorm.schema.mapping import class_map
from tests.schema.helpers import apply, change_of, document_class, exact, load_one, store, through_bson
from tests.schema.values import KINDS

CLASSES = [(document_class(value=annotation), values) for annotation, values in KINDS]
quick = settings(max_examples=30, deadline=None)
one_of_each = pytest.mark.parametrize(("cls", "values"), CLASSES, ids=[str(annotation) for annotation, _ in KINDS])


@one_of_each
@quick
@given(data=st.data())
def test_round_trip(cls: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """What is stored and read again is the same value of the same type."""
    value = data.draw(values)
    assert exact(value, load_one(cls, store(cls(value=deepcopy(value)))).value)


@one_of_each
@quick
@given(data=st.data())
def test_reading_is_no_change(cls: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """An object whose fields were all read has not changed, and neither has one that was just stored."""
    raw = store(cls(value=data.draw(values)))
    loaded = load_one(cls, raw)
    assert exact(loaded.value, loaded.value)
    assert change_of(class_map(cls), loaded) is None


@one_of_each
@quick
@given(data=st.data())
def test_another_value_is_set(cls: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """The update turns the old stored document into one that reads as the new value; equal values are no change."""
    before, after = data.draw(values), data.draw(values)
    loaded = load_one(cls, store(cls(value=before)))
    raw = deepcopy(loaded._superorm_raw)
    loaded.value = after
    change = change_of(class_map(cls), loaded)
    if change is None:
        assert exact(before, after) or before == after  # as 1 and 1.0 are
        return
    assert {"value"} == change.fields
    updated = apply(raw, change.update)
    assert exact(after, load_one(cls, updated).value)
    assert exact(through_bson(change.snapshot), updated)
    assert exact(raw, loaded._superorm_raw)


@one_of_each
@quick
@given(data=st.data())
def test_another_place_is_no_change(cls: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """A value taken from one document and put into another that holds the same is no change."""
    raw = store(cls(value=data.draw(values)))
    one, other = load_one(cls, raw), load_one(cls, raw)
    other.value = deepcopy(one.value)
    assert change_of(class_map(cls), other) is None
