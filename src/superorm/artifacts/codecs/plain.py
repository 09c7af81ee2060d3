"""Codecs whose bytes run no code and need nothing else: bytes, text, JSON, and numpy's own file format."""

from __future__ import annotations

import io
import json
from math import isfinite
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from attrs import frozen

from superorm.exc import ArtifactSavingError

__all__ = ["BytesCodec", "JsonCodec", "NpyCodec", "TextCodec"]

_DEPTH = 100
"""So many levels of lists and dicts are JSON by default; what holds itself has more."""


@frozen
class BytesCodec:
    """Bytes, as they are."""

    name: str = "bytes"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is bytes."""
        return value.__class__ is bytes

    def encode(self, value: Any) -> bytes:
        """The bytes themselves. Raises ``ArtifactSavingError`` for anything else."""
        if not isinstance(value, bytes):
            raise ArtifactSavingError(f"the codec bytes stores bytes, not {type(value).__qualname__}")
        return value

    def decode(self, data: bytes) -> bytes:
        """The bytes themselves."""
        return data


@frozen
class TextCodec:
    """Text, in UTF-8."""

    name: str = "text"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is text that has an encoding."""
        return value.__class__ is str and _is_unicode(value)

    def encode(self, value: Any) -> bytes:
        """The text. Raises ``ArtifactSavingError`` for anything else, and for surrogates without their other half."""
        if not isinstance(value, str) or not _is_unicode(value):
            raise ArtifactSavingError(
                f"the codec text stores Unicode text, not {type(value).__qualname__} {value!r:.40}"
            )
        return value.encode()

    def decode(self, data: bytes) -> str:
        """The text."""
        return data.decode()


@frozen
class JsonCodec:
    """Lists and dicts of plain values, as JSON."""

    name: str = "json"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is a list or dict that comes back as it was: no tuples, no keys but text, nothing not finite."""
        return value.__class__ in (list, dict) and _is_plain(value, _DEPTH)

    def encode(self, value: Any) -> bytes:
        """The value as JSON. Raises ``ArtifactSavingError`` for what JSON does not have."""
        try:
            return json.dumps(value, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            name = type(value).__qualname__
            raise ArtifactSavingError(f"the codec json cannot store this {name}: {error}") from error

    def decode(self, data: bytes) -> Any:
        """The value."""
        return json.loads(data)


@frozen
class NpyCodec:
    """Numpy arrays, but none of Python objects."""

    name: str = "npy"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is an array, of no subclass and of no Python objects."""
        return value.__class__ is np.ndarray and not value.dtype.hasobject

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
        array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        return array


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else True


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value is of JSON's types exactly."""
    kind = value.__class__
    if kind is float:
        return isfinite(cast("float", value))
    if kind is int:
        return -(1 << 63) <= cast("int", value) < 1 << 63
    if kind is list:
        return depth > 0 and all(_is_plain(item, depth - 1) for item in cast("list[object]", value))
    if kind is dict:
        items = cast("dict[object, object]", value).items()
        return depth > 0 and all(key.__class__ is str and _is_plain(item, depth - 1) for key, item in items)
    return value is None or kind in (str, bool)
