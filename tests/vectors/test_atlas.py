"""The forms of MongoDB's own vector search, as its manual writes them. No server that has it takes part here."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from bson import Binary, ObjectId

from superorm import (
    ConfigurationError,
    Document,
    Embedded,
    Mapped,
    Predicate,
    Select,
    UnsupportedError,
    field,
    select,
    vector,
)
from superorm.compile.compiler import compile_select
from superorm.schema.registry import Registry
from superorm.schema.vector_spec import VectorSpec
from superorm.urls import numbers_of_url
from superorm.vectors.atlas_filter import push
from superorm.vectors.atlas_stages import (
    candidates_of,
    definition,
    differences,
    filter_paths,
    index_name,
    misfit,
    search_stages,
    similarity_stages,
)
from tests.vectors.brute import stored

registry = Registry()


class Poster(Embedded):
    artist: Mapped[str] = field(default="")
    embedding: Mapped[np.ndarray | None] = vector(3, metric="euclidean", filter_fields=["artist"])


class Film(Document, registry=registry):
    __collection__ = "atlas_films"

    title: Mapped[str] = field(default="", name="t")
    year: Mapped[int] = field(default=0)
    rated: Mapped[bool] = field(default=False)
    seen: Mapped[dt.datetime | None] = field(default=None)
    studio: Mapped[ObjectId | None] = field(default=None)
    genres: Mapped[list[str]] = field(factory=list)
    embedding: Mapped[np.ndarray | None] = vector(
        3, name="e", filter_fields=["title", "year", "rated", "seen", "studio"]
    )
    poster: Mapped[Poster | None] = field(default=None)
    tone: Mapped[np.ndarray | None] = vector(2, metric="dot", index="flat")


class Short(Film, registry=registry):
    minutes: Mapped[int] = field(default=0)


QUERY = np.array([1, 0, 2], "f4")
AT = dt.datetime(2020, 5, 17, tzinfo=dt.UTC)
KEY = ObjectId("5a9427648b0beebeb69537a5")
DECLARED = ["t", "year", "rated", "seen", "studio", "_type"]


def spec_of(statement: Select[Any, Any]) -> VectorSpec:
    plan = compile_select(statement).like
    assert plan is not None
    return plan.spec


def pushed(*conditions: Predicate[Film], of: type[Film] = Film) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What ``$vectorSearch`` takes of a statement's conditions, and why not the others."""
    plan = compile_select(select(of).where(*conditions).like(QUERY, on=of.embedding)).like
    assert plan is not None
    found = push(plan.filter, DECLARED)
    return dict(found.filter), found.rest


def test_the_search_index() -> None:
    """Its vectors, the fields to filter by, and the key that tells the classes apart."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    assert index_name(spec) == "superorm_e"
    assert definition(spec) == {
        "fields": [
            {"type": "vector", "path": "e", "numDimensions": 3, "similarity": "cosine"},
            {"type": "filter", "path": "t"},
            {"type": "filter", "path": "year"},
            {"type": "filter", "path": "rated"},
            {"type": "filter", "path": "seen"},
            {"type": "filter", "path": "studio"},
            {"type": "filter", "path": "_type"},
        ]
    }


def test_the_search_index_of_an_embedded_vector() -> None:
    """Dotted paths, and a name without dots."""
    spec = spec_of(select(Film).like(QUERY, on=Film.poster.embedding))
    assert index_name(spec) == "superorm_poster__embedding"
    assert definition(spec) == {
        "fields": [
            {"type": "vector", "path": "poster.embedding", "numDimensions": 3, "similarity": "euclidean"},
            {"type": "filter", "path": "poster.artist"},
            {"type": "filter", "path": "_type"},
        ]
    }


@pytest.mark.parametrize(
    ("index", "options"),
    [
        (None, {}),
        ("flat", {"indexingMethod": "flat"}),
        ("hnsw_flat", {}),
        ({"kind": "hnsw_flat", "m": 32}, {"hnswOptions": {"maxEdges": 32}}),
        (
            {"kind": "hnsw_sq", "m": 16, "ef_construction": 200},
            {"quantization": "scalar", "hnswOptions": {"maxEdges": 16, "numEdgeCandidates": 200}},
        ),
    ],
)
def test_kinds_of_index(index: Any, options: dict[str, Any]) -> None:
    """What a field asks for, in the words of MongoDB's search."""

    class Scene(Document, registry=Registry()):
        embedding: Mapped[np.ndarray | None] = vector(4, metric="dot", index=index)

    (found, *_) = definition(spec_of(select(Scene).like(np.ones(4))))["fields"]
    assert found == {
        "type": "vector",
        "path": "embedding",
        "numDimensions": 4,
        "similarity": "dotProduct",
        **options,
    }


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("ivf_pq", "'ivf_pq'"),
        ("hnsw_pq", "'hnsw_pq'"),
        ({"kind": "hnsw_sq", "num_partitions": 4}, "parameter 'num_partitions'"),
    ],
)
def test_kinds_of_index_that_it_has_not(index: Any, words: str) -> None:
    """They are refused by name, with those that there are."""

    class Scene(Document, registry=Registry()):
        embedding: Mapped[np.ndarray | None] = vector(4, index=index)

    spec = spec_of(select(Scene).like(np.ones(4)))
    with pytest.raises(UnsupportedError, match=f"MongoDB's search has no .*{words}.*'hnsw_flat'"):
        definition(spec)


