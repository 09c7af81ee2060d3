"""Types of dicts whose keys are declared by a TypedDict."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from superorm.expr.literals import key_literal
from superorm.expr.narrow import is_dict
from superorm.schema.types.base import BsonType, Misfit, Undeclared
from superorm.schema.types.containers import AnyType
from superorm.schema.types.walk import checked_keys

__all__ = ["KeptDict", "Key", "TypedDictType"]

_ANY = AnyType()


@frozen
class Key:
    """A declared key."""

    type: BsonType
    required: bool


class KeptDict(dict[str, Any]):
    """A dict read from a document that has more keys than its TypedDict declares: these it may keep."""

    kept: frozenset[str] = frozenset()


class TypedDictType(BsonType):
    """A dict with the declared keys. Others are refused, but those that were read are kept."""

    reads = frozenset({dict})
    hashable = False

    def __init__(self, name: str, keys: dict[str, Key]) -> None:
        self.name = name
        self.keys = keys

    def from_bson(self, value: Any) -> Any:
        if not is_dict(value):
            raise Misfit(value, self.name)
        found: dict[str, Any] = self._each("from_bson", value, value.keys())
        if found.keys() <= self.keys.keys():
            return found
        kept = KeptDict(found)
        kept.kept = frozenset(found.keys() - self.keys.keys())
        return kept

    def to_bson(self, value: Any) -> Any:
        if not is_dict(value):
            raise Misfit(value, self.name)
        return self._each("to_bson", checked_keys(value), value.kept if isinstance(value, KeptDict) else ())

    def _each(self, way: str, items: dict[str, Any], kept: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, item in items.items():
            key = self.keys.get(name)
            try:
                if key is None and name not in kept:
                    raise Undeclared(name, self.name)
                result[name] = getattr(_ANY if key is None else key.type, way)(item)
            except Misfit as misfit:
                raise misfit.within(name) from None
        for name, key in self.keys.items():
            if key.required and name not in items:
                raise Misfit(items, f"a {self.name}, which has the key {name!r}")
        return result

    def beside(self, value: object) -> Any:
        if not is_dict(value):
            return super().beside(value)
        none = Key(_ANY, False)
        return {key_literal(name): self.keys.get(name, none).type.beside(item) for name, item in value.items()}

    def unchanged(self, value: Any, raw: Any) -> bool:
        if not is_dict(raw) or not is_dict(value) or list(value) != list(raw):
            return False
        keys, none = self.keys, Key(_ANY, False)
        return all(keys.get(name, none).type.unchanged(item, raw[name]) for name, item in value.items())
