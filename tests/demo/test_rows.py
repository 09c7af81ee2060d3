"""Reading raw rows: where something is missing or wrong, the error says what and where."""

from __future__ import annotations

import pytest
from rows import ROWS, BadRowError, Row, read_rows


def test_all_rows_with_keys_of_their_own() -> None:
    """There are 4,819 rows, the keys differ where the ids repeat, and they are the same each time."""
    rows = list(read_rows())
    assert ROWS == len(rows) == len({row.key for row in rows})
    assert 4624 == len({row["id"] for row in rows})
    assert [row.key for row in rows] == [row.key for row in read_rows()]


def test_paths() -> None:
    """A path reaches into objects; keys with dots in them are keys; a list's objects know where they stand."""
    row = Row("dinner/7", {"recipe": {"en": "Boil."}, "recipe.en": "Fry.", "list": {"en": [{"name": "Salt"}, {}]}})
    assert "Boil." == row["recipe/en"]
    assert "Fry." == row["recipe.en"]
    assert row.get("tips/en") is None
    assert row.objects("recipe/list") is None
    salt, empty = row.objects("list/en") or []
    assert "Salt" == salt["name"]
    with pytest.raises(BadRowError, match=r"Recipe 'dinner/7': the field list/en/1/name is missing"):
        empty["name"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("name/en", "Recipe 'dinner/7': the field name/en is missing"),
        ("steps/en", "Recipe 'dinner/7': the field steps/en is not reachable: an object was expected above it"),
    ],
)
def test_a_missing_field_is_named(path: str, message: str) -> None:
    """A missing or misshapen field raises an error with the class, the key and the path."""
    with pytest.raises(BadRowError) as caught:
        Row("dinner/7", {"name": {"ru": "Суп"}, "steps": "Boil."})[path]
    assert message == str(caught.value)


@pytest.mark.parametrize("value", ["Salt", ["Salt"], {"name": "Salt"}])
def test_a_list_of_objects_is_one(value: object) -> None:
    """What should be a list of objects and is not raises an error."""
    with pytest.raises(BadRowError, match="ingredients is not a list of objects"):
        Row("dinner/7", {"ingredients": value}).objects("ingredients")
