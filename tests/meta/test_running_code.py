"""Where superorm runs code that is data: nowhere but where it has to."""

from __future__ import annotations

import ast
from pathlib import Path

import superorm

ROOT = Path(superorm.__file__).parent
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
CODECS = {"artifacts/codecs/pickled.py", "artifacts/codecs/tensors.py"}
"""They unpickle what `superorm.artifacts.signing` has let through."""
SOURCES = {"schema/scope.py", "schema/sourcegen.py"}
"""They run annotations of classes, and what is generated of these; neither is stored anywhere."""


def names(tree: ast.AST) -> set[str]:
    """All modules that are imported, by `import_module` too, and functions that are called by their names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=imported):
                found |= {one.name.partition(".")[0] for one in imported}
            case ast.ImportFrom(module=str(module)):
                found.add(module.partition(".")[0])
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(module)), *_]):
                found.add(module.partition(".")[0])
            case ast.Call(func=ast.Name(id=name)):
                found.add(f"{name}()")
            case _:
                pass
    return found


def test_code_is_run_in_few_places() -> None:
    """No module but these can unpickle anything, nor run text."""
    used = {str(path.relative_to(ROOT)): names(ast.parse(path.read_text("utf-8"))) for path in ROOT.rglob("*.py")}
    assert len(used) > 300
    assert {path for path, found in used.items() if found & UNPICKLERS} == CODECS
    assert {path for path, found in used.items() if found & {"eval()", "exec()", "__import__()"}} == SOURCES
