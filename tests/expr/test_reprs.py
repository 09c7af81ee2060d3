"""Values in messages."""

from __future__ import annotations

from typing import Any

import pytest

from superorm import Select, func, select
from superorm.exc import StatementError
from superorm.expr.reprs import short_repr, typed_repr
from superorm.schema.types.base import Misfit


class Mute:
    """A value that has no repr."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def deep() -> Any:
    """A list nested deeper than Python can print."""
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


def test_long_ones_are_cut() -> None:
    """What is left out is told by dots, and all of it is no longer than asked for."""
    assert repr("a" * 78) == short_repr("a" * 78)
    assert f"'{'a' * 76}..." == short_repr("a" * 79)
    assert "[0, 1..." == short_repr([0, 1, 2, 3], 8)


def test_failing_ones() -> None:
    """A value whose repr fails is told by its class, wherever it stands."""
    assert "<Mute, whose repr fails with RuntimeError>" == short_repr(Mute())
    assert "list <list, whose repr fails with RecursionError>" == typed_repr(deep())
    assert "expected int, got list <list, whose repr fails with RecursionError>" == Misfit(deep(), "int").describe()


@pytest.mark.parametrize("where", ["format", "class"])
def test_stored_statements_of_deep_data(where: str) -> None:
    """Data that cannot be printed is refused as other data is."""
    data: dict[str, Any] = select(func.count()).to_dict()
    if where == "format":
        data["format"] = deep()
    else:
        data["nodes"][-1]["root"] = {"class": deep()}
    with pytest.raises(StatementError, match="<list, whose repr fails with RecursionError>"):
        Select.from_dict(data)
