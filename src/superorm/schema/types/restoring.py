"""Values that one type has stored, as another type stores them."""

from __future__ import annotations

from typing import Any

from superorm.schema.types.base import BsonType
from superorm.schema.types.computed import WrapperType, bare, list_of
from superorm.schema.types.containers import ListType

__all__ = ["restoring"]


class _RestoringType(WrapperType):
    """Reads what one type has stored, and stores it as another does."""

    def __init__(self, own: BsonType, inner: BsonType) -> None:
        super().__init__(inner)
        self._own = own
        self.reads = own.reads | inner.reads

    def from_bson(self, value: Any) -> Any:
        return self._own.from_bson(value)


def restoring(own: BsonType, kind: BsonType) -> BsonType:
    """A type that reads what `own` has stored, and stores it as `kind` does; of lists each item."""
    match bare(own), bare(kind):
        case ListType(element=one), ListType(element=other):
            return list_of(restoring(one, other))
        case _:
            return _RestoringType(own, kind)
