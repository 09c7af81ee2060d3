"""Objects of documents that were loaded in part: instances of a class made for them, whose attributes may be missing.

So the objects of whole documents pay nothing for it.
"""

from __future__ import annotations

from typing import Any, cast

from superorm.exc import UnsupportedError
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.reprs import repr_of
from superorm.schema.state import GONE, RAW, UNLOADED, is_unloaded, not_loaded

__all__ = ["can_be_partial", "check_partial", "make_partial", "make_whole", "partial_class"]


def partial_class(mapping: ClassMap) -> type:
    """The class of a mapped class's partial objects: derived from it, and taken for it by `class_map`."""
    found: type | None = mapping.functions.get("partial class")
    if found is None:
        found = mapping.functions["partial class"] = _make(mapping)
    return found


def can_be_partial(mapping: ClassMap) -> bool:
    """Whether there can be partial objects of the class, which has no ``__slots__`` then."""
    return not any(vars(base).get("__slots__") for base in mapping.cls.__mro__)


def check_partial(mapping: ClassMap) -> None:
    """Raise `UnsupportedError` where there cannot be partial objects of the class."""
    if not can_be_partial(mapping):
        raise UnsupportedError(
            f"{mapping.name} cannot be loaded in part, as it has __slots__; leave them out, or load whole documents",
            document_class=mapping.cls,
        )


def make_partial(mapping: ClassMap, instance: object, unloaded: frozenset[str]) -> None:
    """Take the object for one without these attributes."""
    setattr(instance, UNLOADED, unloaded)
    instance.__class__ = partial_class(mapping)


def make_whole(mapping: ClassMap, instance: object) -> None:
    """Take the object for one that has all its attributes."""
    vars(instance).pop(UNLOADED, None)
    instance.__class__ = mapping.cls


def _make(mapping: ClassMap) -> type:
    cls = mapping.cls
    inherited = next((vars(base)["__getattr__"] for base in cls.__mro__ if "__getattr__" in vars(base)), None)

    def getattr_(self: object, name: str) -> Any:
        state = vars(self)
        part = mapping.by_attribute.get(name)
        if part is not None and is_unloaded(part, state):
            raise not_loaded(mapping, part, state.get(RAW) or state[GONE])
        if inherited is not None:
            return inherited(self, name)
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")

    def reduce_(self: object, protocol: object) -> tuple[Any, ...]:
        return _new, (cls,), dict(vars(self))

    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__superorm__": mapping,
        "__getattr__": getattr_,
        "__repr__": repr_of,
        "__reduce_ex__": reduce_,
    }
    check_partial(mapping)
    document = [base for base in cls.__mro__ if type(base) is not type][-1]
    made = type.__new__(type(cls), cls.__name__, (document,), namespace)
    made.__bases__ = (cls,)  # only now, so that no __init_subclass__ of the user's takes it for a class of their own
    return made


def _new(cls: type) -> object:
    """An object without attributes, for unpickling."""
    return cast("object", object.__new__(partial_class(class_map(cls))))
