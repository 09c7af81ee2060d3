"""Relationships and the options that load them, with the types that both type checkers infer."""

from __future__ import annotations

from typing import assert_type

from superorm import Field, Load, Select, Session, joinedload, select, selectinload
from tests.typing.classes import Shelf, Volume


def attributes(volume: Volume, shelf: Shelf) -> None:
    """Objects on objects, fields of them on classes."""
    assert_type(Volume.shelf, Field[Volume, Shelf | None])
    assert_type(Shelf.volumes, Field[Shelf, list[Volume]])
    assert_type(volume.shelf, Shelf | None)
    assert_type(shelf.volumes, list[Volume])
    volume.shelf = shelf
    volume.shelf = None
    shelf.volumes.append(volume)
    shelf.volumes = [volume]


def constructors() -> None:
    """They are optional arguments."""
    assert_type(Volume(), Volume)
    Volume(shelf=Shelf(name="x"), next=Volume(), next_id=None)
    Shelf(volumes=[Volume()])


def options(session: Session) -> None:
    """A chain goes on from the class of its last relationship."""
    assert_type(selectinload(Volume.shelf), Load[Volume, Shelf])
    assert_type(joinedload(Shelf.volumes), Load[Shelf, Volume])
    assert_type(selectinload(Shelf.volumes).joinedload(Volume.next).selectinload(Volume.shelf), Load[Shelf, Shelf])
    statement = select(Shelf).options(joinedload(Shelf.volumes).selectinload(Volume.next))
    assert_type(statement, Select[Shelf, tuple[Shelf]])
    assert_type(session.get(Volume, 1, options=[selectinload(Volume.shelf)]), Volume | None)


def statements() -> None:
    """They are built without a session."""
    select(Volume).options(selectinload(Volume.shelf).selectinload(Shelf.volumes)).pipeline()
