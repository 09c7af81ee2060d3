"""Changes of an attribute, made to an object and to its plain values alike."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from attrs import frozen

from superorm import NotLoadedError
from tests.sessions.classes import Corner, Point, plain

__all__ = ["CHANGES", "Change"]


@frozen
class How:
    """What a change takes: a number, a word, and whether it is made to an object."""

    number: int
    word: str
    real: bool

    def point(self) -> Any:
        """A new embedded object, or what it is in plain Python."""
        made = Point(x=self.number, tags=[self.word])
        return made if self.real else plain(made)

    def corner(self) -> Any:
        """The same of an embedded object within one."""
        made = Corner(y=self.number)
        return made if self.real else plain(made)


@frozen
class Change:
    """A change of an attribute: its value is replaced, changed in place, or deleted."""

    attribute: str
    make: Callable[[How], Any] | None = None
    act: Callable[[Any, How], object] | None = None

    def is_possible(self, values: dict[str, Any]) -> bool:
        """Whether there is something to change."""
        return self.make is not None or values.get(self.attribute) is not None

    def change_values(self, values: dict[str, Any], number: int, word: str) -> None:
        """Change plain values."""
        how = How(number, word, False)
        if self.make is not None:
            values[self.attribute] = plain(deepcopy(self.make(how)))
        elif self.act is not None:
            self.act(values[self.attribute], how)
        else:
            del values[self.attribute]

    def change_object(self, instance: Any, number: int, word: str) -> None:
        """Change an object."""
        how = How(number, word, True)
        if self.make is not None:
            setattr(instance, self.attribute, self.make(how))
            return
        value = getattr(instance, self.attribute)
        if self.act is not None:
            self.act(value, how)
        else:
            delattr(instance, self.attribute)
            if _is_shown(instance, self.attribute):  # assigned without being read: what is stored is seen again
                delattr(instance, self.attribute)


def _is_shown(instance: Any, name: str) -> bool:
    try:
        getattr(instance, name)
    except (AttributeError, NotLoadedError):
        return False
    return True


def _get(part: Any, name: str) -> Any:
    return part[name] if isinstance(part, dict) else getattr(part, name)


def _set(part: Any, name: str, value: Any) -> None:
    if isinstance(part, dict):
        part[name] = value
    else:
        setattr(part, name, value)


def _put(items: Any, how: How) -> None:
    if items:
        items[how.number % len(items)] = how.word


def _drop(items: Any, how: How) -> None:
    if items:
        del items[how.number % len(items)]


def _drop_two(table: Any, how: How) -> None:
    for one in {"a", "b", "c"} - {how.word}:
        table.pop(one, None)


def _move_to_end(table: Any, how: How) -> None:
    for key in list(table)[:1]:
        table[key] = table.pop(key)


def _put_first(table: Any, how: How) -> None:
    before = dict(table)
    table.clear()
    table.update({how.word: [how.number], **{key: value for key, value in before.items() if key != how.word}})


def _store(array: Any, how: How) -> None:
    array[how.number % 3] = float(how.number)


def _one(act: Callable[[Any, How], object]) -> Callable[[Any, How], None]:
    """The act on one of several parts, if there are any."""

    def change(parts: Any, how: How) -> None:
        if parts:
            act(parts[how.number % len(parts)], how)

    return change


def _set_y(point: Any, how: How) -> None:
    corner = _get(point, "corner")
    if corner is not None:
        _set(corner, "y", how.number)


CHANGES: dict[str, Change] = {
    "number.set": Change("number", lambda how: how.number),
    "tags.set": Change("tags", lambda how: [how.word] * (how.number % 4)),
    "tags.append": Change("tags", act=lambda tags, how: tags.append(how.word)),
    "tags.insert": Change("tags", act=lambda tags, how: tags.insert(0, how.word)),
    "tags.put": Change("tags", act=_put),
    "tags.drop": Change("tags", act=_drop),
    "tags.sort": Change("tags", act=lambda tags, how: tags.sort()),
    "table.all": Change("table", act=lambda table, how: table.update({one: [how.number] for one in "abc"})),
    "table.set": Change("table", lambda how: {how.word: [how.number]}),
    "table.key": Change("table", act=lambda table, how: table.update({how.word: [how.number]})),
    "table.append": Change("table", act=lambda table, how: table.setdefault(how.word, []).append(how.number)),
    "table.pop": Change("table", act=lambda table, how: table.pop(how.word, None)),
    "table.drop_two": Change("table", act=_drop_two),
    "table.clear": Change("table", act=lambda table, how: table.clear()),
    "table.order": Change("table", act=_move_to_end),
    "table.first": Change("table", act=_put_first),
    "table.numbers": Change("table", act=lambda table, how: table.update({"9": [how.number], "10": []})),
    "table.nameless": Change("table", act=lambda table, how: table.update({"": [how.number]})),
    "point.new": Change("point", How.point),
    "point.none": Change("point", lambda how: None),
    "point.x": Change("point", act=lambda point, how: _set(point, "x", how.number)),
    "point.tag": Change("point", act=lambda point, how: _get(point, "tags").append(how.word)),
    "point.corner": Change("point", act=lambda point, how: _set(point, "corner", how.corner())),
    "point.no_corner": Change("point", act=lambda point, how: _set(point, "corner", None)),
    "point.y": Change("point", act=_set_y),
    "points.push": Change("points", act=lambda points, how: points.append(how.point())),
    "points.set": Change("points", lambda how: [how.point()]),
    "points.x": Change("points", act=_one(lambda point, how: _set(point, "x", how.number))),
    "points.tag": Change("points", act=_one(lambda point, how: _get(point, "tags").append(how.word))),
    "points.drop": Change("points", act=_drop),
    "array.set": Change("array", lambda how: np.full(3, how.number, "f8")),
    "array.store": Change("array", act=_store),
    "embedding.set": Change("embedding", lambda how: np.array([how.number, 1, 2], "f4")),
    "embedding.store": Change("embedding", act=_store),
    "embedding.none": Change("embedding", lambda how: None),
} | {f"{name}.del": Change(name) for name in ("number", "tags", "table", "point", "points", "array", "embedding")}
