"""The data directory and the socket's directory: both the user's own, and closed to others."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from superorm.exc import MongodError

__all__ = ["SOCKET", "DataDirectory"]

SOCKET = "mongod.sock"
_LONGEST = 103  # bytes that the path of a Unix socket may have, on every system


class DataDirectory:
    """A data directory of mongod's, with what superorm keeps beside mongod's files in ``.superorm``."""

    def __init__(self, path: Path) -> None:
        """Make the directory if there is none; raises OSError, or MongodError where others could meddle."""
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise MongodError(
                f"{path} belongs to user {status.st_uid}, and this process runs as user {os.geteuid()}: "
                "a private mongod runs in a directory of one's own. Choose another directory."
            )
        if status.st_mode & 0o022:
            if any(path.iterdir()):
                raise MongodError(f"other users may write to {path}: run chmod go-w on it, or choose another directory")
            path.chmod(0o700)
        self.control = path / ".superorm"
        self.control.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(self.control):
            raise MongodError(
                f"{self.control} must be a directory of one's own with mode 0700: remove it, or choose another"
            )
        self.users = self.control / "users"
        self.server = self.control / "server"
        self.supervisor = self.control / "supervisor"
        self.log = self.control / "mongod.log"

    def new_log(self) -> int:
        """Put the last log aside, and open a new one to append to."""
        if self.log.exists():
            self.log.replace(self.control / "mongod.1.log")
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def socket(self) -> Path | None:
        """The path of the running server's socket, if it can be trusted."""
        try:
            directory = Path(os.fsdecode((self.control / "socket").read_bytes()))
        except FileNotFoundError:
            return None
        return directory / SOCKET if directory.is_absolute() and _is_private(directory) else None

    def new_socket(self) -> Path:
        """The path for a new server's socket: the last one's if it is left over, so that its clients find it again.

        The caller holds the server's lock.
        """
        socket = self.socket()
        if socket is not None:
            try:
                socket.unlink(missing_ok=True)
            except OSError:  # not a socket, so not ours
                socket = None
        if socket is None:
            socket = _make_directory() / SOCKET
            record = self.control / "socket.new"
            record.write_bytes(os.fsencode(socket.parent))
            record.replace(self.control / "socket")
        return socket


def _is_private(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _make_directory() -> Path:
    parents = [tempfile.gettempdir(), "/tmp", os.environ.get("XDG_RUNTIME_DIR", "/tmp")]
    problems: list[str] = []
    for parent in dict.fromkeys(parents):
        if len(os.fsencode(f"{parent}/superorm-12345678/{SOCKET}")) > _LONGEST:
            problems.append(f"{parent}: the path is too long for a Unix socket")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="superorm-", dir=parent))
        except OSError as error:
            problems.append(f"{parent}: {error.strerror}")
    raise MongodError(f"no place for mongod's Unix socket ({'; '.join(problems)}): set TMPDIR to a short path")
