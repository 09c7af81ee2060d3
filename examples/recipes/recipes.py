"""The recipes as documents."""

from __future__ import annotations

from typing import Literal

import numpy as np
from rows import Row

from superorm import Document, Embedded, Mapped, field, vector

__all__ = ["Duration", "Ingredient", "Nutrition", "Recipe", "to_recipe"]


class Nutrition(Embedded):
    """Kilocalories, and grams of the rest."""

    calories: Mapped[float]
    protein: Mapped[float]
    fat: Mapped[float]
    carbs: Mapped[float]


class Ingredient(Embedded):
    name: Mapped[str]
    amount: Mapped[float]
    unit: Mapped[str]
    nutrition: Mapped[Nutrition | None] = field(default=None)


class Duration(Embedded):
    value: Mapped[int]
    unit: Mapped[Literal["min"]]


class Recipe(Document):
    id: Mapped[str] = field(primary_key=True)
    row_id: Mapped[str] = field(index=True)  # the data's own id, which repeats
    meal: Mapped[Literal["breakfast", "lunch", "dinner", "snack"]] = field(index=True)
    name: Mapped[str]
    steps: Mapped[str]
    tips: Mapped[str | None] = field(default=None)
    ingredients: Mapped[list[Ingredient] | None] = field(default=None)
    allergens: Mapped[list[str]]
    prep_time: Mapped[Duration]
    nutrition: Mapped[Nutrition]
    total_nutrition: Mapped[Nutrition | None] = field(default=None)
    grams: Mapped[int]
    healthy: Mapped[bool]
    # some rows hold a second version of a text or list, in another place
    more_steps: Mapped[str | None] = field(default=None)
    more_tips: Mapped[str | None] = field(default=None)
    more_ingredients: Mapped[list[Ingredient] | None] = field(default=None)
    text: Mapped[str]  # name and ingredients: what is searched
    embedding: Mapped[np.ndarray | None] = vector(384, metric="cosine", source="text", model="minilm")


def to_recipe(row: Row) -> Recipe:
    """The English part of a row. Raises `BadRowError` where a required field is missing."""
    ingredients = _ingredients(row, "ingredients_details/en")
    text = row["name/en"]
    if ingredients:
        text = f"{text}: {', '.join(str(ingredient.name) for ingredient in ingredients)}"
    return Recipe(
        id=row.key,
        row_id=row["id"],
        meal=row["meal"],
        name=row["name/en"],
        steps=row["recipe/en"],
        tips=row.get("tips/en"),
        ingredients=ingredients,
        allergens=row["allergens/en"],
        prep_time=Duration(value=row["prep_time/en/value"], unit=row["prep_time/en/unit"]),
        nutrition=_nutrition(row),
        total_nutrition=_nutrition(row, "_total") if "calories_total" in row.data else None,
        grams=row["total_g"],
        healthy=row["is_pp"],
        more_steps=row.get("recipe.en"),
        more_tips=row.get("recipe/tips/en"),
        more_ingredients=_ingredients(row, "recipe/ingredients_details/en"),
        text=text,
    )


def _ingredients(row: Row, path: str) -> list[Ingredient] | None:
    items = row.objects(path)
    if items is None:
        return None
    return [
        Ingredient(
            name=item["name"],
            amount=item["amount"],
            unit=item["unit"],
            nutrition=_nutrition(item) if "calories" in item.data else None,
        )
        for item in items
    ]


def _nutrition(row: Row, suffix: str = "") -> Nutrition:
    return Nutrition(**{key: row[key + suffix] for key in ("calories", "protein", "fat", "carbs")})
