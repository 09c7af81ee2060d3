"""What a commit inserts, written to the tables of a vector engine beside the commit, and published after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager

from attrs import define, field
from bson import ObjectId

from superorm._io import aio
from superorm.codec.keys import encode_key
from superorm.schema.vector_spec import FilterField, VectorSpec
from superorm.vectors.handing import Handed
from superorm.vectors.mirror import TableRows, table_rows
from superorm.vectors.records import State

__all__ = ["AsyncAhead", "Step", "ahead_of", "beside"]

FROM = 1_000
"""So many documents take longer to be written to a table than a commit waits for the state to be read."""
LOOK = 0.05
"""Seconds that a commit waits for that."""


@define
class Step:
    """What an applier read, and is about to write and publish."""

    state: State
    ids: Sequence[ObjectId]
    touched: Sequence[str]
    rows: TableRows
    """Of those touched whose documents have a vector."""
    more: bool = False
    """Whether there were more records than one publication takes."""


@define(eq=False)
class AsyncAhead:
    """A commit that inserts documents with vectors, as those who commit and the applier share it."""

    spec: VectorSpec
    handed: Handed
    looked: aio.Event = field(factory=aio.Event)
    """The applier has read the state, or given up."""
    begun: bool = False
    """The commit may have been sent: a state that is read from now on is none of before it."""
    ended: aio.Event = field(factory=aio.Event)
    committed: bool = False

    async def begin(self) -> None:
        """Right before the commit: wait for the state to be read, but not for long."""
        await self.looked.wait(LOOK)
        self.begun = True

    def shows(self, fields: Iterable[FilterField]) -> bool:
        """Whether what was handed over has these fields."""
        return {field.path.partition(".")[0] for field in fields} <= self.handed.names

    def step(self, state: State) -> Step:
        """What is to be written to the table of a state, and which records that includes."""
        documents = self.handed.documents
        rows = table_rows(self.spec, documents, state.filters)
        some = len(rows.keys) < len(documents)
        touched = [encode_key(document["_id"]) for document in documents] if some else rows.keys
        return Step(state, [*self.handed.records], touched, rows)


@asynccontextmanager
async def beside(ahead: AsyncAhead | None) -> AsyncGenerator[None]:
    """Around the commit: what is written ahead is published once that has succeeded."""
    if ahead is None:
        yield
        return
    try:
        await ahead.begin()
        yield
        ahead.committed = True
    finally:
        ahead.ended.set()


def ahead_of(handed: Iterable[tuple[VectorSpec, Handed]]) -> AsyncAhead | None:
    """That of the first index of which one flush inserted much, and nothing else: the applier writes one beside it."""
    of_spec: dict[VectorSpec, list[Handed]] = {}
    for spec, one in handed:
        of_spec.setdefault(spec, []).append(one)
    for spec, ones in of_spec.items():
        if len(ones) == 1 and ones[0].complete and len(ones[0].documents) >= FROM:
            return AsyncAhead(spec, ones[0])
    return None
