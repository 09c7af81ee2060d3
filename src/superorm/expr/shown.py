"""Values in messages."""

from __future__ import annotations

__all__ = ["shown"]


def shown(value: object, length: int = 80) -> str:
    """The repr of a value, cut off after so many characters; of one whose repr fails, its class."""
    try:
        return repr(value)[:length]
    except Exception as error:  # noqa: BLE001 - what the message is about matters more
        return f"<{type(value).__name__}, whose repr fails with {type(error).__name__}>"
