"""Runs one mongod for as long as anybody uses it.

A program of its own, started by its path: it imports the standard library only, and little of it.
Arguments: the users' lock file, the descriptors of the server's and the supervisor's locks (both held),
the seconds to wait for new users, the socket's directory, and mongod's command line.
What mongod and the supervisor print goes to the log.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import sys
import threading
import time

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 60.0


def main(users: str, server: str, supervisor: str, grace: str, directory: str, *command: str) -> None:
    """Detach from the process that starts us, run mongod, and stop it when its last user has gone."""
    users_lock = os.open(users, os.O_RDWR | os.O_CLOEXEC)
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.set_inheritable(int(supervisor), False)  # mongod keeps the server's lock only
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    mongod = spawn(directory, command)

    def stop(*_: object) -> None:
        os.kill(mongod, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    unused = threading.Event()
    threading.Thread(target=stop_when_unused, args=(mongod, users_lock, float(grace), unused), daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(mongod, 0)[1])
    if not unused.is_set():
        how = f"was ended by signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"exited with {status}"
        print(f'{{"s": "I", "msg": "mongod {how}"}}', flush=True)
    with contextlib.suppress(OSError):  # after a crash the socket is there: its clients will look for it
        os.rmdir(directory)
    os._exit(0)


def spawn(directory: str, command: tuple[str, ...]) -> int:
    """Start mongod in the socket's directory, such that it does not outlive this process; return its process id."""
    library = ctypes.CDLL(None)  # loaded before the fork
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        if sys.platform == "linux":
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            os.chdir(directory)
            os.execv(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", flush=True)
    finally:
        os._exit(127)


def stop_when_unused(mongod: int, users_lock: int, grace: float, unused: threading.Event) -> None:
    """Stop mongod once nobody holds the users' lock, and has not for `grace` seconds; keep newcomers waiting then."""
    while True:
        fcntl.flock(users_lock, fcntl.LOCK_EX)
        fcntl.flock(users_lock, fcntl.LOCK_UN)
        time.sleep(grace)
        try:
            fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        break
    unused.set()
    os.kill(mongod, signal.SIGTERM)
    time.sleep(_STOP_SECONDS)  # the process ends with mongod, long before
    os.kill(mongod, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
