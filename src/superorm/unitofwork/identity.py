"""The identity map: one object for one document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from bson import Binary, Decimal128, Int64, ObjectId
from bson.binary import UUID_SUBTYPE
from bson.errors import BSONError

from superorm.codec.keys import decode_key, encode_key
from superorm.exc import ValidationError
from superorm.expr.reprs import short_repr
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.state import RAW

__all__ = ["IdentityMap", "distinct", "identities", "identity"]

_AS_THEY_ARE = frozenset({str, int, UUID})
_ORDINARY = frozenset({ObjectId, *_AS_THEY_ARE})
_bytes = ObjectId.__getstate__
"""Of an ObjectId: they are hashed in C, and by themselves once."""
_NUMBERS = (float, Int64, Decimal128)


def identity(key: object) -> Any:
    """A hashable stand-in for a stored key: equal exactly where MongoDB takes two keys for the same.

    To MongoDB 1, 1.0 and Decimal128("1") are one key and True is another; to Python 1, 1.0 and True are equal.
    Raises `ValidationError` for what BSON cannot hold.
    """
    kind = type(key)
    if kind in _AS_THEY_ARE:
        return key
    if isinstance(key, ObjectId):
        return _bytes(key)
    if isinstance(key, Binary) and key.subtype == UUID_SUBTYPE and len(key) == 16:
        return key.as_uuid()
    try:
        encoded = encode_key(key)
    except (BSONError, ArithmeticError, ValueError, TypeError) as error:
        raise ValidationError(f"{short_repr(key)} cannot be a key: {error}", key=key, field="_id") from error
    number = decode_key(encoded) if kind in _NUMBERS else None
    return number if isinstance(number, (int, float)) and number == number else ("", encoded)


def identities(keys: list[Any]) -> list[Any]:
    """The `identity` of each key."""
    kinds: set[type] = set(map(type, keys))
    if kinds == {ObjectId}:
        return list(map(_bytes, keys))
    return keys if kinds <= _AS_THEY_ARE else [identity(key) for key in keys]


def distinct(keys: list[Any]) -> set[Any]:
    """The identities of keys that surely have one each; of others, nothing."""
    kinds: set[type] = set(map(type, keys))
    if kinds == {ObjectId}:
        return set(map(_bytes, keys))
    return set(identities(keys)) if kinds <= _ORDINARY else set()


class IdentityMap:
    """The tracked objects of a session, strongly held, one dict for each root class."""

    def __init__(self) -> None:
        self._maps: dict[ClassMap, dict[Any, Any]] = {}

    def of(self, mapping: ClassMap) -> dict[Any, Any]:
        """The objects of a class's whole hierarchy by `identity`."""
        return self._maps.setdefault(mapping.root, {})

    def get(self, mapping: ClassMap, key: Any) -> Any:
        """The object of a stored key, or None."""
        return self._maps.get(mapping.root, {}).get(identity(key))

    def holds(self, instance: object) -> bool:
        """Whether the object is tracked as a stored one."""
        raw = vars(instance).get(RAW)
        return raw is not None and self.get(class_map(type(instance)), raw["_id"]) is instance

    def discard(self, mapping: ClassMap, key: Any) -> None:
        self.of(mapping).pop(identity(key), None)

    def __iter__(self) -> Iterator[tuple[ClassMap, dict[Any, Any]]]:
        return iter(list(self._maps.items()))

    def clear(self) -> None:
        self._maps.clear()
