"""What is neither copied nor pickled."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex

from superorm.exc import SessionError

__all__ = ["Uncopied"]


class Uncopied:
    """An object of which there is one: a copy would share the connections and the state that this one counts on."""

    _instead: ClassVar[str]
    """What to do in place of copying it, for the error."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse: ``copy``, ``pickle`` and those that build on them come here. Raises `SessionError`."""
        raise SessionError(f"this {type(self).__name__} can be neither copied nor pickled; {self._instead}")
