"""Vectors in the memory of the process."""

from __future__ import annotations

from superorm._io import aio
from superorm.exc import ConfigurationError
from superorm.protocols._async.parts import AsyncDataBackend
from superorm.vectors.resident import Resident

__all__ = ["AsyncMemoryVectorIndex"]


class AsyncMemoryVectorIndex:
    """The vector database of a DB in process memory: loaded from the documents at first use, and always exact."""

    kind = "memory"
    uri = "memory://"
    lag = None

    def __init__(self) -> None:
        self.resident = Resident(aio.Lock)
        self._backend: AsyncDataBackend | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def serve(self, backend: AsyncDataBackend) -> None:
        """Bind the index to one data backend. Raises ``ConfigurationError`` where it serves another already."""
        if self._backend is not None and self._backend is not backend:
            raise ConfigurationError("a memory vector index serves one data backend; give each DB its own")
        self._backend = backend

    async def check_server(self) -> None:
        """It asks nothing of a server."""

    async def close(self) -> None:
        """Free the memory."""
        self.resident.clear()
        self._backend = None
