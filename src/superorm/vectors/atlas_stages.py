"""MongoDB's own vector search in its own words: search indexes, ``$vectorSearch``, and the ``$similarity`` expressions.

Each form is from MongoDB's manual: "How to Index Fields for Vector Search", "Run Vector Search Queries",
and ``$similarityCosine``, ``$similarityDotProduct`` and ``$similarityEuclidean`` (new in version 8.3).
Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from superorm.codec.vectors import Vector, encode_vector
from superorm.exc import UnsupportedError
from superorm.schema.vector_spec import IndexSpec, Metric, VectorSpec

__all__ = [
    "MOST",
    "candidates_of",
    "declared_filters",
    "definition",
    "differences",
    "filter_paths",
    "index_name",
    "misfit",
    "search_stages",
    "similarity_stages",
]

MOST = 10_000
"""``numCandidates`` is no larger, and ``limit`` is no larger than that."""
_DIMENSIONS = 8192
_PER_RESULT = 20
"""So many candidates for each result are advised."""
_SIMILARITY: Mapping[Metric, str] = {"cosine": "cosine", "dot": "dotProduct", "euclidean": "euclidean"}
_EXPRESSION: Mapping[Metric, str] = {
    "cosine": "$similarityCosine",
    "dot": "$similarityDotProduct",
    "euclidean": "$similarityEuclidean",
}
_HNSW = {"m": "maxEdges", "ef_construction": "numEdgeCandidates"}


def index_name(spec: VectorSpec) -> str:
    """The search index's name, unique in its collection."""
    return f"superorm_{spec.path.replace('.', '__')}"


def definition(spec: VectorSpec) -> dict[str, Any]:
    """The ``definition`` of the search index: the vectors, the fields to filter by, and the key that names the class.

    Raises ``UnsupportedError`` for kinds of index, and dimensions, that MongoDB's search has not.
    """
    if spec.dim > _DIMENSIONS:
        raise UnsupportedError(f"{spec.name}: MongoDB's search takes vectors of at most {_DIMENSIONS} numbers")
    vector = {"type": "vector", "path": spec.path, "numDimensions": spec.dim, "similarity": _SIMILARITY[spec.metric]}
    filters = [{"type": "filter", "path": path} for path in declared_filters(spec)]
    return {"fields": [{**vector, **_options(spec, spec.index)}, *filters]}


def declared_filters(spec: VectorSpec, *, texts: bool = True) -> list[str]:
    """The paths to filter by that the class declares: those whose changes are recorded, or that never change.

    Without those of `texts`, where the server compares these otherwise than a search index does.
    """
    paths = [field.path for field in spec.filter_fields if texts or field.kind != "str"]
    if texts and spec.discriminator is not None:
        paths.append(spec.discriminator)
    return list(dict.fromkeys(paths))


def _options(spec: VectorSpec, index: IndexSpec | None) -> dict[str, Any]:
    if index is None:
        return {}
    if index.kind == "flat":
        return {"indexingMethod": "flat"}
    lacking = index.parameters.keys() - _HNSW.keys()
    if index.kind not in ("hnsw_flat", "hnsw_sq") or lacking:
        what = f"parameter {min(lacking)!r}" if lacking else f"index {index.kind!r}"
        raise UnsupportedError(
            f"{spec.name}: MongoDB's search has no {what}; it has index='flat', and 'hnsw_flat' and 'hnsw_sq' "
            "with m (16 to 64) and ef_construction (100 to 3200)"
        )
    options: dict[str, Any] = {} if index.kind == "hnsw_flat" else {"quantization": "scalar"}
    if index.parameters:
        options["hnswOptions"] = {_HNSW[name]: value for name, value in index.parameters.items()}
    return options


def filter_paths(described: Mapping[str, Any]) -> frozenset[str]:
    """The paths that a search index, as the server describes it, can be filtered by."""
    return frozenset(field["path"] for field in _fields(described) if field.get("type") == "filter")


