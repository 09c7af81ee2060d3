"""The names that blobs may have."""

from __future__ import annotations

__all__ = ["check_key"]


def check_key(key: str) -> None:
    """Raise `ValueError` for a key that is no plain name: it could name what lies outside a store, or be lost in it."""
    if not key or key.startswith(".") or any(character in key for character in "/\\\0"):
        raise ValueError(f"{key!r} is no name of a blob")
