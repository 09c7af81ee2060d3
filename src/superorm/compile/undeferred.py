# pyright: reportPrivateUsage=false
"""Which artifacts to read with the documents of a select."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from superorm.exc import StatementError
from superorm.expr.nodes import Field
from superorm.expr.options import LoadOnly, Undefer
from superorm.expr.sources import class_of
from superorm.expr.statements import Select
from superorm.schema.fields import ArtifactFieldSpec

if TYPE_CHECKING:
    from superorm.compile.compiler import CompiledSelect

__all__ = ["Undeferred", "with_undeferred"]


@frozen
class Undeferred:
    """An artifact field to read of the documents of one column that have it."""

    position: int
    owner: type[Any]
    attribute: str


def with_undeferred(
    statement: Select[Any, Any], compile: Callable[[Select[Any, Any]], CompiledSelect]
) -> CompiledSelect:
    """A select that reads artifacts. Raises `StatementError`."""
    fields = [field for option in statement._options if isinstance(option, Undefer) for field in option.fields]
    others = [option for option in statement._options if not isinstance(option, Undefer)]
    if any(isinstance(option, LoadOnly) for option in others):  # the references are needed beside what it names
        root: Any = statement._root
        own = [Field[Any, Any](root, field._path, field._parts) for field in fields if _has(root, field)]
        others += [LoadOnly(tuple(own))] if own else []
    compiled = compile(statement._with("_options", tuple(others)))
    return evolve(compiled, undeferred=tuple(dict.fromkeys(_placed(compiled, field) for field in fields)))


def _placed(compiled: CompiledSelect, field: Field[Any, Any]) -> Undeferred:
    (part,) = field._parts
    if not isinstance(getattr(part, "spec", None), ArtifactFieldSpec):
        raise StatementError(f"undefer() takes artifact fields, as artifact() declares them, not {field!r}")
    for position, output in enumerate(compiled.outputs):
        if output.kind == "document" and _has(output.entity, field):
            return Undeferred(position, class_of(field._owner), part.attribute)
    raise StatementError(f"undefer({field!r}): documents that have it are not selected")


def _has(source: Any, field: Field[Any, Any]) -> bool:
    """Whether documents of a class, or of an alias, may have the field."""
    owner: Any = field._owner
    if not isinstance(owner, type) or not isinstance(source, type):
        return bool(source == owner)
    return issubclass(source, owner) or issubclass(owner, source)
