"""A private mongod, from its first user to its last."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
from pymongo import AsyncMongoClient, MongoClient

from superorm.backends.mongod import lease as lease_module
from superorm.backends.mongod import open_mongod
from superorm.exc import MongodError
from tests.mongod.processes import User, everything, servers, supervisors, until


def names(uri: str) -> list[str]:
    """The names stored by earlier `store`s."""
    with MongoClient(uri) as client:
        return sorted(document["name"] for document in client.test.names.find())


def store(uri: str, name: str) -> None:
    """Store a name in a transaction, which takes a replica set's primary."""
    with MongoClient(uri) as client, client.start_session() as session, session.start_transaction():
        client.test.names.insert_one({"name": name}, session=session)


def socket_of(uri: str) -> Path:
    """The path of the socket that the URI names."""
    return Path(unquote(uri.removeprefix("mongodb://").split("/?")[0]))


def test_a_new_directory_becomes_a_replica_set_of_one(data: Path) -> None:
    """The server is writable when open_mongod returns, and says what the lease says."""
    with open_mongod(data) as lease, MongoClient(lease.uri) as client:
        hello = client.admin.command("hello")
        assert ("superorm", True, 1) == (hello["setName"], hello["isWritablePrimary"], len(hello["hosts"]))
        assert client.server_info()["version"] == lease.binary_version
        assert data == lease.path
        store(lease.uri, "first")
        assert ["first"] == names(lease.uri)


async def test_the_uri_serves_the_asynchronous_client(data: Path) -> None:
    """AsyncMongoClient connects with the same URI."""
    with open_mongod(data) as lease:
        async with AsyncMongoClient(lease.uri) as client:
            assert 1.0 == (await client.admin.command("ping"))["ok"]


def test_no_other_user_can_connect(data: Path) -> None:
    """There is one socket, in a directory of mode 0700, and no TCP port."""
    with open_mongod(data) as lease:
        path = socket_of(lease.uri)
        assert 107 >= len(os.fsencode(path))
        assert (0o700, os.geteuid()) == (stat.S_IMODE(path.parent.stat().st_mode), path.parent.stat().st_uid)
        assert 0o700 == stat.S_IMODE(data.stat().st_mode)
        assert ["mongod.sock"] == os.listdir(path.parent)

        (server,) = servers(data)
        links: set[str] = set()
        for descriptor in Path(f"/proc/{server}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                links.add(os.readlink(descriptor))
        inodes = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        assert inodes
        assert not inodes & set(tables.split())


def test_the_data_is_there_the_next_time(data: Path) -> None:
    """A server that stopped is started again with its data, and leaves no socket behind."""
    with open_mongod(data) as lease:
        store(lease.uri, "kept")
    assert until(lambda: not everything(data))
    assert not socket_of(lease.uri).parent.exists()
    with open_mongod(data) as again:
        assert ["kept"] == names(again.uri)


def test_two_processes_share_one_server(data: Path) -> None:
    """The second process finds the first one's server, and keeps it when that one leaves."""
    with User(data) as first, open_mongod(data) as lease:
        assert lease.uri == first.order("open")
        (server,) = servers(data)
        first.order("close")
        assert not until(lambda: not servers(data), seconds=0.6)
        assert [server] == servers(data)


def test_every_lease_of_a_process_counts(data: Path) -> None:
    """The server stays until the last lease is closed; closing one twice closes no other."""
    first, second = open_mongod(data), open_mongod(str(data))
    first.close()
    first.close()
    assert not until(lambda: not servers(data), seconds=0.6)
    assert first.uri == second.uri
    second.close()
    assert until(lambda: not everything(data))


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_the_server_stops_after_a_user_that_did_not_close(data: Path, end: str) -> None:
    """It makes no difference how the last user ends."""
    with User(data) as user:
        store(user.order("open"), end)
        assert (1, 1) == (len(servers(data)), len(supervisors(data)))
        user.order("exit") if end == "exit" else user.kill()
        assert until(lambda: not everything(data))


def test_who_comes_within_the_grace_period_finds_the_server(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving and coming back at once does not restart the server."""
    monkeypatch.setattr(lease_module, "GRACE", 0.8)
    open_mongod(data).close()
    (server,) = servers(data)
    with open_mongod(data):
        assert not until(lambda: not servers(data), seconds=1.2)
        assert [server] == servers(data)


def test_who_comes_while_the_server_stops_waits_and_starts_it_anew(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newcomer never gets the server that is about to go."""
    monkeypatch.setattr(lease_module, "GRACE", 0.0)
    with open_mongod(data) as lease:
        store(lease.uri, "old")
    (server,) = servers(data)
    assert until(lambda: b"shutdown" in (data / ".superorm" / "mongod.log").read_bytes())
    with open_mongod(data) as again:
        assert [server] != servers(data)
        assert ["old"] == names(again.uri)


def test_a_path_longer_than_a_socket_may_have(data: Path) -> None:
    """The socket lies elsewhere, so that the data directory may be anywhere."""
    deep = data / ("d" * 200)
    with open_mongod(deep) as lease:
        store(lease.uri, "deep")
    assert until(lambda: not everything(deep))


def test_a_path_under_the_home_directory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is the user's home directory."""
    monkeypatch.setenv("HOME", str(data.parent))
    with open_mongod("~/data") as lease:
        assert data == lease.path


def test_too_little_time(data: Path) -> None:
    """When the time is over the error says so, and the server that was being started goes too."""
    with pytest.raises(MongodError, match="time is over"):
        open_mongod(data, timeout=0.02)
    assert until(lambda: not everything(data))


def test_a_socket_directory_that_others_can_enter_is_not_used(data: Path, tmp_path: Path) -> None:
    """The recorded place is trusted only while it is the user's own and closed to others."""
    with open_mongod(data):
        pass
    assert until(lambda: not everything(data))
    planted = tmp_path / "planted"
    planted.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(planted / "mongod.sock"))
        listener.listen()
        (data / ".superorm" / "socket").write_text(str(planted))
        with open_mongod(data) as lease:
            assert planted != socket_of(lease.uri).parent
            store(lease.uri, "safe")


def test_a_temporary_directory_with_a_long_path(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket goes to another place when its path would be too long."""
    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with open_mongod(data) as lease:
        assert Path("/tmp") == socket_of(lease.uri).parent.parent
