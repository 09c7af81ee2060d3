"""The documents of many new objects, held as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from superorm.codec.documents import dump_all
from superorm.schema.fast_dump import make_flat_dump
from superorm.schema.mapping import ClassMap
from superorm.schema.state import GONE

__all__ = ["FlatDocuments", "dump_new"]


class FlatDocuments(Sequence[dict[str, Any]]):
    """Documents of one class with the same keys, each made anew when it is asked for.

    A dict for each would be one more container for the garbage collector to look through, and out of the processor's
    caches again when it is encoded: both cost more than making it just then.
    """

    __slots__ = ("_key", "_make", "_values", "_width")

    def __init__(
        self, values: Sequence[Any], width: int, key: int, make: Callable[[Sequence[Any]], Iterator[dict[str, Any]]]
    ) -> None:
        self._values = values
        """Those of all documents, one after the other."""
        self._width = width
        self._key = key
        """The place of ``_id`` among the values of a document."""
        self._make = make

    @property
    def keys(self) -> list[Any]:
        """The ``_id`` of each."""
        return list(self._values[self._key :: self._width])

    def __len__(self) -> int:
        return len(self._values) // self._width

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._make(self._values)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(self._make(self._part(places, places + 1)))
        if places.step == 1:
            return FlatDocuments(self._part(places.start, places.stop), self._width, self._key, self._make)
        return [self[place] for place in places]

    def _part(self, start: int, stop: int) -> Sequence[Any]:
        return self._values[start * self._width : stop * self._width]


def dump_new(mapping: ClassMap, instances: Sequence[object]) -> Sequence[dict[str, Any]]:
    """The documents to store for new objects of the class that nobody tracks afterwards. Raises as `dump` does."""
    functions = mapping.functions.get("flat")
    if functions is None:
        functions = mapping.functions["flat"] = make_flat_dump(mapping, GONE)
    dump, make = functions
    values: list[Any] | None = dump(instances)
    if values is None:
        return dump_all(mapping, instances)
    return FlatDocuments(values, len(mapping.fields), mapping.fields.index(mapping.key), make)
