"""README, CI and documentation say the same as the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from superorm import exc

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = [error for error in vars(exc).values() if isinstance(error, type) and issubclass(error, exc.SuperormError)]


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_has_two_lines() -> None:
    """The first two shell blocks are one line each: the demo, and the tests."""
    demo, tests = blocks("sh")
    assert demo.endswith("nox -s demo\n")
    assert tests.endswith("nox\n")
    assert [1, 1] == [demo.count("\n"), tests.count("\n")]


def test_ci_takes_its_line_from_the_readme() -> None:
    """What .ci/run reads is the README's second line."""
    (script,) = re.findall(r"^line=\$\((awk .*)\)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    line = subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert blocks("sh")[1] == line


def test_readme_example_runs(tmp_path: Path) -> None:
    """The example finds the nearer movie first and prints its pipeline."""
    (tmp_path / "example.py").write_text(blocks("python")[0])
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "" == run.stderr
    first, second, *pipeline = run.stdout.splitlines()
    assert ["Heat", "Up"] == [first.split()[-1], second.split()[-1]]
    assert "$match" in "".join(pipeline)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_error_is_documented(error: type[exc.SuperormError]) -> None:
    """Each error has a code of its own and stands under it in the reference, and in the tree."""
    reference = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    assert [error] == [other for other in ERRORS if other.code == error.code]
    assert f"({error.code})=\n## `{error.code}`\n\n`{error.__name__}`" in reference
    assert error.__name__ in exc.__all__
    assert error.__doc__
    assert re.search(rf"^\W*{error.__name__}\b", exc.__doc__ or "", re.MULTILINE)
