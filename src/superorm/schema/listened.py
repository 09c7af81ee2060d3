"""What is known of a listener where documents are written: which of their fields its outputs depend on."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from attrs import frozen

from superorm.schema.vector_spec import VectorPath, meet

__all__ = ["ListenerPath"]


@frozen(slots=False)
class ListenerPath(VectorPath):
    """A listener to the documents of a collection. Each of these may have an output, whatever it holds.

    `path` is one of the fields that the outputs depend on.
    """

    listener: str
    """What its state and its records are found by; there is no dot in it, as in the name of any vector index."""
    fields: tuple[str, ...]
    """The stored names at the top of documents that the outputs depend on."""

    @property
    def name(self) -> str:
        return self.listener

    @property
    def paths(self) -> tuple[str, ...]:
        return self.fields

    def concerns(self, stored: Set[str]) -> bool:
        """Any may: one without a field is new to the listener too."""
        return True

    def touched_by(self, update: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the operators of an update name one of the fields, or a part of one."""
        return any(meet(path, one) for values in update.values() for path in values for one in self.fields)
