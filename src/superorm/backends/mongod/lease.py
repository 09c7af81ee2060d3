"""Use of a private mongod, started if need be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus

from superorm.backends.mongod.binary import find_mongod
from superorm.backends.mongod.directory import SOCKET, DataDirectory
from superorm.backends.mongod.locks import FileLock
from superorm.backends.mongod.log import DISK_FULL, advice, last_lines
from superorm.backends.mongod.wire import Connection
from superorm.exc import MongodError

__all__ = ["MongodLease", "open_mongod", "wait_stopped"]

GRACE = 2.0
"""Seconds that a server without users waits for new ones."""

_POLL = 0.01
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_SET = "superorm"
_HOST = f"./{SOCKET}"  # relative to mongod's working directory: the member is the same wherever the socket lies
_ALREADY_INITIALIZED = 23
_SCARCE = 32 * 1024 * 1024  # bytes: mongod does not run with less for long


class MongodLease:
    """One use of a private mongod; the server runs until its last lease is closed, or its last user has ended.

    `uri` is for MongoClient and AsyncMongoClient alike, `path` the data directory,
    `binary_version` the version that the server says it has.
    A forked child has no part in its parent's lease: it must open one of its own.
    """

    def __init__(self, directory: DataDirectory, users: FileLock, socket: Path, binary_version: str) -> None:
        self._directory = directory
        self._users = users
        self.path = directory.path
        self.uri = f"mongodb://{quote_plus(str(socket))}/?directConnection=true"
        self.binary_version = binary_version

    def close(self) -> None:
        """End the use, at once: the server, if this was its last use, stops a little later by itself."""
        self._users.close()

    def check(self) -> None:
        """Raise MongodError, with the end of the log, if the server has gone: for use when a connection is lost."""
        try:
            with FileLock(self._directory.server) as server:
                if server.try_exclusive():
                    raise MongodError(_failure(self._directory, "mongod has gone"))
        except OSError as error:
            raise MongodError(_unusable(self.path, error)) from error

    def __enter__(self) -> MongodLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MongodLease of {self.path}, mongod {self.binary_version}>"


def open_mongod(path: str | Path, *, binary: str | None = None, timeout: float = 60.0) -> MongodLease:
    """Use the private mongod in the directory `path`, which is started, and made, where there is none.

    Returns once the server is writable, within `timeout` seconds.
    Raises ConfigurationError when there is no `binary`, and MongodError when the server cannot start;
    that ends with the last lines of its log.
    """
    deadline = time.monotonic() + timeout
    command = find_mongod(binary)
    path = Path(path).expanduser().absolute()
    try:
        directory = DataDirectory(path)
        users = FileLock(directory.users)
        try:
            while not users.try_shared():
                _pause(directory, deadline, "the server that ran there before is still stopping")
            socket, version = _writable(directory, command, deadline)
        except BaseException:
            users.close()
            raise
    except OSError as error:
        raise MongodError(_unusable(path, error)) from error
    return MongodLease(directory, users, socket, version)


def wait_stopped(path: str | Path, *, timeout: float = 60.0) -> bool:
    """Wait until no server runs in the directory, as before removing it; False when one still does."""
    deadline = time.monotonic() + timeout
    directory = DataDirectory(Path(path).expanduser().absolute())
    with FileLock(directory.server) as server:
        while not server.try_exclusive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
    return True


def _writable(directory: DataDirectory, command: Path, deadline: float) -> tuple[Path, str]:
    """Wait for a writable server, start it if nobody else does, and return its socket and version."""
    started = False
    while True:
        with FileLock(directory.server) as server:
            if server.try_exclusive():
                if started:
                    raise MongodError(_failure(directory, "mongod did not start"))
                _start(directory, command, server)
                started = True
        with FileLock(directory.supervisor) as supervisor:
            orphaned = supervisor.try_shared()  # mongod is about to follow its dead supervisor
        if not orphaned and (found := _probe(directory)):
            return found
        _pause(directory, deadline, "mongod is not writable yet")


def _start(directory: DataDirectory, command: Path, server: FileLock) -> None:
    """Start a supervisor, and give it the server's lock and its own."""
    socket = directory.new_socket()
    log = directory.new_log()
    try:
        with FileLock(directory.supervisor) as supervisor:
            supervisor.wait_exclusive()  # others may be looking at it
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_SUPERVISOR)),
                    *(str(directory.users), str(server.fd), str(supervisor.fd), str(GRACE), str(socket.parent)),
                    *(str(command), *_options(directory.path)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(server.fd, supervisor.fd),
                start_new_session=True,
            )
            if process.wait():
                raise MongodError(_failure(directory, f"its supervisor, run by {sys.executable}, did not start"))
    finally:
        os.close(log)


