"""Artifact fields, with the types that both type checkers infer."""

from __future__ import annotations

from typing import assert_type

import numpy as np

from superorm import AsyncSession, Document, Field, Mapped, Select, Session, artifact, select, undefer


class Poster(Document):
    __collection__ = "typed_artifacts"

    image: Mapped[bytes] = artifact()
    pixels: Mapped[np.ndarray | None] = artifact(codec="npy", default=None, name="p")


def attributes(poster: Poster) -> None:
    """Objects on objects, fields of them on classes."""
    assert_type(Poster.image, Field[Poster, bytes])
    assert_type(poster.image, bytes)
    assert_type(poster.pixels, np.ndarray | None)
    poster.image = b"x"
    poster.pixels = None


def constructors() -> None:
    """Without a default they are required."""
    assert_type(Poster(image=b"x"), Poster)
    Poster(image=b"x", pixels=np.zeros(3))


def loading(session: Session, poster: Poster) -> None:
    """Fields of the object's class are loaded."""
    session.load(poster, Poster.image, Poster.pixels)
    for found in session.scalars(select(Poster).where(Poster.pixels.is_(None))):
        assert_type(found.image, bytes)


async def loading_later(session: AsyncSession, poster: Poster) -> None:
    """The same, awaited."""
    await session.load(poster, Poster.image)


async def loading_together(session: AsyncSession, key: object) -> None:
    """With all documents of a select, of which the type stays."""
    statement = select(Poster).options(undefer(Poster.image, Poster.pixels))
    assert_type(statement, Select[Poster, tuple[Poster]])
    assert_type(await session.get(Poster, key, options=[undefer(Poster.image)]), Poster | None)
