"""What vector engines raise to the code that keeps them."""

from __future__ import annotations

from superorm.exc import SuperormError

__all__ = ["EngineBusy", "VersionLost"]


class VersionLost(SuperormError):
    """A table cannot be read at a version: the copy is damaged or gone, and is to be built anew."""

    code = "version-lost"


class EngineBusy(SuperormError):
    """Another writer holds the index's lock for longer than the caller waits."""

    code = "engine-busy"
