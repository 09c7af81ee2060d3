"""Between boto3 and an S3 server: the calls of one operation are counted, and those that are told to go wrong."""

from __future__ import annotations

import socket
import struct
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FAULTS", "S3Proxy"]

FAULTS = {
    "refused": "the connection is reset before the server knows of the call",
    "error": "the answer is 500, and the server does not know of the call",
    "busy": "the answer is 503, and the server does not know of the call",
    "hangs": "no answer comes, and the server does not know of the call",
    "slow": "the answer comes in pieces, each of them just in time",
    "cut": "the connection is reset in the middle of the answer",
    "short": "half of the body comes, of which nothing says how long it should be",
    "unsaid": "the server has done it, and the connection is reset before the answer",
    "hangs, but done": "the server has done it, and no answer comes",
}
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>as told</Message></Error>"
_PAUSE = 0.1
"""Seconds between the pieces of a slow answer."""


class S3Proxy:
    """Listens on a port of its own, and hands everything on to that of the server."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._fault: tuple[str, int, bool] | None = None
        self.calls: list[str] = []
        """Method and path of each call since `arm`."""
        self.released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def handle_one_request(self) -> None:
                proxy._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that gave up is what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def arm(self, fault: str | None = None, at: int = 0, *, always: bool = False) -> None:
        """Count from 1 again, and have the call of this number go wrong; all that come after it too, with `always`."""
        with self._lock:
            self.calls = []
            self.released.set()  # what hangs still
            self.released = threading.Event()
            self._fault = None if fault is None else (fault, at, always)

    def stop(self) -> None:
        """End it."""
        self.arm()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.raw_requestline = handler.rfile.readline(65537)
        if not handler.raw_requestline or not handler.parse_request():  # which answers "100 Continue"
            return None
        handler.wfile.flush()
        handler.close_connection = False
        body = _body(handler)
        fault, released = self._counted(f"{handler.command} {handler.path}")
        match fault:
            case "refused":
                return _reset(handler)
            case "error" | "busy":
                code, name = (500, b"InternalError") if fault == "error" else (503, b"SlowDown")
                return _send(handler, code, [], _ERROR % name)
            case "hangs":
                released.wait()
                return _reset(handler)
            case _:
                status, headers, answer = self._forward(handler, body)
        match fault:
            case "unsaid":
                return _reset(handler)
            case "hangs, but done":
                released.wait()
                return _reset(handler)
            case "slow":
                return _send(handler, status, headers, answer, pause=_PAUSE)
            case "cut":
                whole = b"HTTP/1.1 %d OK\r\n" % status + b"".join(b"%s: %s\r\n" % header for header in headers)
                whole += b"Content-Length: %d\r\n\r\n" % len(answer) + answer
                handler.wfile.write(whole[: len(whole) - (len(answer) or len(whole)) // 2])
                handler.wfile.flush()
                handler.close_connection = True
                return None
            case "short":
                handler.close_connection = True
                return _send(handler, status, headers, answer[: len(answer) // 2], length=False)
            case _:
                return _send(handler, status, headers, answer)

    def _counted(self, call: str) -> tuple[str | None, threading.Event]:
        with self._lock:
            self.calls.append(call)
            number = len(self.calls)
            if self._fault is None or not (number == self._fault[1] or (self._fault[2] and number > self._fault[1])):
                return None, self.released
            return self._fault[0], self.released

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        server = HTTPConnection("127.0.0.1", self._server_port, timeout=20)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in _OWN}
            server.request(handler.command, handler.path, body, {**headers, "Content-Length": str(len(body))})
            answer = server.getresponse()
            sent = [(name.encode(), value.encode()) for name, value in answer.getheaders() if name.lower() not in _OWN]
            if handler.command == "HEAD" and (length := answer.getheader("Content-Length")):
                sent.append((b"Content-Length", length.encode()))
            return answer.status, sent, answer.read()
        finally:
            server.close()


_OWN = {"connection", "expect", "content-length", "transfer-encoding", "keep-alive"}
"""Headers of one connection, and not of the call."""


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    assert "Transfer-Encoding" not in handler.headers, "boto3 says how long its bodies are"
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    *,
    length: bool = True,
    pause: float = 0,
) -> None:
    head = b"HTTP/1.1 %d OK\r\n" % status + b"".join(b"%s: %s\r\n" % header for header in headers)
    if length and not any(name == b"Content-Length" for name, _ in headers):
        head += b"Content-Length: %d\r\n" % len(body)
    whole = head + b"\r\n" + (b"" if handler.command == "HEAD" else body)
    half = (len(whole) + 1) // 2
    for piece in (whole[:half], whole[half:]) if pause else (whole,):
        time.sleep(pause)
        handler.wfile.write(piece)
        handler.wfile.flush()


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
