"""Where the names in a class's annotations are looked up."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from attrs import define

__all__ = ["Scope"]

_local_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
"""The mapped classes inside functions, by module and qualified name, for annotations that come before them."""


@define
class Scope:
    """Where a class was declared, and so where the names in its annotations are looked up."""

    module: str
    qualname: str
    names: dict[str, Any]
    """Names of the class body and of the function around it that stand in the annotations."""

    @classmethod
    def of(cls, body: Mapping[str, Any], around: Mapping[str, Any]) -> Scope:
        """The scope of a class by its body and the names `around` it."""
        mentioned = set(re.findall(r"\w+", " ".join(map(str, body.get("__annotations__", {}).values()))))
        names = {name: namespace[name] for namespace in (around, body) for name in mentioned & namespace.keys()}
        return cls(body["__module__"], body["__qualname__"], names)

    def declare(self, cls: type) -> None:
        """Let annotations name the class itself, before its name is bound."""
        self.names[cls.__name__] = cls
        if "<locals>" in self.qualname:
            _local_classes[f"{self.module}.{self.qualname}"] = cls

    def inside(self, other: Any) -> Scope:
        """The scope of another class or alias, where it is of the same module with the names of this one."""
        names = self.names if other.__module__ == self.module else {}
        return Scope(other.__module__, getattr(other, "__qualname__", other.__name__), names)

    def __call__(self, text: str) -> Any:
        """The value of an annotation. Raises `NameError` for what is not there yet."""
        around = f"{self.module}.{self.qualname.rpartition('.')[0]}."
        local = {name: cls for path, cls in _local_classes.items() if (name := path.removeprefix(around)) != path}
        return eval(text, dict(vars(sys.modules.get(self.module, builtins))), local | self.names)
