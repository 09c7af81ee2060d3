"""Making datetimes aware, where it is known where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from superorm.unitofwork.encode import CODEC_OPTIONS

__all__ = ["NAIVE_OPTIONS", "make_aware"]

NAIVE_OPTIONS = CODEC_OPTIONS.with_options(tz_aware=False)
"""As `CODEC_OPTIONS`, but datetimes are left naive, in UTC: PyMongo makes them aware slowly."""

_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_aware(documents: Iterable[dict[str, Any]], keys: Iterable[str]) -> None:
    """Make the naive datetimes under the keys aware, in place."""
    for key in keys:
        for document in documents:
            value = document.get(key)
            if type(value) is datetime:
                document[key] = _EPOCH + (value - _NAIVE_EPOCH)  # eight times quicker than replace(tzinfo=UTC)
