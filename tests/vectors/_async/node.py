"""A recording of what servers answer that have MongoDB's own vector search, by its manual. None of them takes part.

Documents are on a real server. The stages and commands that it lacks are recorded and answered here:
``$vectorSearch`` from a copy of the documents that follows only when `sync` is called, as a search index does late;
as the server does, the documents are then looked up by ``_id``, so that deleted ones are missing from the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, field

from superorm.backends._async.mongodb import AsyncMongoDatabackend
from superorm.compile.plan import Aggregate, Read
from superorm.exc import StatementError, UnsupportedError
from superorm.vectors._async.atlas import AsyncAtlasVectorIndex

__all__ = ["AsyncNodeBackend", "AsyncNodeIndex", "Node"]

METRICS = {"cosine": "cosine", "dotProduct": "dot", "euclidean": "euclidean"}
EXPRESSIONS = {
    "$similarityCosine": "cosine",
    "$similarityDotProduct": "dot",
    "$similarityEuclidean": "euclidean",
}


def vector_at(document: Any, path: str) -> np.ndarray | None:
    """The stored vector at a path."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    if document is None or isinstance(document, list):
        return None if document is None else np.asarray(document, "f8")
    return np.frombuffer(document, "<f4", offset=2).astype("f8")


def similarity(metric: str, v: np.ndarray, q: np.ndarray) -> float:
    """What the manual says of each metric's score."""
    if metric == "cosine":
        norms = float(np.linalg.norm(v) * np.linalg.norm(q))
        return (1 + float(v @ q) / norms) / 2 if norms else 0.5
    return (1 + float(v @ q)) / 2 if metric == "dot" else 1 / (1 + float(np.linalg.norm(v - q)))


@define
class Node:
    """A search node, or with `search` False a server without one."""

    plain: Any
    """The database by plain PyMongo."""
    version: Sequence[int] = (8, 0, 4)
    search: bool = True
    polls: int = 0
    """How often a new search index is listed before it is queryable."""
    status: str = "READY"
    indexes: dict[tuple[str, str], dict[str, Any]] = field(factory=dict[tuple[str, str], dict[str, Any]])
    refuses: Exception | None = None
    """What a search raises."""
    listed: int = 0
    sent: list[tuple[str, dict[str, Any]]] = field(factory=list[tuple[str, dict[str, Any]]])
    """Each ``$vectorSearch`` and each command, with the collection."""
    ranked: list[list[dict[str, Any]]] = field(factory=list[list[dict[str, Any]]])
    """Each pipeline with a ``$similarity`` expression."""

    def sync(self, collection: str) -> None:
        """Bring the search indexes of a collection to its documents."""
        copy = self.plain[f"{collection}.node"]
        copy.drop()
        documents = list(self.plain[collection].find())
        if documents:
            copy.insert_many(documents)

    def list(self, collection: str, name: str | None) -> list[dict[str, Any]]:
        """``$listSearchIndexes``."""
        found: list[dict[str, Any]] = []
        for (where, called), index in self.indexes.items():
            if where == collection and name in (None, called):
                index["left"] -= 1
                ready = index["left"] < 0 and self.status != "FAILED"
                status = self.status if index["left"] < 0 else "BUILDING"
                shown = {"id": "1", "name": called, "type": index["type"], "status": status, "queryable": ready}
                found.append({**shown, "latestDefinition": index["definition"]})
        return found

    def answer(self, collection: str, stage: Mapping[str, Any], last: Mapping[str, Any]) -> list[dict[str, Any]]:
        """``$vectorSearch`` and the ``$project`` after it."""
        index = self.indexes.get((collection, stage["index"]))
        if self.refuses is not None:
            raise self.refuses
        if index is None or index["left"] >= 0:
            return []  # silently, as the manual says
        fields = {one["path"]: one for one in index["definition"]["fields"]}
        held = fields[stage["path"]]
        for path in stage.get("filter") or {}:
            if path not in fields:
                raise StatementError(f"Path '{path}' needs to be indexed as filter")
        assert 0 < stage["limit"] <= stage["numCandidates"] <= 10_000
        q = np.frombuffer(stage["queryVector"], "<f4", offset=2).astype("f8")
        assert q.size == held["numDimensions"]
        ranked: list[tuple[float, Any]] = []
        for document in self.plain[f"{collection}.node"].find(stage.get("filter") or {}):
            v = vector_at(document, stage["path"])
            if v is not None and (held["similarity"] != "cosine" or v.any()):
                ranked.append((similarity(METRICS[held["similarity"]], v, q), document["_id"]))
        ranked.sort(key=lambda one: -one[0])
        keys = [key for _, key in ranked[: stage["limit"]]]
        current = {one["_id"]: one for one in self.plain[collection].find({"_id": {"$in": keys}}, last["$project"])}
        return [current[key] for key in keys if key in current]

    def rank(self, pipeline: Sequence[Mapping[str, Any]], documents: Sequence[Any]) -> list[dict[str, Any]]:
        """What a pipeline with a ``$similarity`` expression gives for what its first stages let through."""
        self.ranked.append([dict(stage) for stage in pipeline])
        at = next(i for i, stage in enumerate(pipeline) if "$project" in stage)
        ((operator, arguments),) = pipeline[at]["$project"]["score"].items()
        path, query = arguments["vectors"]
        q = np.frombuffer(query, "<f4", offset=2).astype("f8")
        bounds = pipeline[at + 1]["$match"]["square"]
        rows: list[tuple[float, Any]] = []
        for document in documents:
            v = vector_at(document, path[1:])
            assert v is not None
            assert v.size == q.size, "the expression fails here"
            square = float(v @ v)
            if square < bounds["$lt"] and (square > bounds["$gt"] if "$gt" in bounds else square >= bounds["$gte"]):
                rows.append((similarity(EXPRESSIONS[operator], v, q), document["_id"]))
        rows.sort(key=lambda row: -row[0])
        return [{"_id": key} for _, key in rows[: pipeline[at + 3]["$limit"]]]


