"""Who has records open: processes, and whether one of them is known to be dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from bson import ObjectId

__all__ = ["is_dead", "open_here", "owner"]

open_here: set[ObjectId] = set()
"""The records that this process has open."""


def owner() -> str:
    """This process: host, number and start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def is_dead(record: ObjectId, name: str | None) -> bool:
    """Whether the owner of an open record is known to be dead, or known to have left it open."""
    if name == owner():
        return record not in open_here
    host, _, rest = (name or "").rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    return _start(int(rest)) != (name or "").rpartition(":")[2]


def _start(pid: int) -> str:
    """When the process began, by the kernel's clock; empty where there is none or the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:
        return ""
    return ""
