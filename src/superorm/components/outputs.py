"""The outputs of listeners as they are stored.

The collection `OUTPUTS` beside the documents holds one for each document::

    {_id: {listener: <name>, version, key: <the document's _id>}, source: <hash>, output, form}

`source` is the hash of what the model was given, and `form` says what the output was where that is a numpy array.
Each listener has a *state* among the records of vector indexes, in `COLLECTION`::

    {_id: "listener ...", kind: "listener", i: <its _id>, name, version, collection, path, fields,
     n, filled, settled, since, chained, index}

`n` counts publications: who publishes outputs increases it, and starts again where somebody else did meanwhile.
`filled` says that there are outputs for all documents, `settled` that these were compared with the documents again
once every program knew of the listener, and what those who died beside its first outputs were writing had come;
`chained` are the ``_id`` of the states of listeners to its outputs.
A vector index has one too, with its `index`, ``{collection, dim, metric}``: it keeps the outputs of a listener
in that collection of its own, ``{_id: <the document's _id>, source, v: <vector>}``, which is indexed as documents are.
What is to be computed anew is recorded as for vector indexes,
``{_id: ObjectId, kind: "record", i, keys}``, in the transaction that changes the documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from bson import Binary, MaxKey, MinKey

from superorm.compile.output_lookups import OUTPUTS
from superorm.components.base import Named
from superorm.exc import PredictionError
from superorm.expr.narrow import is_list
from superorm.schema.listened import ListenerPath
from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.base import Misfit
from superorm.schema.types.containers import AnyType
from superorm.schema.vector_binary import NATIVE, encode_vector
from superorm.schema.vector_spec import VectorSpec

__all__ = [
    "OUTPUTS",
    "VECTOR",
    "State",
    "all_outputs",
    "among",
    "is_vectors",
    "output_id",
    "state_id",
    "stored_output",
    "vectors_of",
]

VECTOR = "v"
"""Where the vectors stand in the documents of a vector index."""

_ANY, _ARRAY = AnyType(), ArrayType()
_FLAT = frozenset({float, bool, str})
_SHALLOW = frozenset({float, bool, str, int, bytes, Binary, type(None)})


@frozen
class State:
    """How far a listener is."""

    path: ListenerPath
    named: Named
    n: int
    filled: bool
    settled: bool
    chained: tuple[str, ...] = ()
    """The listeners to its outputs."""
    spec: VectorSpec | None = None
    """Of a vector index."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> State:
        path = ListenerPath(document["collection"], document["path"], document["_id"], tuple(document["fields"]))
        named = Named(document.get("component", "listener"), document["name"], document["version"])
        chained, index = tuple(document.get("chained", ())), document.get("index")
        spec = None
        if index is not None:
            spec = VectorSpec(index["collection"], VECTOR, index["dim"], index["metric"], label=str(named))
        return cls(path, named, document["n"], document["filled"], document["settled"], chained, spec)


def vectors_of(record: Any) -> str:
    """The collection of a vector index, by the ``_id`` of its component's record."""
    return f"{OUTPUTS}.{record}"


def is_vectors(collection: str) -> bool:
    """Whether a collection is one of `vectors_of`."""
    return collection.startswith(f"{OUTPUTS}.")


def state_id(record: Any) -> str:
    """The ``_id`` of a listener's state, by that of its component's record."""
    return f"listener {record}"


def output_id(named: Named, key: Any) -> dict[str, Any]:
    """The ``_id`` of an output."""
    return {"listener": named.name, "version": named.version, "key": key}


def all_outputs(named: Named, backend: str) -> dict[str, Any]:
    """A filter for all outputs of a listener: a range of the ``_id`` index, which mongomock cannot compare."""
    if backend == "mongomock":
        return {"_id.listener": named.name, "_id.version": named.version}
    return {"_id": {"$gte": output_id(named, MinKey()), "$lte": output_id(named, MaxKey())}}


def stored_output(named: Named, key: Any, output: Any) -> tuple[dict[str, Any], bool]:
    """What is stored of an output, and whether it is known to nest no deeper than a list.

    Raises `PredictionError` for what BSON cannot hold.
    """
    if is_list(output) and _FLAT.issuperset(map(type, output)):  # as below, but quicker
        return {"output": output}, True
    try:
        if hasattr(output, "__array__") and not isinstance(output, np.generic):
            array: np.ndarray[Any, Any] = np.asarray(output)
            if array.dtype is NATIVE and array.ndim == 1:
                return {"output": encode_vector(array), "form": "vector"}, True
            return {"output": _ARRAY.to_bson(array), "form": "array"}, True
        stored = _ANY.to_bson(output)
        return {"output": stored}, type(stored) in _SHALLOW
    except Misfit as misfit:
        where = f" at {'.'.join(misfit.path)}" if misfit.path else ""
        raise PredictionError(
            f"the {named} cannot store what its model gave for {key!r}{where}: {misfit.describe()}",
            component=named.name,
        ) from misfit
    except (TypeError, ValueError, RuntimeError) as error:  # the last by torch, of a tensor with a gradient
        raise PredictionError(
            f"the {named} cannot store what its model gave for {key!r}: {error}", component=named.name
        ) from error


def among(named: Named, keys: Sequence[Any]) -> dict[str, Any]:
    """A filter for the outputs of these keys."""
    return {"_id": {"$in": [output_id(named, key) for key in keys]}}
