"""How a session reads and writes: MongoDB's concerns, preference and consistency, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypedDict

from attrs import evolve, field, fields_dict, frozen
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import (
    Nearest,
    Primary,
    PrimaryPreferred,
    ReadPreference,
    Secondary,
    SecondaryPreferred,
)
from pymongo.write_concern import WriteConcern

from superorm.exc import ConfigurationError
from superorm.expr.reprs import short_repr

__all__ = ["DEFAULTS", "Concerns", "Preference", "SessionOptions", "check_options"]

Preference: TypeAlias = Primary | PrimaryPreferred | Secondary | SecondaryPreferred | Nearest
"""PyMongo's read preferences, such as ``ReadPreference.SECONDARY``."""

_CONSISTENT = ("local", "majority", "snapshot")
"""The read concerns of transactions and of causal consistency."""
_LEVELS = ("available", "linearizable", "local", "majority", "snapshot")
_PREFERENCES = (Primary, PrimaryPreferred, Secondary, SecondaryPreferred, Nearest)


class SessionOptions(TypedDict, total=False):
    """What a session, ``sessionmaker``, ``db.session()``, ``db.begin()`` and ``db.run()`` take."""

    require_transaction: bool
    read_concern: ReadConcern | None
    write_concern: WriteConcern | None
    read_preference: Preference | None
    causal_consistency: bool | None
    max_commit_time_ms: int | None


@frozen(kw_only=True)
class Concerns:
    """How a session reads and writes; None stands for the default.

    By default reads outside of a transaction are ``local``, those inside ``snapshot``, all from the primary,
    and writes wait for the ``majority``.
    A concern or preference that is given holds outside of the transaction and inside.
    Raises `ConfigurationError` for what cannot be.
    """

    read_concern: ReadConcern | None = field(default=None)
    write_concern: WriteConcern | None = field(default=None)
    read_preference: Preference | None = field(default=None)
    causal_consistency: bool | None = field(default=None)
    max_commit_time_ms: int | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        _check_types(self)
        if self.write_concern is not None and not self.write_concern.acknowledged:
            raise ConfigurationError(
                "write_concern=WriteConcern(w=0): a write without an answer may be lost without notice; "
                "leave write_concern out, or give w=1 or more"
            )
        if self.level == "linearizable" and not self._primary:
            raise ConfigurationError(
                f"read_concern=ReadConcern('linearizable') reads from the primary alone, "
                f"and read_preference is {self.read_preference!r}"
            )
        if self.causal_consistency and self.level not in (None, *_CONSISTENT):
            raise ConfigurationError(
                f"causal_consistency=True needs the read concern local, majority or snapshot, not {self.level!r}"
            )

    @property
    def level(self) -> str | None:
        """The level of the read concern that was given."""
        return None if self.read_concern is None else self.read_concern.level

    @property
    def _primary(self) -> bool:
        return self.read_preference is None or isinstance(self.read_preference, Primary)

    @property
    def majority(self) -> bool:
        """Whether writes wait for the majority."""
        return bool(self.writes.document["w"] == "majority")

    @property
    def writes(self) -> WriteConcern:
        """The write concern; of the majority unless a number of members, or a tag, was given."""
        document: dict[str, Any] = {"w": "majority"}
        if self.write_concern is not None:
            document |= self.write_concern.document
        return WriteConcern(**document)

    @property
    def collection_options(self) -> dict[str, Any]:
        """For reads and writes outside of transactions."""
        return {
            "read_concern": ReadConcern(self.level or "local"),
            "write_concern": self.writes,
            "read_preference": self.read_preference or ReadPreference.PRIMARY,
        }

    @property
    def transaction_options(self) -> dict[str, Any]:
        """For ``start_transaction``."""
        return {
            "read_concern": ReadConcern(self.level or "snapshot"),
            "write_concern": self.writes,
            "read_preference": ReadPreference.PRIMARY,
            "max_commit_time_ms": self.max_commit_time_ms,
        }

    def check_transaction(self) -> None:
        """Raise `ConfigurationError` for what a transaction cannot do."""
        if not self._primary:
            raise ConfigurationError(
                f"a transaction reads from the primary, and read_preference is {self.read_preference!r}; "
                "write in a session of its own: db.session(read_preference=ReadPreference.PRIMARY)"
            )
        if self.level is not None and self.level not in _CONSISTENT:
            raise ConfigurationError(
                f"a transaction cannot have the read concern {self.level!r}; write in a session of its own, "
                "with read_concern=ReadConcern('local'), 'majority' or 'snapshot'"
            )

    def changed(self, options: Mapping[str, Any]) -> Concerns:
        """These with what the options of a session say instead. Raises `ConfigurationError`."""
        given = {name: value for name, value in options.items() if value is not None and name in _NAMES}
        return evolve(self, **given) if given else self


_NAMES = frozenset(fields_dict(Concerns))
_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "read_concern": (ReadConcern, "a pymongo.read_concern.ReadConcern such as ReadConcern('majority')"),
    "write_concern": (WriteConcern, "a pymongo.WriteConcern such as WriteConcern('majority')"),
    "read_preference": (_PREFERENCES, "one of pymongo.ReadPreference such as ReadPreference.SECONDARY"),
    "causal_consistency": (bool, "True or False"),
    "max_commit_time_ms": (int, "a number of milliseconds from 1 to 2147483647"),
}


def check_options(options: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for what is no option of a session, and for what one cannot be.

    What they cannot be together with the options of the DB is checked with those.
    """
    for name, value in options.items():
        if name not in SessionOptions.__annotations__:
            known = ", ".join(SessionOptions.__annotations__)
            raise ConfigurationError(f"a session has no option {short_repr(name)}; there are {known}")
        if name == "require_transaction" and not isinstance(value, bool):
            raise ConfigurationError(f"require_transaction takes True or False, not {short_repr(value)}")
    concerns = DEFAULTS.changed(options)
    if options.get("require_transaction"):
        concerns.check_transaction()


def _check_types(concerns: object) -> None:
    for name, (kind, wanted) in _TYPES.items():
        value: object = getattr(concerns, name)
        if value is None:
            continue
        wrong = not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or not 0 < value < 2**31))  # type: ignore[operator]
        if wrong:
            raise ConfigurationError(f"{name} takes {wanted}, not {short_repr(value)}")
        if isinstance(value, ReadConcern) and value.level not in (None, *_LEVELS):
            raise ConfigurationError(f"there is no read concern {value.level!r}; there are {', '.join(_LEVELS)}")


DEFAULTS = Concerns()
"""Local reads, snapshots in transactions, majority writes, the primary."""
