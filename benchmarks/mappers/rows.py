"""What is compared, and what superorm may take at most."""

from __future__ import annotations

from attrs import frozen

__all__ = ["ASYNC_MORE", "LOADED_MOST", "ROWS", "Row"]

ASYNC_MORE = 0.15
"""What an asynchronous session may take more, as a ratio to the same work on PyMongo's asynchronous client."""
LOADED_MOST = 1.5
"""The memory that a session's objects may take, as a ratio to a list of dicts."""


@frozen
class Row:
    """A line of the table."""

    title: str
    task: str
    most: float | None = None
    """superorm's CPU time at most, as a ratio to raw PyMongo's."""
    faster: float | None = None
    """How many times faster than each peer superorm has to be."""
    documents: str = "flat"
    """What the collections hold before each run: `flat` or `nested` documents, or `nothing`."""
    share: int = 1
    """It works on n / share documents."""


ROWS = (
    Row("load all flat, tracked", "load_flat", most=1.35, faster=2.5),
    Row("stream all flat, untracked", "stream_flat", most=1.2, faster=2.5),
    Row("flush flat, unchanged", "flush_flat", most=0.4),
    Row("load all nested, tracked, parts not read", "load_nested", most=1.2, faster=1, documents="nested"),
    Row("load all nested, tracked, all parts read", "read_nested", most=2.5, documents="nested"),
    Row("flush nested, all parts read, unchanged", "flush_nested", most=0.9, documents="nested"),
    Row("load, change one field of each, commit", "modify", most=1.25, faster=4, share=5),
    Row("insert flat objects by bulk_insert", "insert", most=1.15, faster=2.5, documents="nothing"),
    Row("insert flat objects by insert().values()", "insert_values", most=1.15, documents="nothing"),
    Row("insert flat objects by add_all, tracked", "add_all", documents="nothing"),
)
