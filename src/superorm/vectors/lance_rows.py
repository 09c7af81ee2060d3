"""Rows as LanceDB takes them: keys, vectors and mirrored fields as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from superorm.codec.vectors import Matrix
from superorm.schema.vector_spec import FilterField, FilterKind
from superorm.vectors.mirror import Columns, odd, value

__all__ = ["arrow_library", "merge", "record_batches", "rows_table", "schema"]

_TYPES: dict[FilterKind, str] = {
    "bool": "bool_",
    "int": "int64",
    "float": "float64",
    "str": "string",
    "datetime": "int64",
    "ObjectId": "string",
}
"""Arrow's types of what `superorm.vectors.mirror.fit` gives."""


def schema(dim: int, fields: Sequence[FilterField]) -> Any:
    """The Arrow schema of tables of vectors (dim,) and mirrored fields."""
    pa = arrow_library()
    columns = [pa.field("key", pa.string(), False), pa.field("vector", pa.list_(pa.float32(), dim), False)]
    for number, field in enumerate(fields):
        columns.append(pa.field(value(number), getattr(pa, _TYPES[field.kind])()))
        # what writes without knowing of the column is refused, as it would leave the other one out of date
        columns.append(pa.field(odd(number), pa.bool_(), False))
    return pa.schema(columns)


def rows_table(like: Any, keys: Sequence[str], rows: Matrix, columns: Columns) -> Any:
    """An Arrow table of this schema, of rows (n, dim) under `keys`."""
    pa = arrow_library()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])
    given = {"key": pa.array(keys, pa.string()), "vector": vectors}
    given |= {name: pa.array(values, like.field(name).type) for name, values in columns.items()}
    return pa.Table.from_arrays([given[name] for name in like.names], schema=like)


def merge(handle: Any, gone: Sequence[str], keys: Sequence[str], rows: Matrix, columns: Columns) -> None:
    """Remove the keys that are gone, and insert or replace rows (n, dim) under `keys`, in one commit."""
    change = handle.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
    if gone:
        ids = ", ".join(f"'{key}'" for key in gone)
        change = change.when_not_matched_by_source_delete(f"key IN ({ids})")
    change.execute(rows_table(handle.schema, keys, rows, columns))


def record_batches(like: Any, batches: Iterable[Any]) -> Any:
    """A reader of batches of this schema."""
    return arrow_library().RecordBatchReader.from_batches(like, batches)


def arrow_library() -> Any:
    """PyArrow, which is only partly typed."""
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]

    return pyarrow
