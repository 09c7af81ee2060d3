"""Commands over mongod's Unix socket without a client: no threads to start, and no heartbeat to wait for."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bson

__all__ = ["Connection"]

_OP_MSG = 2013
_HEADER = struct.Struct("<iiii")  # length, request id, response to, kind of message


class Connection:
    """A connection to the mongod that listens at `path`; raises OSError where none does."""

    def __init__(self, path: Path, *, timeout: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._replies = self._socket.makefile("rb")

    def command(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run a command on the database ``admin`` and return its reply, errors too."""
        body = b"\0\0\0\0\0" + bson.encode({**command, "$db": "admin"})
        self._socket.sendall(_HEADER.pack(_HEADER.size + len(body), 1, 0, _OP_MSG) + body)
        length: int = _HEADER.unpack(self._read(_HEADER.size))[0]
        return bson.decode(self._read(length - _HEADER.size)[5:])  # pyright: ignore[reportUnknownMemberType]

    def _read(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise ConnectionResetError("mongod closed the connection")
        return data

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._socket.close()
