"""What other processes do: each function is given a DB of its own."""

from __future__ import annotations

import os
import traceback
from multiprocessing.connection import Connection
from typing import Any

from superorm import DB, connect, select
from tests.ancestor.classes import Letter

__all__ = ["nearest", "predicted", "run"]


def run(pipe: Connection, function: Any, settings: dict[str, Any], environment: dict[str, str], *args: Any) -> None:
    """Send what the function says of a DB with these settings, in this environment."""
    os.environ |= environment
    try:
        with connect(**settings) as db:
            answer = (True, function(db, *args))
    except Exception:  # noqa: BLE001 - it is shown by the process that asked
        answer = (False, traceback.format_exc())
    pipe.send(answer)


def nearest(db: DB, text: str, k: int) -> list[int]:
    """The keys of the letters nearest to a text."""
    with db.session() as session:
        return [one.id for one in session.scalars(select(Letter).like(text, on=Letter.vec, k=k)).all()]


def predicted(db: DB, name: str, items: list[Any]) -> list[Any]:
    """The outputs of a model."""
    return db.predict(name, items)
