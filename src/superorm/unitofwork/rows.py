"""Found documents to rows of what was selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from superorm.compile.compiler import CompiledSelect, parts_of
from superorm.exc import UnsupportedError
from superorm.expr.nodes import Field, Score
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.state import mismatch
from superorm.schema.types.base import Misfit
from superorm.unitofwork.result import Row, row_class

__all__ = ["rows_of"]


def rows_of(
    compiled: CompiledSelect,
    found: Sequence[dict[str, Any]],
    scores: Sequence[float] | None,
    load: Callable[[ClassMap, Sequence[dict[str, Any]]], list[Any]],
) -> list[Row]:
    """One row for each document; `load` gives the objects of whole documents.

    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    names: list[str] = []
    columns: list[Sequence[Any]] = []
    for entity in compiled.entities:
        if isinstance(entity, Score):
            names.append("score")
            columns.append(scores or ())
        elif isinstance(entity, Field):
            parts = parts_of(entity)
            names.append(parts[-1].attribute)
            columns.append([_value(compiled.mapping, parts, document) for document in found])
        else:
            names.append(entity.__name__)
            columns.append(load(compiled.mapping, found))
    kind = row_class(names)
    return [kind(values) for values in zip(*columns, strict=True)]


def _value(mapping: ClassMap, parts: Sequence[MappedField], document: dict[str, Any]) -> Any:
    """The value of a field of a document, or of a part of an embedded one.

    Where its key is missing it is the field's default, and None where there is no embedded document.
    """
    value: Any = document
    for part in parts:
        if isinstance(value, list):
            path = ".".join(part.attribute for part in parts)
            raise UnsupportedError(f"{mapping.name}: {path} goes through a list; select the list instead")
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(part.stored, MISSING)
    try:
        return parts[-1].missing()[0] if value is MISSING else parts[-1].type.from_bson(value)
    except Misfit as misfit:
        path = ".".join(part.stored for part in parts)
        raise mismatch(mapping, document.get("_id"), misfit.within(path)) from None
