"""What a candidate does. Imported by the workers too: only the standard library, no superorm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

__all__ = ["Mapper"]


class Mapper:
    """One way of working with MongoDB, used as its own documentation says.

    Those of its methods that `timing` calls are ``load_flat()``, ``stream_flat()``, ``load_nested()``,
    ``insert(objects)``, ``insert_values(objects)``, ``add_all(objects)``, ``modify(objects, value)``,
    ``flush(objects)`` and ``statement()``.
    What it has no means for, it leaves out. A method may be a coroutine function.
    """

    notes: ClassVar[dict[str, str]] = {}
    """What to know of its figures, by task."""

    def open(self, uri: str, database: str) -> Any:
        """Connect, and declare the classes of the collections `flat` and `nested`."""
        raise NotImplementedError

    def new_flat(self, documents: Iterable[dict[str, Any]]) -> list[Any]:
        """New objects of the documents. Not timed."""
        raise NotImplementedError

    def forget(self) -> Any:
        """Let go of what was loaded, where a session holds it. Not timed."""

    def age_sum(self, objects: Iterable[Any]) -> int:
        """The sum of a field of flat objects."""
        return sum(one.age for one in objects)

    def read_parts(self, objects: Sequence[Any]) -> int:
        """Read all parts of nested objects: the sum of a field of each."""
        total = 0
        for one in objects:
            total += one.rating.votes
            for part in one.cast:
                total += part.age
            if not len(one.embedding):
                raise ValueError("no vector")
        return total
