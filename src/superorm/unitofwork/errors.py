"""Errors of backends, which know collections, with the class that the user knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superorm.exc import StatementError, SuperormError, ValidationError
from superorm.expr.narrow import is_dict
from superorm.expr.reprs import short_repr
from superorm.schema.mapping import ClassMap
from superorm.schema.parts import storable
from superorm.schema.types.base import Misfit

__all__ = ["key_in", "key_value", "of_class", "too_large"]


def key_in(filter: Mapping[str, Any]) -> Any:
    """The ``_id`` of the one document that a filter is about; None where it is about several."""
    key = filter.get("_id")
    is_condition = is_dict(key) and any(name.startswith("$") for name in key)
    return None if is_condition else key


def too_large(where: str) -> StatementError:
    """The error of a statement that no message to the server can hold."""
    return StatementError(
        f"{where}the statement takes more than 16 MiB, which no server accepts; "
        "give in_() and the like fewer or shorter values, and run several statements"
    )


def of_class(error: SuperormError, mapping: ClassMap) -> SuperormError:
    """The same error, naming the class and, for the keys of the stored document, its attributes."""
    field = error.field and ", ".join(_attributes(path, mapping) for path in error.field.split(", "))
    return type(error)(f"{mapping.name}: {error}", document_class=mapping.cls, key=error.key, field=field)


def _attributes(path: str, mapping: ClassMap) -> str:
    """The path of a field by the names of attributes, as far as the class declares it."""
    fields, names = mapping.fields, list[str]()
    for name in path.split("."):
        part = next((part for part in fields if part.stored == name), None)
        names.append(name if part is None else part.attribute)
        if part is not None or not name.isdigit():  # a position in a list
            embedded: ClassMap | None = getattr(None if part is None else part.embedded, "__superorm__", None)
            fields = () if embedded is None else embedded.fields  # none are known of one of several classes
    return ".".join(names)


def key_value(mapping: ClassMap, key: Any) -> Any:
    """The BSON value of a key of the class. Raises `ValidationError`."""
    try:
        return storable(mapping.key.type.to_bson(key))
    except Misfit as misfit:
        raise ValidationError(
            f"{mapping.name}: {short_repr(key)} cannot be its {mapping.key.attribute}: {misfit.describe()}",
            document_class=mapping.cls,
            key=key,
            field=mapping.key.attribute,
        ) from None
