"""Where the names in a class's annotations are looked up."""

from __future__ import annotations

import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from types import FrameType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from attrs import define, field

__all__ = ["Scope"]

_K = TypeVar("_K")
_V = TypeVar("_V")

_local_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
"""The mapped classes inside functions, by module and qualified name, for annotations that come before them."""
_local_scopes: defaultdict[str, WeakValueDictionary[int, Scope]] = defaultdict(WeakValueDictionary)
"""The scopes inside functions, by module and function."""


@define(eq=False)
class Scope:
    """Where a class was declared, and so where the names in its annotations are looked up."""

    module: str
    qualname: str
    names: dict[str, Any]
    """Names of the class body and of what is around it that stand in the annotations."""
    module_names: dict[str, Any] = field(repr=False)
    mentioned: frozenset[str] = frozenset()
    """The names that the annotations mention."""

    @classmethod
    def of(cls, body: Mapping[str, Any], frame: FrameType) -> Scope:
        """The scope of a class by its body and the frame around it."""
        around = frame.f_locals
        mentioned = set(re.findall(r"\w+", " ".join(map(str, body.get("__annotations__", {}).values()))))
        names = {name: namespace[name] for namespace in (around, body) for name in mentioned & namespace.keys()}
        module = body["__module__"]
        same = frame.f_globals.get("__name__", builtins.__name__) == module  # else the class is made by a function
        module_names = frame.f_globals if same else _names_of(module)
        return cls(module, body["__qualname__"], names, module_names, frozenset(mentioned))

    def __getstate__(self) -> dict[str, Any]:
        """Pickled with those names of the module that the annotations mention."""
        names = {name: self.module_names[name] for name in self.mentioned & self.module_names.keys()}
        state = {"module": self.module, "qualname": self.qualname, "names": self.names}
        return {**state, "module_names": names, "mentioned": self.mentioned}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def declare(self, cls: type) -> None:
        """Let annotations name the class itself, before its name is bound."""
        self.names[cls.__name__] = cls
        if "<locals>" in self.qualname:
            _local_classes[f"{self.module}.{self.qualname}"] = cls
            scopes = _local_scopes[self._around]
            for _, scope in _items(scopes):  # of classes declared before: in an earlier call, they have one of the name
                if cls.__name__ in scope.mentioned:
                    scope.names.setdefault(cls.__name__, cls)
            scopes[id(self)] = self

    @property
    def _around(self) -> str:
        return f"{self.module}.{self.qualname.rpartition('.')[0]}."

    def inside(self, other: Any) -> Scope:
        """The scope of another class or alias, where it is of the same module with the names of this one."""
        qualname = getattr(other, "__qualname__", other.__name__)
        if other.__module__ == self.module:
            return Scope(self.module, qualname, self.names, self.module_names)
        return Scope(other.__module__, qualname, {}, _names_of(other.__module__))

    def __call__(self, text: str) -> Any:
        """The value of an annotation. Raises `NameError` for what is not there yet."""
        around = self._around
        local = {name: cls for path, cls in _items(_local_classes) if (name := path.removeprefix(around)) != path}
        names = {name: self._newest(name, value) for name, value in self.names.copy().items()}  # others may add to it
        return eval(text, dict(self.module_names), local | names)

    def _newest(self, name: str, value: Any) -> Any:
        """The value of a name; of a class that its module has defined again since, the new one."""
        now = self.module_names.get(name)
        if isinstance(value, type) and isinstance(now, type) and _place(now) == _place(value):
            return now
        return value


def _names_of(module: str) -> dict[str, Any]:
    return vars(sys.modules.get(module, builtins))


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _items(known: WeakValueDictionary[_K, _V]) -> list[tuple[_K, _V]]:
    """What is in it at one moment, whatever other threads declare."""
    found = [(one.key, one()) for one in known.valuerefs()]
    return [(key, value) for key, value in found if value is not None]
