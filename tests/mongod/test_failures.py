"""Where a private mongod cannot run: one clear error each, with the end of mongod's log."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from pymongo import MongoClient

from superorm.backends.mongod import find_mongod, open_mongod
from superorm.exc import ConfigurationError, MongodError
from tests.mongod.processes import everything, script, until

OPEN = """
import os, sys
from superorm.backends.mongod import open_mongod
from superorm.exc import MongodError

if len(sys.argv) > 2 and os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open_mongod(sys.argv[1])
except MongodError as error:
    print(error)
"""

FILL = """
import os, sys
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from superorm.backends.mongod import open_mongod
from superorm.exc import MongodError

lease = open_mongod(sys.argv[1])
with MongoClient(lease.uri, serverSelectionTimeoutMS=500) as client:
    try:
        for number in range(200):
            client.test.blobs.insert_one({"blob": os.urandom(1_000_000)})
    except PyMongoError:
        pass
try:
    lease.check()
except MongodError as error:
    print(error)
"""


def refusal(path: Path, binary: Path | None = None) -> str:
    """The error's text; there is no server afterwards."""
    with pytest.raises(MongodError) as caught:
        open_mongod(path, binary=binary and str(binary))
    assert until(lambda: not everything(path))
    return str(caught.value)


def stopped(path: Path) -> Path:
    """A data directory that was used before."""
    open_mongod(path).close()
    assert until(lambda: not everything(path))
    return path


def executable(path: Path, text: str | bytes) -> Path:
    """A program."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o755)
    return path


def test_a_path_under_a_file(tmp_path: Path) -> None:
    """The error names the file."""
    file = tmp_path / "file"
    file.touch()
    assert f"{file / 'below'}: not a directory" in refusal(file / "below")
    assert f"{file}: not a directory" in refusal(file)


def test_a_path_without_write_permission(tmp_path: Path) -> None:
    """An ordinary user cannot make a directory where the permission is missing."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    message = script(OPEN, closed / "data", "as an ordinary user")
    assert f"no private mongod can run in {closed / 'data'}" in message
    assert "Permission denied. Choose a directory that you can write to." in message


def test_a_read_only_file_system(tmp_path: Path) -> None:
    """The error says what it is."""
    message = script(OPEN, tmp_path / "data", before=f"mount -t tmpfs -o ro tmpfs {tmp_path}")
    assert "Read-only file system. Choose a directory that you can write to." in message


def test_a_directory_of_another_user(tmp_path: Path) -> None:
    """Not even root runs its server in somebody else's directory."""
    path = Path("/usr")
    if os.geteuid() == 0:
        path = tmp_path / "other"
        path.mkdir()
        os.chown(path, 65534, 65534)
    assert f"{path} belongs to user" in refusal(path)


def test_a_directory_that_others_may_write_to(data: Path) -> None:
    """One with files is refused; an empty one is closed to others and used."""
    data.mkdir()
    data.chmod(0o777)
    with open_mongod(data):
        assert 0o700 == data.stat().st_mode & 0o777
    assert until(lambda: not everything(data))
    data.chmod(0o777)
    assert f"other users may write to {data}: run chmod go-w" in refusal(data)


def test_a_control_directory_that_others_can_enter(data: Path, tmp_path: Path) -> None:
    """Neither an open one nor a link to one is followed."""
    data.mkdir(mode=0o700)
    (data / ".superorm").mkdir()
    assert "must be a directory of one's own with mode 0700" in refusal(data)
    (data / ".superorm").rmdir()
    (data / ".superorm").symlink_to(tmp_path)
    assert "must be a directory of one's own with mode 0700" in refusal(data)


@pytest.mark.parametrize("size", [16, 128, 400])
def test_a_full_disk_at_the_start(tmp_path: Path, size: int) -> None:
    """On a disk of a few kilobytes mongod does not start; the error says that there is no room."""
    message = script(OPEN, tmp_path / "data", before=f"mount -t tmpfs -o size={size}k tmpfs {tmp_path}")
    assert "No space left on device" in message
    assert re.search("(?i)free some space", message)


def test_a_disk_that_becomes_full(tmp_path: Path) -> None:
    """mongod ends when a disk of 36 MB is full; the lease tells why."""
    message = script(FILL, tmp_path / "data", before=f"mount -t tmpfs -o size=36m tmpfs {tmp_path}")
    assert "mongod has gone. The disk is full: free some space" in message
    assert "No space left on device" in message.split("The last lines")[1]


