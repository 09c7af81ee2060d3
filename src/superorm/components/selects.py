"""What components say of the selects that they are given."""

from __future__ import annotations

from typing import Any

from superorm.exc import ConfigurationError, StatementError
from superorm.expr.kinds import is_select
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Select

__all__ = ["check_documents"]


def check_documents(what: str, select: object) -> None:
    """Raise `ConfigurationError` for what is no select of whole documents of one class, or cannot be stored."""
    if not is_select(select):
        raise ConfigurationError(f"{what} is made of a select, not {short_repr(select)}")
    entities = select._entities  # pyright: ignore[reportPrivateUsage]
    options = select._options  # pyright: ignore[reportPrivateUsage]
    if len(entities) != 1 or not isinstance(entities[0], type) or options:
        raise ConfigurationError(
            f"{what}: {select!r} does not give whole documents of one class; "
            "write select(Movie), with any conditions, and without options"
        )
    try:
        Select[Any, Any].from_dict(select.to_dict())
    except StatementError as error:
        raise ConfigurationError(f"{what}: its select cannot be stored: {error}") from error
