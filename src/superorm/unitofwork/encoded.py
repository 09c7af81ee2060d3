"""What the models gave during a unit of work, and in which versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from superorm.codec.vectors import as_float32

__all__ = ["Encoded", "Fence", "RecordedModel"]

_ROOM = 64 << 20
"""Bytes of texts and vectors that are remembered."""
_OVERHEAD = 200
"""Bytes that an entry takes beside them."""


@frozen
class RecordedModel:
    """The model in whose version the vectors of an index are made, as it was last read."""

    model: str
    version: int
    at: float
    """When it was read (seconds, monotonic)."""
    switching: bool = False
    """Whether another version may take its place at any moment."""
    overdue: bool = False
    """Whether the time for that is over: who announced it has ended, or is still putting many vectors in place."""
    token: Any = None
    """While it stands in the database nothing was announced since this was read; None where it does not say so."""


@frozen
class Fence:
    """A document that a transaction writes to before it is committed, and that a switch of its index removes."""

    id: str
    at: float
    """Since when it has been there (seconds, monotonic)."""


@define(eq=False)
class Encoded:
    """Texts with the outputs of models, so that none is asked twice in a unit of work; and the versions used."""

    room: int = _ROOM
    made: dict[str, RecordedModel] = field(factory=dict[str, RecordedModel])
    """By index, as it was first read."""
    full: bool = False
    """Whether there was no room for something."""
    fences: dict[str, Fence] = field(factory=dict[str, Fence])
    """By index, those that are held."""
    fenced: set[str] = field(factory=set[str])
    """The indexes to whose fences the transaction has written."""
    lost: bool = False
    """Whether one of these was gone."""
    _outputs: dict[tuple[str, int], dict[str, Any]] = field(factory=dict[tuple[str, int], dict[str, Any]])

    def outputs(self, model: str, version: int) -> Mapping[str, Any]:
        """The outputs of a version of a model, by text."""
        return self._outputs.get((model, version), {})

    def remember(self, model: str, version: int, outputs: Mapping[str, Any], dim: int) -> None:
        """Remember outputs of `dim` numbers, as many as there is room for."""
        known = self._outputs.setdefault((model, version), {})
        for text in self.fitting(list(outputs), dim):
            self.room -= _size(text, dim)
            known[text] = _compact(outputs[text])

    def fitting(self, texts: Sequence[str], dim: int) -> Sequence[str]:
        """The first of the texts, as many as there is room for."""
        room = self.room
        for number, text in enumerate(texts):
            room -= _size(text, dim)
            if room < 0:
                self.full = True
                return texts[:number]
        return texts

    @property
    def unfenced(self) -> dict[str, Fence]:
        """The fences that are still to be written to, by index."""
        return {index: fence for index, fence in self.fences.items() if index not in self.fenced}

    def ended(self, *, committed: bool) -> None:
        """The transaction has; of one that was not committed the server may not know that yet, and holds its fences."""
        if self.lost or not committed:
            for index in self.fenced:
                self.fences.pop(index, None)
        self.fenced.clear()
        self.lost = False

    def clear(self) -> None:
        """Forget all."""
        if self._outputs or self.made:
            self.room = _ROOM
            self.full = False
            self.made = {}
            self._outputs = {}


def _compact(output: Any) -> Any:
    """As numbers of four bytes each, apart from others of its batch; what is no array of numbers as it is."""
    numbers = as_float32(output)
    return output if numbers is None else numbers.copy()


def _size(text: str, dim: int) -> int:
    return len(text) + 4 * dim + _OVERHEAD
