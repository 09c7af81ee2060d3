"""What the stores in memory hold, by the store's name."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

__all__ = ["BLOBS"]

BLOBS: defaultdict[str, dict[str, tuple[datetime, bytes]]] = defaultdict(dict)
"""The bytes and the time of each upload, by store and key: the same name in one process is the same data."""
