"""mongod's log as text."""

from __future__ import annotations

import json
from pathlib import Path

from superorm.backends.mongod.log import advice, last_lines


def record(severity: str, text: str, /, **attributes: object) -> str:
    """A line as mongod writes it."""
    return json.dumps({"t": {"$date": "2026-01-01T00:00:00Z"}, "s": severity, "msg": text, "attr": attributes})


def test_errors_come_before_whatever_else_was_said(tmp_path: Path) -> None:
    """Errors and the very last line; without errors the last lines."""
    calm = [record("I", f"calm {number}") for number in range(20)]
    log = tmp_path / "log"
    log.write_text("\n".join(calm))
    assert [f"calm {number}" for number in range(12, 20)] == last_lines(log)
    log.write_text("\n".join([record("E", "bad", error="DiskLost: gone"), *calm]))
    assert ["bad DiskLost: gone", "calm 19"] == last_lines(log)


def test_lines_of_all_kinds(tmp_path: Path) -> None:
    """Nested messages, plain lines, repetitions, backtraces, and a line for which there was no room."""
    log = tmp_path / "log"
    nested = record("E", "WiredTiger error message", message={"msg": "cannot write", "error_str": "No space left"})
    frame = record("F", "Frame", frame={"a": "55"})
    log.write_text(
        "\n".join(["mongod: plain", nested, nested, frame, record("F", "Terminating", code=5), '{"t": {"$d'])
    )
    expected = ["mongod: plain", "WiredTiger error message cannot write No space left", 'Terminating {"code": 5}']
    assert expected == last_lines(log)


def test_no_log(tmp_path: Path) -> None:
    """Where there is no log there are no lines, and nothing to advise."""
    assert [] == last_lines(tmp_path / "log")
    assert advice([]) is None


def test_the_advice_for_a_library_that_nobody_foresaw() -> None:
    """The library is named, even if its package is not known."""
    told = advice(["mongod: error while loading shared libraries: libodd.so.1: cannot open shared object file"])
    assert "The library libodd.so.1 is missing: install the package it is in." == told
