"""Between PyMongo and a server: answers to one command that do not come, or not whole, or not in time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

__all__ = ["FAULTS", "MongoProxy"]

FAULTS = {
    "refused": "the connection is closed, and the server does not know of the command",
    "hangs": "no answer comes, and the server does not know of the command",
    "slow": "the answer comes just in time",
    "cut": "the connection is closed in the middle of the answer",
    "unsaid": "the server has done it, and the connection is closed before the answer",
    "hangs, but done": "the server has done it, and no answer comes",
}
_PAUSE = 0.1
"""Seconds for which a slow answer is held back."""


class MongoProxy:
    """Listens on a port of its own, and hands every message on to the server."""

    def __init__(self, uri: str) -> None:
        address = urlsplit(uri)
        assert address.hostname is not None
        assert address.port is not None
        self._server = address.hostname, address.port
        self._faults: dict[int, str] = {}
        """By the number of the message that asks."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, fault: str, request: int) -> None:
        """Have the answer to a message that is sent next go wrong."""
        self._faults[request] = fault

    def stop(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for one in client, server:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, target in (client, server), (server, client):
                    threading.Thread(target=self._pass, args=(source, target, source is client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError, EOFError), source, target:
            try:
                while True:
                    head = _read(source, 16)
                    length, number, answered, _ = struct.unpack("<iiii", head)
                    message = head + _read(source, length - 16)
                    fault = self._faults.get(number if asks else answered)
                    if asks:
                        if fault == "refused":
                            return
                        if fault != "hangs":
                            target.sendall(message)
                        continue
                    match fault:
                        case "unsaid":
                            return
                        case "hangs, but done":
                            continue
                        case "cut":
                            target.sendall(message[: len(message) // 2])
                            return
                        case "slow":
                            time.sleep(_PAUSE)
                            target.sendall(message)
                        case _:
                            target.sendall(message)
            finally:
                for one in source, target:
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)


def _read(source: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = source.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