def misfit(spec: VectorSpec, described: Mapping[str, Any]) -> str | None:
    """Why a search index, as the server describes it, does not hold these vectors; None where it does."""
    where = f"the search index {described.get('name')!r} of {spec.collection}"
    if described.get("type") != "vectorSearch":
        return f"{where} is of the type {described.get('type')!r}, not 'vectorSearch'"
    wanted = definition(spec)["fields"][0]
    held = next(
        (one for one in _fields(described) if (one.get("type"), one.get("path")) == ("vector", spec.path)), None
    )
    if held is None:
        return f"{where} holds no vectors of {spec.path!r}"
    for name in ("numDimensions", "similarity"):
        if held.get(name) != wanted[name]:
            return f"{where} has {name} {held.get(name)!r}, the class declares {wanted[name]!r}"
    return None


def differences(spec: VectorSpec, described: Mapping[str, Any]) -> list[str]:
    """What of a search index is not as the class declares it, one sentence each."""
    why = misfit(spec, described)
    if why is not None:
        return [why]
    where = f"the search index {described['name']!r} of {spec.collection}"
    wanted, *filters = definition(spec)["fields"]
    held = next(one for one in _fields(described) if one.get("path") == spec.path)
    found = [
        f"{where} has {name} {held.get(name)!r}, the class declares {wanted[name]!r}"
        for name in ("indexingMethod", "quantization", "hnswOptions")
        if name in wanted and held.get(name) != wanted[name]
    ]
    lacking = [field["path"] for field in filters if field["path"] not in filter_paths(described)]
    return found + [f"{where} has no filter field {path!r}" for path in lacking]


def _fields(described: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    latest: Mapping[str, Any] = described.get("latestDefinition") or {}
    return latest.get("fields") or ()


def candidates_of(limit: int, given: int | None) -> int:
    """``numCandidates`` for so many results: those that were asked for, or else as the manual advises."""
    return max(limit, min(_PER_RESULT * limit if given is None else given, MOST))


def search_stages(
    spec: VectorSpec,
    query: Vector,
    limit: int,
    num_candidates: int | None = None,
    filter: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The pipeline that gives the ``_id`` and the vector of the `limit` nearest that the search index finds.

    Under dot the query is sent in unit length, as the manual demands it; that changes no order.
    """
    if spec.metric == "dot" and query.any():
        wide = query.astype(np.float64)
        query = (wide / np.sqrt((wide * wide).sum())).astype(np.float32)
    stage: dict[str, Any] = {
        "index": index_name(spec),
        "path": spec.path,
        "queryVector": encode_vector(query),
        "numCandidates": candidates_of(limit, num_candidates),
        "limit": limit,
    }
    if filter:
        stage["filter"] = filter
    return [{"$vectorSearch": stage}, {"$project": {spec.path: 1}}]


def similarity_stages(spec: VectorSpec, query: Vector, limit: int, filter: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pipeline that gives the ``_id`` of the `limit` nearest documents that match, nearest first, ties by ``_id``.

    The expressions fail for what is no vector of the query's length, so such documents are left out before.
    So are vectors that cannot be ranked: their squared length is no finite number, or zero under cosine.
    """
    vector = f"${spec.path}"
    of_binary = {"$eq": [{"$binarySize": vector}, 2 + 4 * spec.dim]}
    numbers = {"$allElementsTrue": [{"$map": {"input": vector, "in": {"$isNumber": "$$this"}}}]}
    of_array = {"$and": [{"$eq": [{"$size": vector}, spec.dim]}, numbers]}
    fits = {
        "$switch": {
            "branches": [
                {"case": {"$eq": [{"$type": vector}, "binData"]}, "then": of_binary},
                {"case": {"$isArray": vector}, "then": of_array},
            ],
            "default": False,
        }
    }
    square = {"$gt" if spec.metric == "cosine" else "$gte": 0, "$lt": float("inf")}
    score = {_EXPRESSION[spec.metric]: {"vectors": [vector, encode_vector(query)], "score": True}}
    return [
        *([{"$match": filter}] if filter else []),
        {"$match": {"$expr": fits}},
        {"$project": {"score": score, "square": {"$similarityDotProduct": [vector, vector]}}},
        {"$match": {"square": square}},
        {"$sort": {"score": -1, "_id": 1}},
        {"$limit": limit},
        {"$project": {"_id": 1}},
    ]
