"""PyMongo alone, with ``tz_aware=True``: datetimes as superorm gives them."""

from __future__ import annotations

from typing import ClassVar

from candidates import raw

NAME = "PyMongo, tz_aware=True"


class Candidate(raw.Candidate):
    aware = True
    notes: ClassVar = {}
