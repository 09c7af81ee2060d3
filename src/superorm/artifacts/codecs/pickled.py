"""The codec for objects in general: cloudpickle."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

from attrs import frozen

from superorm.exc import ArtifactSavingError

__all__ = ["CloudpickleCodec"]

_PROTOCOL = 5


@frozen
class CloudpickleCodec:
    """Any object that cloudpickle takes: functions and classes of scripts and notebooks too. Decoding runs code."""

    name: str = "cloudpickle"
    version: int = 1
    carries_code: bool = True

    def takes(self, value: Any) -> bool:
        """Any object."""
        return True

    def encode(self, value: Any) -> bytes:
        """The pickled object. Raises ``ArtifactSavingError`` that names the object."""
        try:
            data: bytes = import_module("cloudpickle").dumps(value, protocol=_PROTOCOL)
        except Exception as error:
            name = getattr(value, "__qualname__", None) or f"an object of {type(value).__qualname__}"
            raise ArtifactSavingError(f"{name} cannot be pickled: {type(error).__name__}: {error}") from error
        return data

    def decode(self, data: bytes) -> Any:
        """The object. The bytes must be trusted."""
        return pickle.loads(data)
