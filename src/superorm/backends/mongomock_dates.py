"""The parts of dates over a mongomock database, by the server's rules."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from bson import ObjectId, Timestamp
from pymongo.errors import OperationFailure

from superorm.backends.mongomock_values import is_nothing, lacks

__all__ = ["DATES", "date_part"]

DATES: dict[str, Callable[[dt.datetime], int]] = {
    "$dayOfMonth": lambda day: day.day,
    "$dayOfWeek": lambda day: day.isoweekday() % 7 + 1,
    "$dayOfYear": lambda day: day.timetuple().tm_yday,
    "$hour": lambda day: day.hour,
    "$millisecond": lambda day: day.microsecond // 1000,
    "$minute": lambda day: day.minute,
    "$month": lambda day: day.month,
    "$second": lambda day: day.second,
    "$week": lambda day: (day.timetuple().tm_yday + 6 - day.isoweekday() % 7) // 7,
    "$year": lambda day: day.year,
}

_OFFSET = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)


def date_part(op: str, value: Any, zone: Any) -> int | None:
    """A part of the date in a time zone, such as ``+02:00`` or ``Asia/Tokyo``; null of null.

    Raises ``OperationFailure`` for what is no date or time zone, ``UnsupportedError`` for dates that Python has not.
    """
    if is_nothing(value):
        return None
    date = _date(op, value)
    if is_nothing(zone):
        return None
    try:
        return DATES[op](_local(op, date, zone))
    except OverflowError:
        raise lacks(f"{op} of {value!r}") from None


def _date(op: str, value: Any) -> dt.datetime:
    if isinstance(value, ObjectId):
        return value.generation_time
    if isinstance(value, Timestamp):
        return value.as_datetime()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
    if type(value).__name__ == "DatetimeMS":
        raise lacks(f"{op} of dates beyond the years 1 to 9999")
    raise OperationFailure(f"{op} takes a date, not {value!r}")


def _local(op: str, date: dt.datetime, zone: Any) -> dt.datetime:
    offset = _OFFSET.fullmatch(zone) if isinstance(zone, str) else None
    if offset is not None:
        shift = dt.timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return date.astimezone(dt.UTC) + (shift if offset[1] == "+" else -shift)
    try:
        found: Any = import_module("pytz").timezone(zone)  # a requirement of mongomock
    except (AttributeError, KeyError, ValueError):
        found = None
    if found is None or found.zone != zone:
        raise OperationFailure(f"{op}: unrecognized time zone {zone!r}")
    return date.astimezone(found)
