"""Rows as they are held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from superorm.schema.vector_spec import Metric
from superorm.vectors.mirror import TableRows
from superorm.vectors.scores import longest, prepare


def as_rows(metric: Metric, keys: Sequence[str], rows: Any) -> TableRows:
    """Rows (n, dim) under canonical keys, prepared."""
    prepared, usable = prepare(np.asarray(rows, np.float32), metric)
    kept = [key for key, use in zip(keys, usable, strict=True) if use]
    return TableRows(kept, prepared[usable], {}, longest(prepared[usable]))