def test_too_many_dimensions() -> None:
    """The manual's limit, before anything is sent."""
    definition(VectorSpec("films", "e", 8192))
    with pytest.raises(UnsupportedError, match=r"films\.e: MongoDB's search takes vectors of at most 8192 numbers"):
        definition(VectorSpec("films", "e", 8193))


def test_search_stage() -> None:
    """The first stage, with 20 candidates for each result; the vectors come along, to be ranked exactly."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    assert search_stages(spec, QUERY, 18) == [
        {
            "$vectorSearch": {
                "index": "superorm_e",
                "path": "e",
                "queryVector": Binary(b"\x27\x00\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x40", 9),
                "numCandidates": 360,
                "limit": 18,
            }
        },
        {"$project": {"e": 1}},
    ]


def test_search_stage_with_a_filter() -> None:
    """The filter is the stage's own, and the number of candidates the statement's."""
    spec = spec_of(select(Film).like(QUERY, on=Film.poster.embedding))
    filter = {"poster.artist": "Bass"}
    assert search_stages(spec, QUERY, 18, 400, filter) == [
        {
            "$vectorSearch": {
                "index": "superorm_poster__embedding",
                "path": "poster.embedding",
                "queryVector": stored(QUERY),
                "numCandidates": 400,
                "limit": 18,
                "filter": {"poster.artist": "Bass"},
            }
        },
        {"$project": {"poster.embedding": 1}},
    ]


def test_dot_is_asked_in_unit_length() -> None:
    """As the manual demands of ``dotProduct``; the order of the answers is the same for any length."""
    spec = spec_of(select(Film).like([3, 4], on=Film.tone))
    stage = search_stages(spec, np.array([3, 4], "f4"), 5)[0]["$vectorSearch"]
    assert stage["queryVector"] == stored([0.6, 0.8])


@pytest.mark.parametrize(
    ("limit", "given", "candidates"),
    [
        (10, None, 200),
        (1, None, 20),
        (600, None, 10_000),
        (10_000, None, 10_000),
        (10, 50, 50),
        (10, 3, 10),
        (9, 10**6, 10_000),
    ],
)
def test_candidates(limit: int, given: int | None, candidates: int) -> None:
    """From the limit to 10,000, and 20 for each result unless the statement says otherwise."""
    assert candidates_of(limit, given) == candidates


TAKEN: list[tuple[Predicate[Film], dict[str, Any]]] = [
    (Film.year == 1995, {"year": 1995}),
    (Film.year != 1995, {"year": {"$ne": 1995}}),
    (Film.year.between(1990, 1999), {"year": {"$gte": 1990, "$lte": 1999}}),
    ((Film.year > 1990) & (Film.year < 2000.5), {"year": {"$gt": 1990, "$lt": 2000.5}}),
    (Film.year.in_([1994, 1995]), {"year": {"$in": [1994, 1995]}}),
    (Film.year.not_in([1994]), {"year": {"$nin": [1994]}}),
    (Film.year < 2**53 - 1, {"year": {"$lt": 2**53 - 1}}),
    (~(Film.year == 1995), {"$nor": [{"year": 1995}]}),
    (Film.title == "Heat", {"t": "Heat"}),
    (Film.rated == True, {"rated": True}),  # noqa: E712
    (Film.seen >= AT, {"seen": {"$gte": AT}}),
    (Film.studio == KEY, {"studio": KEY}),
    ((Film.year == 1) | (Film.title == "x"), {"$or": [{"year": 1}, {"t": "x"}]}),
    ((Film.year > 1) & (Film.year > 2), {"$and": [{"year": {"$gt": 1}}, {"year": {"$gt": 2}}]}),
]


@pytest.mark.parametrize(("condition", "filter"), TAKEN, ids=[str(filter) for _, filter in TAKEN])
def test_conditions_that_are_taken(condition: Predicate[Film], filter: dict[str, Any]) -> None:
    """Each operator that the manual lists, on the types that it lists."""
    assert pushed(condition) == (filter, ())


NOT_TAKEN: list[tuple[Predicate[Film], str]] = [
    (Film.title.regex("^H"), "$regex on 't' is no operator of its filter"),
    (Film.title.startswith("H"), "$regex on 't' is no operator of its filter"),
    (Film.genres.contains("Heist"), "'genres' is no filter field of the search index"),
    (Film.genres.size() == 2, "'genres' is no filter field of the search index"),
    (Film.year.is_(None), "$eq with a null on 'year' is not sure to find the same in the search index"),
    (Film.year.in_([1, None]), "$in with a null on 'year' is not sure to find the same in the search index"),
    (Film.title > "H", "$gt with a text on 't' is not sure to find the same in the search index"),
    (Film.title == "x" * 1_001, "$eq with a long text on 't' is not sure to find the same in the search index"),
    (Film.studio > KEY, "$gt with a ObjectId on 'studio' is not sure to find the same in the search index"),
    (Film.year.exists(), "$exists on 'year' is not sure to find null in the search index"),
    (~(Film.year == 2**53 + 1), "$eq with a int on 'year' is not sure to find the same in the search index"),
    (Film.year > -(2**53), "$gt with a int on 'year' is not sure to find the same in the search index"),
    (Film.year == float("inf"), "$eq with a float on 'year' is not sure to find the same in the search index"),
    (Film.year * 2 == 4, "$expr is no operator of its filter"),
    ((Film.year == 1) | Film.title.regex("x"), "$regex on 't' is no operator of its filter"),
    (~((Film.year == 1) & Film.title.regex("x")), "$regex on 't' is no operator of its filter"),
]


@pytest.mark.parametrize(("condition", "why"), NOT_TAKEN, ids=[why for _, why in NOT_TAKEN])
def test_conditions_that_are_not_taken(condition: Predicate[Film], why: str) -> None:
    """They are named, and the rest of the filter is taken all the same."""
    assert pushed(condition) == ({}, (why,))
    assert pushed(condition, Film.rated == True) == ({"rated": True}, (why,))  # noqa: E712


def test_a_uuid_is_taken_and_other_bytes_are_not() -> None:
    """The manual lists UUIDs; of other binary values it says nothing."""
    key = Binary.from_uuid(UUID(int=5))
    assert push({"u": key}, ["u"]).filter == {"u": key}
    assert push({"u": Binary(b"x")}, ["u"]).rest == (
        "$eq with a binary on 'u' is not sure to find the same in the search index",
    )


def test_a_path_that_the_index_lacks_is_not_taken() -> None:
    """What counts is the search index that is there, not the class."""
    found = push({"year": 1, "rated": True}, ["rated"])
    assert found.filter == {"rated": True}
    assert found.rest == ("'year' is no filter field of the search index",)


def test_a_subclass_is_a_filter_by_its_name() -> None:
    """Inheritance needs no filter field of one's own."""
    assert pushed(Short.year > 1, of=Short) == ({"_type": "Short", "year": {"$gt": 1}}, ())