def test_a_mongod_that_is_not_ours_uses_the_directory(data: Path, tmp_path: Path) -> None:
    """The error says that another mongod is there, which goes on undisturbed."""
    stopped(data)
    arguments = ["--bind_ip", "./other.sock", "--nounixsocket", "--dbpath", str(data)]
    other = subprocess.Popen([find_mongod(), *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        assert until((tmp_path / "other.sock").exists)
        with pytest.raises(MongodError) as caught:
            open_mongod(data)
        assert "Another mongod uses this directory" in str(caught.value)
        assert f"DBPathInUse: Unable to lock the lock file: {data / 'mongod.lock'}" in str(caught.value)
        assert other.poll() is None
    finally:
        other.terminate()
        other.wait()


def test_data_of_another_replica_set(data: Path, tmp_path: Path) -> None:
    """The error names the set; its configuration stays as it is."""
    data.mkdir(mode=0o700)
    arguments = ["--bind_ip", "./other.sock", "--nounixsocket", "--dbpath", str(data), "--replSet", "other"]
    other = subprocess.Popen([find_mongod(), *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert until((tmp_path / "other.sock").exists)
    uri = f"mongodb://{str(tmp_path / 'other.sock').replace('/', '%2F')}/?directConnection=true"
    with MongoClient(uri) as client:
        client.admin.command("replSetInitiate", {"_id": "other", "members": [{"_id": 0, "host": "./other.sock"}]})
        assert until(lambda: bool(client.admin.command("hello")["isWritablePrimary"]))
    other.terminate()
    other.wait()
    assert "holds the data of another replica set, 'other'" in refusal(data)


def test_data_files_of_a_newer_version(data: Path) -> None:
    """The error says that the version does not fit, in WiredTiger's own words too."""
    turtle = stopped(data) / "WiredTiger.turtle"
    turtle.write_text(re.sub(r"major=\d+,minor=\d+", "major=99,minor=0", turtle.read_text()))
    message = refusal(data)
    assert "The data files are of a newer version" in message
    assert "unsupported WiredTiger source file version 99.0" in message


def test_a_missing_library(data: Path, tmp_path: Path) -> None:
    """The dynamic loader's error names the library; ours names the Debian package too."""
    content = find_mongod().read_bytes().replace(b"\0libcurl.so.4\0", b"\0libcurl.so.9\0")
    message = refusal(data, executable(tmp_path / "mongod", content))
    assert "The library libcurl.so.9 is missing: install the package libcurl4" in message
    assert "error while loading shared libraries: libcurl.so.9: cannot open shared object file" in message


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("no program at all", "Exec format error"),
        ("#!/no/such/interpreter", "No such file or directory"),
        ("#!/bin/sh\necho out of order; exit 3", "out of order\n  mongod exited with 3"),
        ("#!/bin/sh\nkill -ILL $$", "mongod was ended by signal 4 (Illegal instruction)"),
        ("#!/bin/sh\nkill -ILL $$", "lacks instructions that this mongod needs"),
        ("#!/bin/sh\nsleep 30", "the time is over"),
    ],
)
def test_a_binary_that_fails_to_start(data: Path, tmp_path: Path, program: str, told: str) -> None:
    """Whatever it did is in the error."""
    binary = executable(tmp_path / "mongod", program)
    with pytest.raises(MongodError, match=re.escape(told)):
        open_mongod(data, binary=str(binary), timeout=1.0)


def test_an_option_that_the_binary_does_not_know(data: Path, tmp_path: Path) -> None:
    """An unfit version of mongod is told apart."""
    binary = executable(tmp_path / "mongod", f'#!/bin/sh\nexec {find_mongod()} "$@" --no-such-option\n')
    assert "does not know an option that superorm gives" in refusal(data, binary)


def test_no_binary(data: Path) -> None:
    """Without a binary nothing is made."""
    with pytest.raises(ConfigurationError):
        open_mongod(data, binary="/no/such/mongod")
    assert not data.exists()


def test_a_failure_is_over_once_its_cause_is(data: Path, tmp_path: Path) -> None:
    """The same directory works after a failed start."""
    refusal(data, executable(tmp_path / "mongod", "#!/bin/sh\nexit 1"))
    with open_mongod(data) as lease, MongoClient(lease.uri) as client:
        assert 1.0 == client.admin.command("ping")["ok"]
