"""Making datetimes aware, where it is known where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from operator import add, itemgetter, sub
from typing import Any

from superorm.unitofwork.encode import CODEC_OPTIONS

__all__ = ["NAIVE_OPTIONS", "make_aware"]

NAIVE_OPTIONS = CODEC_OPTIONS.with_options(tz_aware=False)
"""As `CODEC_OPTIONS`, but datetimes are left naive, in UTC: PyMongo makes them aware slowly."""

_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_aware(documents: Sequence[dict[str, Any]], keys: Iterable[str]) -> None:
    """Make the naive datetimes under the keys aware, in place."""
    for key in keys:
        there = [document for document in documents if type(document.get(key)) is datetime]
        since = map(sub, map(itemgetter(key), there), repeat(_NAIVE_EPOCH))
        for document, aware in zip(there, map(add, repeat(_EPOCH), since), strict=False):
            document[key] = aware  # eight times quicker than replace(tzinfo=UTC)
