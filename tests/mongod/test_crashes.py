"""What is left when processes end the hard way, and how the next user finds it."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from pymongo import MongoClient

from superorm.backends.mongod import open_mongod
from superorm.exc import MongodError
from tests.mongod.processes import User, everything, kill, servers, supervisors, until
from tests.mongod.test_lease import names, socket_of, store


def test_the_server_is_killed(data: Path) -> None:
    """The lease tells, the next open starts a new one, and the old client finds it under the same URI."""
    with open_mongod(data) as lease, MongoClient(lease.uri) as client:
        store(lease.uri, "before")
        lease.check()
        kill(*servers(data))
        assert until(lambda: not everything(data))
        with pytest.raises(MongodError, match="signal 9"):
            lease.check()
        with open_mongod(data) as again:
            assert lease.uri == again.uri
            assert 1 == client.test.names.count_documents({})
            lease.check()


def test_the_supervisor_is_killed(data: Path) -> None:
    """mongod does not outlive its supervisor; who opens meanwhile gets a new server with all data."""
    with open_mongod(data) as lease:
        store(lease.uri, "before")
        old = servers(data)
        kill(*supervisors(data))
        assert until(lambda: not supervisors(data))
        with open_mongod(data) as again:
            assert old != servers(data)
            assert (1, 1) == (len(servers(data)), len(supervisors(data)))
            assert ["before"] == names(again.uri)


def test_both_are_killed(data: Path) -> None:
    """Nothing that was committed is lost, and what the two left lying about disturbs nobody."""
    with open_mongod(data) as lease:
        for number in range(20):
            store(lease.uri, f"{number:02}")
        kill(*servers(data), *supervisors(data))
        assert until(lambda: not everything(data))
    assert (data / "mongod.lock").read_bytes()
    assert socket_of(lease.uri).exists()
    with open_mongod(data) as again:
        assert [f"{number:02}" for number in range(20)] == names(again.uri)


def test_lock_files_that_name_a_living_process(data: Path) -> None:
    """A process id in a file means nothing: it may have been given to another process since."""
    with open_mongod(data) as lease:
        kill(*servers(data), *supervisors(data))
        assert until(lambda: not everything(data))
    for name in ("mongod.lock", ".superorm/users", ".superorm/server", ".superorm/supervisor"):
        (data / name).write_text(f"{os.getpid()}\n")
    with open_mongod(data) as lease:
        store(lease.uri, "alive")


def test_somebody_else_listens_on_the_socket_that_was_left(data: Path) -> None:
    """A left socket is replaced, taken or not: who holds the server's lock owns the place."""
    with open_mongod(data) as lease:
        kill(*servers(data), *supervisors(data))
        assert until(lambda: not everything(data))
    path = socket_of(lease.uri)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with open_mongod(data) as again:
            store(again.uri, "own")


def test_a_place_for_the_socket_that_cannot_be_cleared(data: Path) -> None:
    """Where something else stands in the socket's place, another place is taken."""
    with open_mongod(data) as lease:
        kill(*servers(data), *supervisors(data))
        assert until(lambda: not everything(data))
    path = socket_of(lease.uri)
    path.unlink()
    path.mkdir()
    with open_mongod(data) as again:
        assert lease.uri != again.uri
        store(again.uri, "elsewhere")
    path.rmdir()
    path.parent.rmdir()


def test_a_user_is_killed_while_it_starts_the_server(data: Path) -> None:
    """At whatever moment: nothing is left over, and the next user comes through."""
    for delay in (0.02, 0.08, 0.2, 0.35):
        with User(data) as user:
            assert user.process.stdin is not None
            user.process.stdin.write("open\n")
            user.process.stdin.flush()
            assert until(lambda: bool(supervisors(data)))
            time.sleep(delay)
            user.kill()
        assert until(lambda: not everything(data))
    with open_mongod(data) as lease:
        store(lease.uri, "through")


def test_a_forked_child_does_not_keep_the_server(data: Path) -> None:
    """Neither a forked child nor a program that was started outlives its parent as a user."""
    with User(data) as user:
        user.order("open")
        children = [int(user.order("fork")), int(user.order("spawn"))]
        user.kill()
        assert until(lambda: not everything(data))
        assert [True, True] == [Path("/proc", str(child)).exists() for child in children]
        kill(*children)


def test_a_forked_child_does_not_take_the_server_away(data: Path) -> None:
    """A child that closes its copy of the lease, and ends, leaves the parent's alone; it can open its own."""
    with open_mongod(data) as lease:
        child = os.fork()
        if child == 0:
            lease.close()
            own = open_mongod(data)
            os._exit(0 if own.uri == lease.uri else 1)
        assert 0 == os.waitpid(child, 0)[1]
        assert not until(lambda: not servers(data), seconds=0.6)
        store(lease.uri, "still here")


def test_control_c_in_the_terminal_does_not_reach_the_server(data: Path) -> None:
    """The server is in a session of its own: the interrupt ends the user only, then the server stops in order."""
    with User(data) as user:
        user.order("open")
        (server,) = servers(data)
        (supervisor,) = supervisors(data)
        own = os.getsid(user.process.pid)
        assert own not in {os.getsid(server), os.getsid(supervisor)}
        os.killpg(user.process.pid, signal.SIGINT)
        user.process.wait(timeout=15)
        assert until(lambda: not everything(data))
    assert b"" == (data / "mongod.lock").read_bytes()  # mongod empties it when it stops in order
