"""Mappings of what is stored: read when it is asked for, and streamed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import abc
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

__all__ = ["AsyncMapping", "Mapping"]


class Mapping(abc.Mapping[Any, Any]):
    """A mapping that streams its keys and items, and counts them."""

    @abstractmethod
    def count(self) -> int:
        """How many there are."""

    @abstractmethod
    def stream_keys(self) -> Generator[Any]:
        """The keys."""

    @abstractmethod
    def stream(self) -> Generator[tuple[Any, Any]]:
        """The keys with the values."""

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[Any]:
        return self.stream_keys()

    def items(self) -> abc.ItemsView[Any, Any]:
        """The items, streamed."""
        return _Items(self)

    def values(self) -> abc.ValuesView[Any]:
        """The values, streamed."""
        return _Values(self)


class _Items(abc.ItemsView[Any, Any]):
    _mapping: Mapping

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.stream()


class _Values(abc.ValuesView[Any]):
    _mapping: Mapping

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.stream())


class AsyncMapping(ABC):
    """The asynchronous twin: ``await mapping[key]``, ``async for key in mapping``, ``await mapping.count()``."""

    @abstractmethod
    async def __getitem__(self, key: Any) -> Any: ...

    @abstractmethod
    async def count(self) -> int:
        """How many there are."""

    @abstractmethod
    def stream_keys(self) -> AsyncGenerator[Any]:
        """The keys."""

    @abstractmethod
    def stream(self) -> AsyncGenerator[tuple[Any, Any]]:
        """The keys with the values."""

    async def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default."""
        try:
            return await self[key]
        except KeyError:
            return default

    def __aiter__(self) -> AsyncGenerator[Any]:
        return self.stream_keys()

    def items(self) -> AsyncGenerator[tuple[Any, Any]]:
        """The items, streamed."""
        return self.stream()
