"""What runs on a data directory, as /proc tells it, and user processes to order about."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

USER = """
import os, signal, sys
from superorm.backends.mongod import lease, open_mongod

signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests in the background ignores
lease.GRACE = float(sys.argv[2])
uses = []
for order in iter(sys.stdin.readline, ""):
    match order.strip():
        case "open":
            uses.append(open_mongod(sys.argv[1]))
            print(uses[-1].uri, flush=True)
        case "close":
            uses.pop().close()
            print("closed", flush=True)
        case "fork":
            if (child := os.fork()) == 0:
                import time
                time.sleep(60)
                os._exit(0)
            print(child, flush=True)
        case "spawn":
            import subprocess
            print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid, flush=True)
        case "exit":
            sys.exit()
"""


def _command(pid: str) -> list[str]:
    try:
        return Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _running(marks: Callable[[list[str]], bool]) -> list[int]:
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and marks(_command(pid))]


def servers(path: Path) -> list[int]:
    """The ids of the mongod processes on the directory; zombies have no command line."""
    return _running(lambda c: c[0].endswith("mongod") and str(path) in c if c else False)


def supervisors(path: Path) -> list[int]:
    """The ids of the supervisors on the directory."""
    return _running(lambda c: any(a.endswith("supervisor.py") for a in c) and str(path / ".superorm" / "users") in c)


def everything(path: Path) -> list[int]:
    """The ids of all that superorm started on the directory."""
    return servers(path) + supervisors(path)


def until(condition: Callable[[], bool], *, seconds: float = 15.0, interval: float = 0.03) -> bool:
    """Wait for the condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def kill(*pids: int) -> None:
    """End the processes at once, as far as they have not ended by themselves."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class User:
    """A process that opens and leaves the directory as it is told."""

    def __init__(self, path: Path, *, grace: float = 0.1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(path), str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def order(self, what: str) -> str:
        """Have it do something, and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> User:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def script(code: str, *arguments: object, before: str | None = None) -> str:
    """Run the code in a new interpreter and return what it prints; with `before`, in mounts of its own made by that."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    if before is not None:
        own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        command = [*own, "sh", "-ec", f'{before}\nexec "$@"', "sh", *command]
    with tempfile.TemporaryDirectory() as temporary:  # for sockets that a crash leaves
        environ = {**os.environ, "TMPDIR": temporary}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout
