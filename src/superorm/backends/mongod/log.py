"""mongod's log: its last lines as text, and what they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

__all__ = ["DISK_FULL", "advice", "last_lines"]

_SHOWN = 8
_WIDTH = 400
_TAIL = 256 * 1024  # bytes read from the end: a backtrace is long
_PACKAGES = {"libcurl.so": "libcurl4", "libssl.so": "libssl3", "libcrypto.so": "libssl3", "liblzma.so": "liblzma5"}

DISK_FULL = "The disk is full: free some space, or choose another directory."
_ADVICE = (
    (r"No space left on device", DISK_FULL),
    (
        r"DBPathInUse",
        "Another mongod uses this directory: stop it, connect to it (mongodb://...), or choose another directory.",
    ),
    (
        r"unsupported WiredTiger|unsupported upgrade or downgrade|UPGRADE PROBLEM|Wrong mongod version",
        "The data files are of a newer version, or a much older one: set SUPERORM_MONGOD to a mongod of that version.",
    ),
    (
        r"Error parsing command line",
        "This mongod does not know an option that superorm gives: use 6.0 or later.",
    ),
    (r"GLIBC\S* not found|Exec format error", "The binary was built for another system: use one built for this one."),
    (
        r"ended by signal 4 ",
        "The processor lacks instructions that this mongod needs (AVX): use a build for this processor.",
    ),
    (r"ended by signal 9 ", "Something killed it: perhaps the system ran out of memory."),
    (r"Permission denied|Read-only file system", "Check the owner and the mode of the directory and of the binary."),
)


def last_lines(path: Path) -> list[str]:
    """The last lines that matter, as readable text: errors and the very last where there are errors."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = list(_readable(text))
    if any(is_grave for is_grave, _ in lines[:-1]):
        lines = [line for line in lines[:-1] if line[0]] + lines[-1:]
    return [line for _, line in lines[-_SHOWN:]]


def advice(lines: list[str]) -> str | None:
    """What to do about an error that the lines tell of."""
    text = "\n".join(lines)
    if missing := re.search(r"error while loading shared libraries: ([^\s:]+):", text):
        library = missing[1]
        package = next((package for start, package in _PACKAGES.items() if library.startswith(start)), None)
        return f"The library {library} is missing: install " + (
            f"the package {package} (Debian and Ubuntu: apt install {package})." if package else "the package it is in."
        )
    return next((what for pattern, what in _ADVICE if re.search(pattern, text)), None)


def _readable(text: str) -> Iterator[tuple[bool, str]]:
    """Each line once, with whether it tells of trouble; what is not JSON, as from the loader, does."""
    previous = ""
    for line in text.splitlines():
        is_grave, readable = _parse(line)
        if readable and readable != previous:
            yield is_grave, readable
            previous = readable


def _parse(line: str) -> tuple[bool, str]:
    try:
        record: Any = json.loads(line)
        severity, message, attributes = record["s"], record["msg"].strip(), record.get("attr", {})
    except (ValueError, TypeError, KeyError):
        # Not a line of mongod's own, or one for which the disk had no room.
        return (False, "") if line.startswith("{") else (True, line.strip()[:_WIDTH])
    if message in {"BACKTRACE", "Frame"}:
        return False, ""
    return severity in "FE", f"{message} {_detail(attributes)}".strip()[:_WIDTH]


def _detail(attributes: dict[str, Any]) -> str:
    inner = attributes.get("message")  # WiredTiger's messages are records in the record
    if isinstance(inner, dict) and "msg" in inner:
        told = cast("dict[str, Any]", inner)
        return f"{told['msg']} {told.get('error_str', '')}".strip()
    error = attributes.get("error")
    if isinstance(error, str):
        return error
    return json.dumps(attributes) if attributes else ""
