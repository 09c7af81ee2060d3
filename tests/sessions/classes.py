"""Documents of the machines, and what objects and stored documents are in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from bson import Binary

from superorm import Document, Embedded, Mapped, field, vector


class Point(Embedded):
    x: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)


class Thing(Document):
    __collection__ = "things"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    others: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    table: Mapped[dict[str, list[int]]] = field(factory=dict)
    point: Mapped[Point | None] = field(default=None)
    points: Mapped[list[Point]] = field(factory=list)
    array: Mapped[np.ndarray] = field(factory=lambda: np.zeros(3))


class Counted(Document):
    __collection__ = "counted"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    others: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    version: Mapped[int] = field(version=True)
    embedding: Mapped[np.ndarray | None] = vector(3)


class Animal(Document):
    __collection__ = "animals"

    id: Mapped[int] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    others: Mapped[int] = field(default=0)


class Dog(Animal):
    tags: Mapped[list[str]] = field(factory=list)


class Cat(Animal):
    point: Mapped[Point | None] = field(default=None)


CONCRETE: list[Any] = [Thing, Counted, Animal, Dog, Cat]
COLLECTIONS = ["things", "counted", "animals"]
ATTRIBUTES: dict[type, list[str]] = {
    Thing: ["id", "number", "others", "tags", "table", "point", "points", "array"],
    Counted: ["id", "number", "others", "tags", "version", "embedding"],
    Animal: ["id", "number", "others"],
    Dog: ["id", "number", "others", "tags"],
    Cat: ["id", "number", "others", "point"],
}


def class_of(instance: Any) -> type:
    """The declared class of an object, which has another one while not all of it is loaded."""
    return next(cls for cls in type(instance).__mro__ if cls in ATTRIBUTES)


def shown(instance: Any) -> dict[str, Any]:
    """What an object shows, in plain Python."""
    cls = class_of(instance)
    found = {name: _shown(getattr(instance, name)) for name in ATTRIBUTES[cls]}
    found["_id"] = found.pop("id")
    if cls in (Dog, Cat):
        found["_type"] = cls.__name__
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, Point):
        return {"x": value.x, "tags": list(value.tags)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return value


def stored(value: Any) -> Any:
    """What a stored document, or a value in it, is in plain Python."""
    if isinstance(value, Binary) and value.subtype == 9:
        assert b"\x27\x00" == bytes(value[:2])  # float32, no padding
        return np.frombuffer(value, "<f4", offset=2).tolist()
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "data"}:
            return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"]).tolist()
        return {key: stored(one) for key, one in value.items()}
    if isinstance(value, list):
        return [stored(one) for one in value]
    return value
