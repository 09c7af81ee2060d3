"""The classes that the tests query; their documents are written raw, with types that nothing declares."""

from __future__ import annotations

from typing import Any

from superorm import Document, Embedded, Mapped, Registry, field

__all__ = ["Other", "Part", "Thing", "registry"]

registry = Registry()


class Part(Embedded):
    """An embedded document."""

    n: Mapped[Any] = field(default=None)
    s: Mapped[Any] = field(default=None)


class Thing(Document, registry=registry):
    """What statements are about."""

    __collection__ = "things"

    id: Mapped[int] = field(primary_key=True)
    n: Mapped[Any] = field(default=None)
    q: Mapped[Any] = field(default=None)
    a: Mapped[Any] = field(default=None)
    s: Mapped[Any] = field(default=None)
    k: Mapped[Any] = field(default=None, name="key")
    l: Mapped[list[Any]] = field(factory=list)  # noqa: E741
    e: Mapped[Part | None] = field(default=None)
    p: Mapped[list[Part]] = field(factory=list)
    m: Mapped[dict[str, Any] | None] = field(default=None)


class Other(Document, registry=registry):
    """What is joined."""

    __collection__ = "others"

    id: Mapped[int] = field(primary_key=True)
    k: Mapped[Any] = field(default=None)
    v: Mapped[Any] = field(default=None)