class AsyncNodeBackend(AsyncMongoDatabackend):
    """A real database, on a server that seems to have a search node, or the ``$similarity`` expressions."""

    node: Node

    async def read(self, plan: Read, *, session: Any = None) -> list[dict[str, Any]]:
        """The stages that the server lacks are the node's."""
        if not isinstance(plan, Aggregate):
            return await super().read(plan, session=session)
        first = plan.pipeline[0]
        if "$listSearchIndexes" in first and self.node.search:
            assert session is None
            self.node.listed += 1
            return self.node.list(plan.collection, first["$listSearchIndexes"].get("name"))
        if "$vectorSearch" in first:
            assert self.node.search
            if session is not None:
                raise UnsupportedError("$vectorSearch cannot run with a readConcern other than local")
            self.node.sent.append((plan.collection, dict(first)))
            return self.node.answer(plan.collection, first["$vectorSearch"], plan.pipeline[1])
        if "$similarity" in str(plan.pipeline):
            assert tuple(self.node.version) >= (8, 3)
            return await self._rank(plan, session)
        return await super().read(plan, session=session)

    async def _rank(self, plan: Aggregate, session: Any) -> list[dict[str, Any]]:
        at = next(i for i, stage in enumerate(plan.pipeline) if "$project" in stage)
        before = Aggregate(plan.collection, [*plan.pipeline[:at], {"$project": {"_id": 1}}])
        keys = [one["_id"] for one in await super().read(before, session=session)]
        documents = await super().read(
            Aggregate(plan.collection, [{"$match": {"_id": {"$in": keys}}}]), session=session
        )
        return self.node.rank(plan.pipeline, documents)


class AsyncNodeIndex(AsyncAtlasVectorIndex):
    """The engine, whose commands on search indexes are the node's."""

    node: Node

    async def command(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record it, and do what it says."""
        node = self.node
        if "buildInfo" in command:
            return {"versionArray": [*node.version, 0], "ok": 1}
        name, collection = next(iter(command.items()))
        node.sent.append((collection, dict(command)))
        if name == "createSearchIndexes":
            for one in command["indexes"]:
                node.indexes[collection, one["name"]] = {**one, "left": node.polls}
        else:
            assert name == "dropSearchIndex"
            del node.indexes[collection, command["name"]]
        return {"ok": 1}
