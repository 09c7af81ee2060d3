"""Codecs whose bytes run no code: bytes as they are, and numpy's own file format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from superorm.exc import ArtifactSavingError

__all__ = ["BytesCodec", "NpyCodec"]


@frozen
class BytesCodec:
    """Bytes, as they are."""

    name: str = "bytes"
    version: int = 1
    carries_code: bool = False

    def encode(self, value: Any) -> bytes:
        """The bytes themselves. Raises ``ArtifactSavingError`` for anything else."""
        if not isinstance(value, bytes):
            raise ArtifactSavingError(f"the codec bytes stores bytes, not {type(value).__qualname__}")
        return value

    def decode(self, data: bytes) -> bytes:
        """The bytes themselves."""
        return data


@frozen
class NpyCodec:
    """Numpy arrays, but none of Python objects."""

    name: str = "npy"
    version: int = 1
    carries_code: bool = False

    def encode(self, value: Any) -> bytes:
        """The array in numpy's file format. Raises ``ArtifactSavingError`` for what is no such array."""
        if not isinstance(value, np.ndarray):
            raise ArtifactSavingError(f"the codec npy stores numpy arrays, not {type(value).__qualname__}")
        file = io.BytesIO()
        try:
            np.save(file, value, allow_pickle=False)  # pyright: ignore[reportUnknownArgumentType]
        except ValueError as error:
            raise ArtifactSavingError(f"the codec npy cannot store an array of Python objects: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes) -> npt.NDArray[Any]:
        """The array, which is writable."""
        array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        return array
