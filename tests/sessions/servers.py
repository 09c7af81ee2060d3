"""MongoDB servers of the tests' own: one with fail points, and sets of three members."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from superorm.backends.mongod import find_mongod

_SETTINGS = {"electionTimeoutMillis": 1500, "heartbeatIntervalMillis": 300, "heartbeatTimeoutSecs": 2}


def free_ports(number: int) -> list[int]:
    """TCP ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]


class Member:
    """A mongod on a port of 127.0.0.1, in a replica set or alone."""

    def __init__(self, path: Path, port: int, *parameters: str, alone: bool = False) -> None:
        self.path = path
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._alone = alone
        self._parameters = ["diagnosticDataCollectionEnabled=false", *parameters]
        path.mkdir()
        self.start()

    def start(self) -> None:
        """Start it, over the data it left."""
        command = [str(find_mongod()), "--dbpath", str(self.path), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket"]
        command += [] if self._alone else ["--replSet", "tests", "--oplogSize", "64"]
        command += ["--wiredTigerCacheSizeGB", "0.25", "--quiet", "--logpath", str(self.path / "log"), "--logappend"]
        for parameter in self._parameters:
            command += ["--setParameter", parameter]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, stopped or not."""
        self.process.kill()
        self.process.wait()

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A client of this member alone."""
        return pymongo.MongoClient(
            self.address, directConnection=True, serverSelectionTimeoutMS=20_000, socketTimeoutMS=10_000
        )


def wait_primary(members: list[Member], *, seconds: float = 40.0) -> Member:
    """The member that takes writes, as soon as there is one among them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for member in members:
            with contextlib.suppress(PyMongoError), member.client() as client:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return member
        time.sleep(0.05)
    raise AssertionError("no member became primary")


def wait_data(member: Member, *, seconds: float = 120.0) -> None:
    """Until it follows a primary, or is one: after it was started again it may have to roll back first."""
    deadline = time.monotonic() + seconds
    with member.client() as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(PyMongoError):  # a rollback closes connections
                hello = client.admin.command("hello")
                if hello["secondary"] or hello["isWritablePrimary"]:
                    return
            time.sleep(0.05)
    raise AssertionError(f"{member.address} holds no data to read")


@contextmanager
def replica_set(path: Path, size: int, *parameters: str) -> Generator[list[Member]]:
    """Members that have a primary, each in a directory under the path; they end with the block."""
    members: list[Member] = []
    try:
        for number, port in enumerate(free_ports(size)):
            members.append(Member(path / str(number), port, *parameters))
        hosts = [{"_id": number, "host": member.address} for number, member in enumerate(members)]
        for member in members:
            with member.client() as client:
                client.admin.command("ping")
        with members[0].client() as client:
            client.admin.command("replSetInitiate", {"_id": "tests", "members": hosts, "settings": _SETTINGS})
        wait_primary(members)
        yield members
    finally:
        for member in members:
            member.kill()


@contextmanager
def standalone(path: Path, *parameters: str) -> Generator[Member]:
    """A server without transactions, with its data under the path; it ends with the block."""
    member = Member(path / "alone", *free_ports(1), *parameters, alone=True)
    try:
        with member.client() as client:
            client.admin.command("ping")
        yield member
    finally:
        member.kill()


def step_down(member: Member) -> None:
    """Have the primary step down, once another member can follow it; whoever is no primary any more stays as it is."""
    with member.client() as client:
        for _ in range(50):
            try:
                client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=3)
            except OperationFailure as error:
                if error.code == 10107:
                    return
                time.sleep(0.1)
            except PyMongoError:
                return
            else:
                return
    raise AssertionError("the primary did not step down")


def name_successor(members: list[Member], primary: Member) -> Member:
    """Have one member follow the primary when it is frozen, and the last one, which is returned, replicate from that.

    Otherwise the last one may hang on the frozen member for 30 s, in which no write has a majority.
    It does not replicate from one that is behind it: the one that is furthest follows.
    """
    others = [member for member in members if member is not primary]
    for member in others:
        wait_data(member)
    with primary.client() as client:
        optimes = {one["name"]: one["optime"]["ts"] for one in client.admin.command("replSetGetStatus")["members"]}
    last, successor = sorted(others, key=lambda member: optimes[member.address])
    deadline = time.monotonic() + 20
    followed = None
    with last.client() as client:
        while True:
            found = client.admin.command("replSetGetStatus")["members"]
            own = next(member for member in found if member.get("self"))
            if own["stateStr"] not in ("PRIMARY", "SECONDARY"):
                wait_data(last)
                deadline, followed = time.monotonic() + 20, None
            elif own.get("syncSourceHost") != successor.address:
                followed = None
                with contextlib.suppress(OperationFailure):
                    client.admin.command("replSetSyncFrom", successor.address)
            elif followed is None:
                followed = own["optime"]["ts"]
            elif followed < own["optime"]["ts"]:  # it has read from there, and stays
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        client.admin.command("replSetFreeze", 60)
    return last


def thaw(member: Member) -> None:
    """Let a member that was frozen, or has stepped down, become primary again; it may be that by now."""
    with member.client() as client:
        try:
            client.admin.command("replSetFreeze", 0)
        except OperationFailure as error:
            if error.code != 95:
                raise
