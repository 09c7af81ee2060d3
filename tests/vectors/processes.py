"""Processes of tests: forked from one that has imported what they need, driven over a pipe, killed at any moment."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

import pymongo
from pymongo import monitoring

from tests.vectors.peer import Fate, Peer, Place

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.vectors.processes"])
warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)  # nothing of it is in use in the server


def started(function: Callable[..., None], *args: Any) -> tuple[Any, Connection]:
    """A process that runs the function with one end of a pipe and the arguments, and the other end."""
    near, far = CONTEXT.Pipe()
    process = CONTEXT.Process(target=function, args=(far, *args), daemon=True)
    process.start()
    far.close()
    return process, near


def settle(client: pymongo.MongoClient[Any], app: str) -> None:
    """Wait until the server is done with what a dead process sent, and end its transactions.

    These would keep their documents locked for a minute.
    """
    mine = [
        {"$currentOp": {"allUsers": True, "idleConnections": True, "idleSessions": True}},
        {"$match": {"appName": app}},
    ]
    deadline = time.monotonic() + 30
    while True:
        entries = list(client.admin.aggregate(mine))
        open_transactions = [{"id": one["lsid"]["id"]} for one in entries if one["type"] == "idleSession"]
        if not entries:
            return
        if len(open_transactions) == len(entries):
            client.admin.command("killSessions", open_transactions)
        assert time.monotonic() < deadline, entries
        time.sleep(0.01)


def serve(pipe: Connection, place: Place, app: str) -> None:
    """Do what comes over the pipe, until it is closed."""
    monitoring.register(Fate())
    peer = Peer(place, app)
    while True:
        try:
            name, *args = pipe.recv()
        except EOFError:
            peer.close()
            return
        try:
            pipe.send((True, peer.do(name, *args)))
        except Exception:  # noqa: BLE001 - it is shown by the process that asked
            pipe.send((False, traceback.format_exc()))


class Died(Exception):
    """The process was killed before it could answer."""


class RemotePeer:
    """A `Peer` in a process of its own."""

    def __init__(self, place: Place, client: pymongo.MongoClient[Any]) -> None:
        self._place, self._client = place, client
        self._app = f"peer-{uuid4().hex[:12]}"
        self._process, self._pipe = started(serve, place, self._app)

    def do(self, name: str, *args: Any) -> Any:
        """What the peer answers. Raises `Died`, after which the server has settled."""
        try:
            self._pipe.send((name, *args))
            done, answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            assert -signal.SIGKILL == self._process.exitcode
            settle(self._client, self._app)
            raise Died from None
        assert done, answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(30)
        assert 0 == self._process.exitcode
