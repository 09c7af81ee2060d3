"""Mirrored fields in memory, beside a dictionary of the same values."""

from __future__ import annotations

import operator
import random
import tracemalloc
from typing import Any

import numpy as np

from superorm.schema.vector_spec import FilterField
from superorm.vectors.columns import Columns
from superorm.vectors.condition import Comparison, IsNull, OneOf

SIGNS: dict[Any, Any] = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def test_texts_that_change_often() -> None:
    """What no row has any more is let go of, and each row keeps its own text, whatever is asked of it."""
    draw = random.Random(0)
    rows: dict[int, str | None] = dict.fromkeys(range(40))
    columns = Columns([FilterField("text", "str")])
    columns.reserve(len(rows))
    columns.put(np.arange(len(rows)), {"f0": [None] * len(rows), "odd0": [False] * len(rows)})
    tracemalloc.start()
    for step in range(3_000):
        slots = draw.sample(range(len(rows)), 20)
        new = [None if draw.random() < 0.2 else f"{draw.randrange(10**6):06}" + 50 * "x" for _ in slots]
        columns.put(np.array(slots, np.intp), {"f0": new, "odd0": [False] * len(slots)})
        rows |= zip(slots, new, strict=True)
        if step % 50 == 0:
            assert [(text, False) for text in rows.values()] == [columns.get(slot) for slot in rows]
            given = next(text for text in rows.values() if text is not None)
            for sign, holds in SIGNS.items():
                passing = columns.mask(Comparison(0, sign, given), len(rows)).tolist()
                assert [text is not None and holds(text, given) for text in rows.values()] == passing
            among = columns.mask(OneOf(0, (given, "none has it"), null=True, excluded=True), len(rows)).tolist()
            assert [text != given for text in rows.values()] == among
            nulls = columns.mask(IsNull(0), len(rows)).tolist()
            assert [text is None for text in rows.values()] == nulls
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 200_000  # bytes; 48,000 texts of 105