def test_conditions_after_like_are_no_part_of_it() -> None:
    """They work on what was found."""
    compiled = compile_select(
        select(Film).where(Film.year > 1).like(QUERY, on=Film.embedding, k=7).where(Film.rated == True).limit(2)  # noqa: E712
    )
    assert compiled.like is not None
    assert (compiled.like.filter, compiled.find.filter, compiled.find.limit) == (
        {"year": {"$gt": 1}},
        {"rated": True},
        2,
    )


@pytest.mark.parametrize(
    ("on", "path", "dim", "operator", "square"),
    [
        (Film.embedding, "$e", 3, "$similarityCosine", {"$gt": 0, "$lt": float("inf")}),
        (Film.tone, "$tone", 2, "$similarityDotProduct", {"$gte": 0, "$lt": float("inf")}),
        (Film.poster.embedding, "$poster.embedding", 3, "$similarityEuclidean", {"$gte": 0, "$lt": float("inf")}),
    ],
)
def test_similarity_stages(on: Any, path: str, dim: int, operator: str, square: dict[str, Any]) -> None:
    """The filter first, then only vectors that the expressions take; normalised scores; ties by ``_id``."""
    query = QUERY[:dim]
    spec = spec_of(select(Film).like(query, on=on))
    numbers = {"$allElementsTrue": [{"$map": {"input": path, "in": {"$isNumber": "$$this"}}}]}
    branches = [
        {"case": {"$eq": [{"$type": path}, "binData"]}, "then": {"$eq": [{"$binarySize": path}, 2 + 4 * dim]}},
        {"case": {"$isArray": path}, "then": {"$and": [{"$eq": [{"$size": path}, dim]}, numbers]}},
    ]
    assert similarity_stages(spec, query, 18, {"t": {"$regex": "^H"}}) == [
        {"$match": {"t": {"$regex": "^H"}}},
        {"$match": {"$expr": {"$switch": {"branches": branches, "default": False}}}},
        {
            "$project": {
                "score": {operator: {"vectors": [path, stored(query)], "score": True}},
                "square": {"$similarityDotProduct": [path, path]},
            }
        },
        {"$match": {"square": square}},
        {"$sort": {"score": -1, "_id": 1}},
        {"$limit": 18},
        {"$project": {"_id": 1}},
    ]
    assert similarity_stages(spec, query, 18, {})[0] == {
        "$match": {"$expr": {"$switch": {"branches": branches, "default": False}}}
    }


