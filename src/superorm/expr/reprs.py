"""Values in messages."""

from __future__ import annotations

__all__ = ["short_repr", "typed_repr"]


def short_repr(value: object, length: int = 80) -> str:
    """The repr of a value, cut to so many characters, the last of them ``...``; of one whose repr fails, its class."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - what the message is about matters more
        return f"<{type(value).__name__}, whose repr fails with {type(error).__name__}>"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def typed_repr(value: object) -> str:
    """The class of a value, and its `short_repr`."""
    return f"{type(value).__name__} {short_repr(value)}"
