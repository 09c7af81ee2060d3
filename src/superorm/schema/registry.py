"""The classes that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.schema.vector_fields import declared

__all__ = ["Registry", "default_registry"]


class Registry:
    """Document classes by qualified name; a class defined again under the same name replaces the old one."""

    def __init__(self) -> None:
        self._classes: dict[str, ClassMap] = {}

    def add(self, mapping: ClassMap) -> None:
        self._classes[f"{mapping.cls.__module__}.{mapping.cls.__qualname__}"] = mapping
        mapping.registry = self
        declared(mapping)

    def find(self, name: str) -> ClassMap | None:
        """The class of a qualified name, ``module.Class``; None where there is none."""
        return self._classes.get(name)

    def __reduce__(self) -> Any:
        """Pickled without its classes: those that are pickled by value enter themselves where they are loaded."""
        return "default_registry" if self is default_registry else (Registry, ())

    def __iter__(self) -> Iterator[ClassMap]:
        return iter(list(self._classes.values()))


default_registry = Registry()
"""The registry of `Document` itself."""
