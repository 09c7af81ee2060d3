"""The repr of mapped objects."""

from __future__ import annotations

from reprlib import recursive_repr

from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap
from superorm.schema.state import is_shown

__all__ = ["repr_of"]


def repr_of(self: object) -> str:
    """The class, and the fields that are there: neither deleted, nor left out when the object was loaded."""
    return _repr(self)


@recursive_repr("...")
def _repr(instance: object) -> str:
    mapping: object = vars(type(instance)).get("__superorm__")
    if not isinstance(mapping, ClassMap):  # of an abstract class
        return object.__repr__(instance)
    state = vars(instance)
    shown = [part.attribute for part in mapping.fields if part.spec.repr and is_shown(part, state)]
    values = [(name, value) for name in shown if (value := getattr(instance, name, MISSING)) is not MISSING]
    name = type(instance).__qualname__.rsplit(">.", 1)[-1]
    return f"{name}({', '.join([f'{attribute}={value!r}' for attribute, value in values])})"
