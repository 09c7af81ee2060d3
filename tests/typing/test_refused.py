"""Wrong code is refused by both type checkers, line by line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from inspect import isfunction, signature
from pathlib import Path
from types import ModuleType

import pytest

from tests.typing import (
    accepted,
    accepted_artifacts,
    accepted_conditions,
    accepted_relationships,
    accepted_sessions,
    accepted_statements,
    accepted_writes,
    functions,
)

ROOT = Path(__file__).resolve().parents[2]
REFUSED = Path(__file__).with_name("refused.py.txt")


@pytest.fixture(scope="module")
def wrong_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrong code as a module."""
    path = tmp_path_factory.mktemp("typing") / "wrong_code.py"
    path.write_text(REFUSED.read_text())
    return path


def expected() -> list[int]:
    """The numbers of the lines that are marked."""
    return [number for number, line in enumerate(REFUSED.read_text().splitlines(), 1) if line.endswith("# refused")]


def mypy(path: Path) -> list[int]:
    """The lines in which mypy finds an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [int(line) for line in re.findall(rf"{path.name}:(\d+): error", printed)]


def pyright(path: Path) -> list[int]:
    """The lines in which pyright finds an error."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found = json.loads(printed)["generalDiagnostics"]
    return [one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"]


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_wrong_code_is_refused(wrong_code: Path, checker: Callable[[Path], list[int]]) -> None:
    """The checker finds an error in each marked line, and in no other."""
    assert expected() == sorted(set(checker(wrong_code)))


@pytest.mark.parametrize(
    "module",
    [
        accepted,
        accepted_artifacts,
        accepted_conditions,
        accepted_relationships,
        accepted_sessions,
        accepted_statements,
        accepted_writes,
        functions,
    ],
)
def test_accepted_code_runs(module: ModuleType) -> None:
    """What needs no session and no object runs as well."""
    own = [one for one in vars(module).values() if isfunction(one) and one.__module__ == module.__name__]
    for function in own:
        if not signature(function).parameters:
            function()
