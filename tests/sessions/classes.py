"""Documents of the machines, and what objects and stored documents are in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
from bson import Binary

from superorm import Document, Embedded, Mapped, NotLoadedError, ObjectId, field, vector


class Corner(Embedded):
    y: Mapped[int] = field(default=0)
    z: Mapped[int] = field(default=0)


class Point(Embedded):
    x: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)
    corner: Mapped[Corner | None] = field(default=None)


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
    table: Mapped[dict[str, list[int]]] = field(factory=dict)
    point: Mapped[Point | None] = field(default=None)
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


class Pair(Embedded):
    a: Mapped[int]
    b: Mapped[str]


class Keyed(Document):
    __collection__ = "keyed_of_any_kind"

    id: Mapped[int | float | bool | str | ObjectId | UUID | Pair] = field(primary_key=True)
    number: Mapped[int] = field(default=0)
    others: Mapped[int] = field(default=0)
    tags: Mapped[list[str]] = field(factory=list)


CONCRETE: list[Any] = [Thing, Counted, Animal, Dog, Cat, Keyed]
COLLECTIONS = ["things", "counted", "animals", "keyed_of_any_kind"]
ATTRIBUTES: dict[type, list[str]] = {
    Thing: ["number", "others", "tags", "table", "point", "points", "array"],
    Counted: ["number", "others", "tags", "table", "point", "embedding"],
    Animal: ["number", "others"],
    Dog: ["number", "others", "tags"],
    Cat: ["number", "others", "point"],
    Keyed: ["number", "others", "tags"],
}
"""But for key and version."""
DEFAULTS: dict[str, Any] = {
    "number": 0,
    "others": 0,
    "tags": [],
    "table": {},
    "point": None,
    "points": [],
    "array": [0.0, 0.0, 0.0],
    "embedding": None,
}
KEYS: dict[type, list[Callable[[], Any]]] = {
    cls: [lambda key=key: key for key in range(start, start + 6)]
    for cls, start in ((Thing, 0), (Counted, 0), (Animal, 0), (Dog, 10), (Cat, 20))
} | {
    Keyed: [
        lambda: 1,
        lambda: 1.0,  # the same as 1
        lambda: True,  # another one
        lambda: "1",
        lambda: ObjectId("0123456789abcdef01234567"),
        lambda: UUID(int=1),
        lambda: Pair(a=1, b="1"),
    ]
}
"""Of the documents of a class. Those of subclasses are others, for an object keeps its class."""


def class_of(instance: Any) -> Any:
    """The declared class of an object, which has another one while not all of it is loaded."""
    return next(cls for cls in type(instance).__mro__ if cls in ATTRIBUTES)


def stored_class(collection: str, document: dict[str, Any]) -> Any:
    """The class of a stored document."""
    return next(
        cls
        for cls in CONCRETE
        if cls.__collection__ == collection and (cls not in (Dog, Cat) or document.get("_type") == cls.__name__)
        if collection != "animals" or document.get("_type", "Animal") == cls.__name__
    )


def name_of(key: Any) -> Any:
    """What stands for a stored key, equal where MongoDB takes two keys for the same."""
    if isinstance(key, dict):
        return "object", *((name, name_of(value)) for name, value in key.items())
    return "number" if type(key) in (int, float) else type(key).__name__, key


def text(value: Any) -> str:
    """Equal for what is stored alike, where the order of keys counts."""
    return repr(value)


def shown(instance: Any) -> dict[str, Any]:
    """What an object shows, in plain Python; what was deleted or is not loaded is left out."""
    cls = class_of(instance)
    found = {"_id": plain(instance.id)}
    for name in [*ATTRIBUTES[cls], *(["version"] if cls is Counted else [])]:
        try:
            found[name] = plain(getattr(instance, name))
        except (AttributeError, NotLoadedError):
            continue
    return found


def plain(value: Any) -> Any:
    """A value of an object in plain Python."""
    if isinstance(value, Embedded):
        names = {Point: ("x", "tags", "corner"), Corner: ("y", "z"), Pair: ("a", "b")}[type(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def stored(value: Any) -> Any:
    """What a stored document, or a value in it, is in plain Python."""
    if isinstance(value, Binary) and value.subtype == 9:
        assert b"\x27\x00" == bytes(value[:2])  # float32, no padding
        return np.frombuffer(value, "<f4", offset=2).tolist()
    if isinstance(value, Binary) and value.subtype == 4:
        return value.as_uuid()
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "data"}:
            return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"]).tolist()
        return {key: stored(one) for key, one in value.items()}
    if isinstance(value, list):
        return [stored(one) for one in value]
    return value
