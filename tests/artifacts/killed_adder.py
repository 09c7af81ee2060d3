"""A process that adds a component with children, and kills itself when the server has answered a command of that."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from typing import Any

from pymongo import monitoring

from superorm import connect
from superorm.components.kinds import KINDS
from tests.artifacts.operations import Adding
from tests.teams import Team

__all__ = ["add"]


class Fate(monitoring.CommandListener):
    """Counts the answers of the server, and ends this process with the last one."""

    answers = 0
    last = 0
    """None is, at 0."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing is to be done."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count it."""
        self.answers += 1
        if self.answers == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    failed: Any = succeeded


def add(pipe: Connection, settings: dict[str, Any], environment: dict[str, str], number: int, last: int) -> None:
    """Add the team of a number, and say after how many answers that was done, unless there is a last one before."""
    os.environ |= environment
    KINDS[Team.kind] = Team
    monitoring.register(fate := Fate())
    with connect(**settings) as db:
        db.prepare()
        fate.answers, fate.last = 0, last
        db.add(Adding.team(number))
        fate.last = 0
        pipe.send(fate.answers)
