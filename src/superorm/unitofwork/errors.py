"""Errors of backends, which know collections, with the class that the user knows."""

from __future__ import annotations

from typing import Any

from superorm.exc import SuperormError, ValidationError
from superorm.schema.mapping import ClassMap
from superorm.schema.parts import storable
from superorm.schema.types.base import Misfit

__all__ = ["key_value", "of_class"]


def of_class(error: SuperormError, mapping: ClassMap) -> SuperormError:
    """The same error, naming the class."""
    return type(error)(f"{mapping.name}: {error}", document_class=mapping.cls, key=error.key, field=error.field)


def key_value(mapping: ClassMap, key: Any) -> Any:
    """The BSON value of a key of the class. Raises `ValidationError`."""
    try:
        return storable(mapping.key.type.to_bson(key))
    except Misfit as misfit:
        raise ValidationError(
            f"{mapping.name}: {key!r:.80} cannot be its {mapping.key.attribute}: {misfit.describe()}",
            document_class=mapping.cls,
            key=key,
            field=mapping.key.attribute,
        ) from None
