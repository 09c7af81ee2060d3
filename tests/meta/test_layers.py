"""The rooms of the house: a module imports only from rooms listed before its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "superorm"

PURE = ["exc", "expr", "schema", "compile", "codec", "unitofwork"]
"""The rooms that decide and do no input or output."""

ROOMS = [
    *([room] for room in PURE),
    ["_io"],
    ["config", "s3_address", "urls"],
    ["protocols"],
    ["backends"],
    ["artifacts"],
    ["vectors"],
    ["components"],
    ["_async", "_sync"],
    ["jobs"],
    ["connect"],
    ["__init__"],
    ["services"],
    ["ext"],
    ["cli", "testing"],
]
"""From the ground up; rooms in one list may import one another. ``__init__`` is the package's front door."""

RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

SHELL = {
    *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading"),
    *("gridfs", "http", "pymongo", "socket", "ssl"),
}
"""What no pure room imports. ``bson`` is no part of it."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> list[str]:
    """``src/superorm/expr/nodes.py`` -> ``["superorm", "expr", "nodes"]``; a package ends with ``__init__``."""
    return ["superorm", *path.relative_to(PACKAGE).with_suffix("").parts]


def room(name: list[str]) -> str:
    return name[1] if len(name) > 1 else "__init__"


def imports(tree: ast.AST, importer: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line and dotted name of everything imported at run time, also inside functions."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for other in node.orelse:
                    yield from imports(ast.Module([other], []), importer)
            case ast.Import():
                yield from ((node.lineno, alias.name.split(".")) for alias in node.names)
            case ast.ImportFrom():
                base = importer[: -node.level] if node.level else []
                base = base + (node.module.split(".") if node.module else [])
                yield from ((node.lineno, [*base, alias.name]) for alias in node.names)
            case _:
                yield from imports(node, importer)


def target(name: list[str]) -> str:
    """The room that ``from superorm import expr`` or ``from superorm import select`` reads from."""
    return name[1] if len(name) > 1 and name[1] in RANK else "__init__"


def upward(source: str, importer: list[str]) -> list[str]:
    """The imports that lead from a room to one after it."""
    return [
        f"line {line}: {room(importer)} imports {'.'.join(name)}"
        for line, name in imports(ast.parse(source), importer)
        if name[0] == "superorm" and RANK[target(name)] > RANK[room(importer)]
    ]


def impure(source: str, importer: list[str]) -> list[str]:
    """The imports and calls of a pure room that do input or output."""
    tree = ast.parse(source)
    found = [f"line {line}: imports {'.'.join(name)}" for line, name in imports(tree, importer) if name[0] in SHELL]
    return found + [
        f"line {node.lineno}: calls open()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_to_its_layer(path: Path) -> None:
    """No module imports from a room after its own, and no pure one reaches the outside."""
    name, source = dotted(path), path.read_text(encoding="utf-8")
    assert room(name) in RANK, f"place the room {room(name)!r} in ROOMS"
    assert [] == upward(source, name)
    if room(name) in PURE:
        assert [] == impure(source, name)


@pytest.mark.parametrize(
    ("importer", "source", "found"),
    [
        ("expr.nodes", "from superorm.exc import StatementError", 0),
        ("expr.nodes", "from superorm.expr import literals", 0),
        ("expr.nodes", "from superorm.schema.fields import Field", 1),
        ("expr.nodes", "def f():\n    import superorm.codec.loader", 1),
        ("expr.nodes", "from superorm import select", 1),
        ("expr.nodes", "from ..schema import fields", 1),
        ("expr.__init__", "from .nodes import Expr", 0),
        ("expr.nodes", "if TYPE_CHECKING:\n    from superorm.schema import fields", 0),
        ("expr.nodes", "if TYPE_CHECKING:\n    pass\nelse:\n    from superorm.schema import fields", 1),
        ("_async.db", "from superorm._sync.db import DB", 0),
        ("_async.db", "from superorm.connect import connect", 1),
        ("__init__", "from superorm.connect import connect", 0),
    ],
)
def test_finds_upward_imports(importer: str, source: str, found: int) -> None:
    """The check itself tells upward imports from others."""
    assert found == len(upward(source, ["superorm", *importer.split(".")]))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from bson import ObjectId", 0),
        ("from pymongo import MongoClient", 1),
        ("import threading, socket", 2),
        ("if TYPE_CHECKING:\n    from pymongo.asynchronous.client_session import AsyncClientSession", 0),
        ("def f():\n    return open('x')", 1),
    ],
)
def test_finds_input_and_output(source: str, found: int) -> None:
    """The check itself tells what reaches the outside."""
    assert found == len(impure(source, ["superorm", "expr", "nodes"]))
