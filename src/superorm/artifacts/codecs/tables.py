"""The codec for Arrow tables."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from attrs import frozen

from superorm.artifacts.codecs.base import is_a
from superorm.exc import ArtifactSavingError

__all__ = ["ArrowCodec"]


@frozen
class ArrowCodec:
    """Arrow tables, as a file of Arrow's IPC format."""

    name: str = "arrow"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is a table of pyarrow."""
        return is_a(value, "pyarrow.lib", "Table")

    def encode(self, value: Any) -> bytes:
        """The table with its schema. Raises ``ArtifactSavingError`` for anything else."""
        if not self.takes(value):
            raise ArtifactSavingError(f"the codec arrow stores Arrow tables, not {type(value).__qualname__}")
        pa: Any = import_module("pyarrow")

        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, value.schema) as writer:
            writer.write_table(value)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def decode(self, data: bytes) -> Any:
        """The table, whose columns are those bytes: nobody vouches for them, so none may point beyond its end."""
        pa: Any = import_module("pyarrow")

        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        return table