def _options(path: Path) -> list[str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    engine = (
        # One commit is one transaction, and has to fit: with the defaults 100 MB do not.
        "eviction_dirty_target=60,eviction_dirty_trigger=80,eviction_updates_target=60,eviction_updates_trigger=80,"
        "session_max=4000,"  # 33,000 by default, and each is cleared at start
        "log=(prealloc=false,file_max=32MB)"  # 300 MB of journal in an empty database otherwise
    )
    return [
        *("--dbpath", str(path), "--replSet", _SET, "--oplogSize", "512"),
        *("--bind_ip", _HOST, "--nounixsocket"),  # no TCP, and no second socket
        *(
            "--wiredTigerCacheSizeGB",
            f"{min(1.0, max(0.25, memory / 4)):.2f}",
            "--wiredTigerEngineConfigString",
            engine,
        ),
        *("--setParameter", "diagnosticDataCollectionEnabled=false", "--quiet", "--slowOpSampleRate", "0"),
    ]


def _probe(directory: DataDirectory) -> tuple[Path, str] | None:
    """The socket and the version of a writable server; makes a new server the primary of its replica set."""
    socket = directory.socket()
    if socket is None:
        return None
    try:
        with Connection(socket) as connection:
            hello = connection.command({"hello": 1})
            if hello.get("isWritablePrimary"):
                return socket, connection.command({"buildInfo": 1})["version"]
            if "setName" not in hello:
                _initiate(connection, directory.path)
    except OSError:  # not listening yet
        return None
    return None


def _initiate(connection: Connection, path: Path) -> None:
    config = {"_id": _SET, "version": 1, "members": [{"_id": 0, "host": _HOST}]}
    if connection.command({"replSetInitiate": config}).get("code") != _ALREADY_INITIALIZED:
        return
    stored: dict[str, Any] = connection.command({"replSetGetConfig": 1}).get("config", config)
    if (stored["_id"], [member["host"] for member in stored["members"]]) != (_SET, [_HOST]):
        raise MongodError(
            f"{path} holds the data of another replica set, {stored['_id']!r}: "
            "start its own mongod and connect with a mongodb:// URL, or choose another directory"
        )


def _pause(directory: DataDirectory, deadline: float, state: str) -> None:
    if time.monotonic() > deadline:
        raise MongodError(_failure(directory, f"{state}, and the time is over"))
    time.sleep(_POLL)


def _failure(directory: DataDirectory, what: str) -> str:
    lines = last_lines(directory.log)
    todo = advice(lines)
    space = os.statvfs(directory.path)
    if todo is None and space.f_bavail * space.f_frsize < _SCARCE:  # the log found no room either
        todo = DISK_FULL
    return "\n".join(
        [
            f"the private mongod in {directory.path}: {what}." + (f" {todo}" if todo else ""),
            f"The last lines of {directory.log}:",
            *(f"  {line}" for line in lines),
        ]
    )


def _unusable(path: Path, error: OSError) -> str:
    reason = "not a directory" if error.errno in (errno.EEXIST, errno.ENOTDIR) else error.strerror
    return f"no private mongod can run in {path}: {error.filename or path}: {reason}. " + (
        "Free some space." if error.errno == errno.ENOSPC else "Choose a directory that you can write to."
    )
