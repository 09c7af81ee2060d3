"""Which sessions hold which objects, while others are being made."""

from __future__ import annotations

import pytest

from superorm import Document, Mapped, field
from superorm.unitofwork import holding
from superorm.unitofwork.identity import IdentityMap
from superorm.unitofwork.tracking import Tracker


class Held(Document):
    __collection__ = "held_while_others_are_made"

    id: Mapped[int] = field(primary_key=True)


def test_adding_while_another_session_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added or asked for while another thread is amid making a session does not find that half made."""
    first, third = Tracker(), Tracker()
    held = Held(id=1)
    asked: list[bool] = []

    def amid() -> IdentityMap:
        first.add(held)
        asked.append(third.held_elsewhere(held))
        return IdentityMap()

    monkeypatch.setattr(holding, "IdentityMap", amid)
    second = Tracker()
    assert [True] == asked
    assert held in first
    assert held not in second
    assert second.held_elsewhere(held)
