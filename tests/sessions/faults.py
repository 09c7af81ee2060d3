"""Faults that a server makes on demand, and what it and the clients of this process hold open."""

from __future__ import annotations

import gc
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.synchronous.client_session import ClientSession

APP = "faulty"
"""The name of the application whose commands fail."""

FAULTS: dict[str, dict[str, Any]] = {
    "transient": {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    "network": {"closeConnection": True},
    "conflict": {"errorCode": 112},
    "time-out": {"errorCode": 50},
    "not primary": {"errorCode": 10107},
    "unknown result": {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
}
COMMANDS = ["insert", "find", "aggregate", "update", "delete", "commitTransaction"]
PASSING = {"transient", "network", "conflict", "not primary"}
"""Those that MongoDB calls transient inside a transaction; those of a commit that it says to repeat are these too."""
SHORT = {
    *((fault, "once") for fault in FAULTS if fault != "network"),
    ("conflict", "always"),
    ("unknown result", "always"),
}
"""Those of the short run: with each fault of the network a client looks for the primary for half a second."""

Mode = Literal["once", "always"]


def cases() -> list[tuple[str, str]]:
    """Each fault with each command in which it occurs."""
    found = [(fault, command) for fault in FAULTS for command in COMMANDS]
    return [(fault, command) for fault, command in found if fault != "unknown result" or command == COMMANDS[-1]]


def failing(uri: str, fault: str, command: str, mode: Mode) -> AbstractContextManager[None]:
    """A block in which the command fails, the first time or whenever it is sent."""
    return _failing(uri, FAULTS[fault], [command], "alwaysOn" if mode == "always" else {"times": 1})


def failing_write(
    uri: str, fault: str, number: int, commands: Sequence[str] = ("insert", "update", "delete")
) -> AbstractContextManager[None]:
    """A block in which the commands that write, or others, fail after the first so many."""
    return _failing(uri, FAULTS[fault], list(commands), {"skip": number} if number else "alwaysOn")


@contextmanager
def _failing(uri: str, fault: dict[str, Any], commands: list[str], when: Any) -> Generator[None]:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        data = {"failCommands": commands, "appName": APP, **fault}
        client.admin.command({"configureFailPoint": "failCommand", "mode": when, "data": data})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def given_up(fault: str, command: str, mode: Mode) -> bool:
    """Whether a transaction is left open that the client may not abort, since it tried to commit it.

    Either it does not know what became of it, or the server said that it had ended it, which here is not true.
    The server ends it after a minute.
    """
    return command == "commitTransaction" and (mode == "always" or fault in ("time-out", "transient", "conflict"))


def end_given_up(uri: str) -> None:
    """End the transactions that clients have given up."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("killAllSessions", [])


def nothing_open(uri: str) -> None:
    """No transaction is open on the server, and no server session of this process is in use."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        status = client.admin.command("serverStatus")["transactions"]
    assert 0 == status["currentOpen"], status
    kinds = (ClientSession, AsyncClientSession)
    sessions = [one for one in gc.get_objects() if type(one) in kinds and not one._implicit]
    assert [] == [session for session in sessions if not session.has_ended]
