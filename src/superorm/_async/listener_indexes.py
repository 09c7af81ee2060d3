"""What is told of a vector index when it comes."""

from __future__ import annotations

from typing import Any

from superorm.codec.vectors import real_float32
from superorm.compile.plan import Find
from superorm.components.kept import kept
from superorm.components.outputs import OUTPUTS, State, vectors_of
from superorm.components.records import ComponentRecord
from superorm.components.vector_index import VectorIndex
from superorm.protocols._async.parts import AsyncDataBackend

__all__ = ["described"]


async def described(
    backend: AsyncDataBackend, record: ComponentRecord, index: VectorIndex, before: State
) -> dict[str, Any]:
    """What the state of a vector index tells of it; its collection is made. `before` is that of its listener.

    Raises `ConfigurationError` where nothing tells the dimension.
    """
    dim = index.dim or await _dim(backend, index, before)
    collection = vectors_of(record.id)
    await backend.create_collection(collection)
    return {"collection": collection, "dim": dim, "metric": index.metric}


async def _dim(backend: AsyncDataBackend, index: VectorIndex, before: State) -> int:
    """That of the first output. Raises `ConfigurationError` where there is none, or that is no vector."""
    everything = kept(before).everything((await backend.capabilities()).backend)
    some = Find(OUTPUTS, {"$and": [everything, {"output": {"$ne": None}}]}, limit=1)
    found = await backend.read(some)
    if not found:
        index.refuse(f"the {index.named_listener} has no outputs yet, which would tell the dimension; give dim=")
    (source,) = index.listened.sources(found)
    vector = real_float32(source.value)
    if vector is None or vector.ndim != 1 or not len(vector):
        what = f"a {type(source.value).__name__}" if vector is None else f"of shape {vector.shape}"
        name = index.listened.mapping.name
        index.refuse(f"it indexes vectors, and the output for {name} {source.key!r} is {what}")
    return len(vector)
