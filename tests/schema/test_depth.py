"""Which classes have documents that cannot nest deep."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pytest

from superorm import Document, Embedded, Mapped, Registry, vector
from superorm.schema.depth import is_shallow
from superorm.schema.mapping import class_map

registry = Registry()


class Tree(Embedded):
    children: Mapped[list[Tree]]


class Scalars(Document, registry=registry):
    name: Mapped[str | None]
    choice: Mapped[Literal["a", 1]]
    day: Mapped[dt.date]
    price: Mapped[Decimal]


class Containers(Document, registry=registry):
    tags: Mapped[set[str]]
    pairs: Mapped[list[tuple[int, dict[str, float]] | None]]
    pixels: Mapped[np.ndarray]
    embedding: Mapped[np.ndarray | None] = vector(2)


class Trees(Document, registry=registry):
    tree: Mapped[Tree]


class Anything(Document, registry=registry):
    meta: Mapped[dict[str, Any]]


class Pairs(Document, registry=registry):
    pair: Mapped[tuple[int, Any] | None]


@pytest.mark.parametrize("cls", [Scalars, Containers])
def test_shallow(cls: type[Document]) -> None:
    """Types that end somewhere."""
    assert is_shallow(class_map(cls))


@pytest.mark.parametrize("cls", [Trees, Anything, Pairs])
def test_not_shallow(cls: type[Document]) -> None:
    """Types whose values nest as deep as the user likes."""
    assert not is_shallow(class_map(cls))