def described(**changes: Any) -> dict[str, Any]:
    """What ``$listSearchIndexes`` says of the index of `Film.embedding`."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    found = {
        "id": "6524096020da840844a4c4a7",
        "name": "superorm_e",
        "type": "vectorSearch",
        "status": "READY",
        "queryable": True,
        "latestDefinition": definition(spec),
    }
    return {**found, **changes}


def test_a_search_index_as_declared() -> None:
    """Nothing differs, though the server may name its defaults."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    fields = definition(spec)["fields"]
    shown = described(latestDefinition={"fields": [{**fields[0], "quantization": "none"}, *fields[1:]]})
    assert misfit(spec, shown) is None
    assert differences(spec, shown) == []
    assert filter_paths(shown) == set(DECLARED)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "search", "latestDefinition": {"mappings": {"dynamic": True}}}, "is of the type 'search', not"),
        ({"latestDefinition": {"fields": []}}, "holds no vectors of 'e'"),
        (
            {"latestDefinition": {"fields": [{"type": "vector", "path": "e", "numDimensions": 4}]}},
            "has numDimensions 4, the class declares 3",
        ),
        (
            {
                "latestDefinition": {
                    "fields": [{"type": "vector", "path": "e", "numDimensions": 3, "similarity": "euclidean"}]
                }
            },
            "has similarity 'euclidean', the class declares 'cosine'",
        ),
    ],
)
def test_a_search_index_of_other_vectors(changes: dict[str, Any], why: str) -> None:
    """It cannot be searched, which is said once."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    shown = described(**changes)
    assert misfit(spec, shown) == differences(spec, shown)[0]
    assert differences(spec, shown)[0].startswith(f"the search index 'superorm_e' of atlas_films {why}")
    assert len(differences(spec, shown)) == 1


def test_a_search_index_without_a_filter_field() -> None:
    """It can be searched, and what it lacks is reported."""
    spec = spec_of(select(Film).like(QUERY, on=Film.embedding))
    fields = [one for one in definition(spec)["fields"] if one["path"] != "year"]
    shown = described(latestDefinition={"fields": fields})
    assert misfit(spec, shown) is None
    assert differences(spec, shown) == ["the search index 'superorm_e' of atlas_films has no filter field 'year'"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("atlas://", {}),
        ("atlas", {}),
        ("atlas://?lag=2.5", {"lag": 2.5}),
        ("atlas://?timeout=9&lag=0", {"timeout": 9, "lag": 0}),
    ],
)
def test_urls(url: str, found: dict[str, float]) -> None:
    """There is no place to name, and two numbers to set."""
    assert numbers_of_url(url, ("lag", "timeout")) == found


@pytest.mark.parametrize(
    "url", ["atlas://cluster", "atlas://?lag=soon", "atlas://?lag=nan", "atlas://?wait=3", "atlas://?lag="]
)
def test_urls_that_cannot_be(url: str) -> None:
    """The error shows what was written."""
    with pytest.raises(ConfigurationError, match=url.replace("?", r"\?")):
        numbers_of_url(url, ("lag", "timeout"))
