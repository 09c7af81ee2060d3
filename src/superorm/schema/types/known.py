"""The classes that fields hold without further settings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from bson import ObjectId

from superorm.schema.types.arrays import ArrayType
from superorm.schema.types.base import BsonType
from superorm.schema.types.containers import AnyType, DictType, ListType
from superorm.schema.types.scalars import (
    BoolType,
    BytesType,
    DatetimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    NoneType,
    ObjectIdType,
    StrType,
    UuidType,
)

__all__ = ["KNOWN"]

KNOWN: dict[Any, Callable[[], BsonType]] = {
    str: StrType,
    int: IntType,
    float: FloatType,
    bool: BoolType,
    bytes: BytesType,
    dt.datetime: DatetimeType,
    dt.date: DateType,
    Decimal: DecimalType,
    UUID: UuidType,
    ObjectId: ObjectIdType,
    None: NoneType,
    type(None): NoneType,
    Any: AnyType,
    np.ndarray: ArrayType,
    dict: lambda: DictType(AnyType()),
    list: lambda: ListType(list, AnyType()),
    set: lambda: ListType(set, AnyType()),
    frozenset: lambda: ListType(frozenset, AnyType()),
    tuple: lambda: ListType(tuple, AnyType()),
}
