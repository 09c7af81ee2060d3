"""What a data backend can do, as data."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Capabilities"]


@frozen
class Capabilities:
    """What a backend, or a DB of four parts, can do."""

    backend: str
    """The name used in errors: ``mongodb``, ``mongomock``."""
    transactions: bool
    """Multi-document transactions and snapshot reads (a replica set or a sharded cluster)."""
    change_streams: bool = False
    shared_metadata_transaction: bool = True
    """Whether metadata takes part in the documents' transaction: False where it lives on another cluster."""
    search_index_lag: float | None = None
    """Seconds after which the server's own search indexes are taken to have what was committed, where they are used.

    A search ranks what is newer by the documents; None where no such index is used.
    """
    one_event_loop: bool = False
    """Whether its asynchronous connections work only in the event loop that they were first used in."""
    unsupported_stages: frozenset[str] = frozenset()
    """Aggregation stages that the backend cannot run."""
    unsupported_operators: frozenset[str] = frozenset()
    """Operators of expressions and conditions that the backend cannot run, or runs wrongly."""
