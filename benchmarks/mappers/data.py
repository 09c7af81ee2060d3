"""The documents that every candidate works on."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Binary, ObjectId

__all__ = ["DIM", "age_sum", "age_sum_of_parts", "flat", "nested", "vector"]

DIM = 384
_START = datetime(2020, 1, 1, tzinfo=UTC)
_CITIES = ("Amsterdam", "Buenos Aires", "Cairo", "Delhi", "Edinburgh", "Fukuoka")


def flat(count: int, start: int = 0) -> Iterator[dict[str, Any]]:
    """Documents with a key and ten scalar fields: those with the numbers from `start` on."""
    for number in range(start, start + count):
        created = _START + timedelta(seconds=number, milliseconds=number % 1000)
        yield {
            "_id": _key(number),
            "name": f"Somebody {number}",
            "email": f"somebody.{number}@example.org",
            "city": _CITIES[number % len(_CITIES)],
            "age": number % 90,
            "visits": 0,
            "score": number * 0.618034 % 1,
            "balance": number % 2000 - 1000.25,
            "active": number % 3 > 0,
            "created": created,
            "updated": created + timedelta(days=1),
        }


def nested(count: int) -> Iterator[dict[str, Any]]:
    """Documents with an embedded document, a list of five, and a float32 vector of 384 numbers."""
    chance = random.Random(count)
    for number in range(count):
        yield {
            "_id": _key(number),
            "title": f"Title {number}",
            "year": 1950 + number % 70,
            "rating": {"source": "critics", "score": chance.random(), "votes": number},
            "cast": [
                {"name": f"Actor {number + place}", "role": f"Role {place}", "age": (number + place) % 90}
                for place in range(5)
            ],
            "embedding": vector(chance),
        }


def vector(chance: random.Random) -> Binary:
    """A vector as BSON holds it: subtype 9, element type FLOAT32, no padding."""
    numbers = array("f", [chance.uniform(-1, 1) for _ in range(DIM)])
    return Binary(b"\x27\x00" + numbers.tobytes(), 9)


def age_sum(documents: Iterator[Mapping[str, Any]]) -> int:
    """The checksum of flat documents."""
    return sum(document["age"] for document in documents)


def age_sum_of_parts(documents: Iterator[Mapping[str, Any]]) -> int:
    """The checksum of nested documents."""
    return sum(document["rating"]["votes"] + sum(part["age"] for part in document["cast"]) for document in documents)


def _key(number: int) -> ObjectId:
    return ObjectId(f"{number:024x}")
