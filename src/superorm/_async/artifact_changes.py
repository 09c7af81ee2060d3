"""Telling which artifacts were changed in place, without encoding them in the event loop."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import AbstractContextManager

from superorm._io import aio
from superorm.artifacts.encodings import Encoded, Encodings, Loaded
from superorm.codec.documents import is_changed
from superorm.schema.mapping import ClassMap
from superorm.schema.types.artifacts import Held

__all__ = ["AsyncArtifactChanges"]


class AsyncArtifactChanges:
    """The artifacts of a session's objects as they were when it looked last, encoded once each.

    What others change in them afterwards is not seen until it looks again. What is stored is what was encoded,
    and so is what is remembered as stored: so it is seen then.
    """

    def __init__(self) -> None:
        self._encodings = Encodings()

    async def look(self, shown: Sequence[Loaded]) -> None:
        """Encode the artifacts that objects show, to be compared with what is stored."""
        self._encodings = self._encodings.lasting(shown)
        if lacking := self._encodings.lacking(shown):
            await aio.in_thread(self._encodings.look, lacking)

    def known(self) -> AbstractContextManager[None]:
        """A block of comparing objects with their documents, by what they held at the last look."""
        return self._encodings.used()

    def is_changed(self, mapping: ClassMap, instance: object) -> bool:
        """Whether any field of a stored object is not what its snapshot reads as."""
        with self.known():
            return is_changed(mapping, instance)

    async def encoded(self, held: Held, stored: Container[str]) -> Encoded:
        """An object that is about to be stored, with its bytes where these are not among the hashes of what is stored.

        Raises as encoding it does.
        """
        found = self._encodings.of(held.value, held.codec)
        if found is None or (found.data is None and found.sha256 not in stored):
            found = await aio.in_thread(self._encodings.encode, held.value, held.codec)
        return found

    def clear(self) -> None:
        """Forget what was encoded, but for what cannot be changed."""
        self._encodings = self._encodings.lasting()

    def forget(self) -> None:
        """Forget all, so that what no object holds any more is not kept in memory."""
        self._encodings = Encodings()
