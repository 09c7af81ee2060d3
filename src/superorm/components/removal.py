"""What a removal takes with it. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from superorm.components.base import Named
from superorm.components.records import HIDDEN, ComponentRecord
from superorm.components.training import Training
from superorm.exc import ComponentInUseError

__all__ = ["Removal", "plan_removal"]


@frozen
class Removal:
    """Which records go, users before what they use, and which are only hidden, because others need them."""

    removed: Sequence[ComponentRecord]
    hidden: Sequence[ComponentRecord] = ()
    users: Sequence[str] = ()
    """Who needs the hidden ones."""


def plan_removal(
    records: Sequence[ComponentRecord],
    targets: Sequence[ComponentRecord],
    indexes: Mapping[Named, Sequence[str]],
    *,
    force: bool = False,
    recursive: bool = False,
) -> Removal:
    """What to do to remove the targets, which are among the records.

    `indexes` are the vector indexes that need a component. With `recursive`, what only the removed ones needed goes
    too; what was hidden before, or is a training, and nothing needs any more, goes anyway.
    Raises `ComponentInUseError`, which names the users, for targets that something else needs, without `force`.
    """
    by_name = {record.named: record for record in records}
    users: dict[Named, set[Named]] = {named: set() for named in by_name}
    for record in records:
        for child in record.needs:
            users.setdefault(child, set()).add(record.named)
    going = {record.named for record in targets}
    in_use: dict[Named, list[str]] = {}
    # a target that stays keeps what it needs, so this is repeated until nothing changes
    while stay := {named: found for named in going if (found := _users(named, users, indexes, going))}:
        in_use |= stay
        going -= stay.keys()
    if in_use and not force:
        raise ComponentInUseError(
            "; ".join(f"the {named} is needed by {', '.join(found)}" for named, found in in_use.items())
            + ": remove these first, or give force=True, which hides it from all others",
            component=next(iter(in_use)).name,
        )
    removed = [record for record in targets if record.named in going]
    for record in removed:  # which grows
        for child in record.needs:
            needed = by_name.get(child)
            if needed is None or child in going:
                continue
            if not (recursive or needed.state == HIDDEN or needed.kind == Training.kind):
                continue
            if not _users(child, users, indexes, going):
                going.add(child)
                removed.append(needed)
    hidden = [record for record in targets if record.named in in_use]
    return Removal(_users_first(removed), hidden, sorted({one for found in in_use.values() for one in found}))


def _users(
    named: Named, users: Mapping[Named, set[Named]], indexes: Mapping[Named, Sequence[str]], going: set[Named]
) -> list[str]:
    """Who else needs it."""
    others = [f"the {user}" for user in users[named] - going]
    return sorted(others) + [f"the vector index {index}" for index in indexes.get(named, ())]


def _users_first(records: Sequence[ComponentRecord]) -> list[ComponentRecord]:
    """Each record before those that it needs."""
    by_name = {record.named: record for record in records}
    ordered: dict[Named, ComponentRecord] = {}

    def place(record: ComponentRecord) -> None:
        if record.named not in ordered:
            for child in record.needs:
                if child in by_name:
                    place(by_name[child])
            ordered[record.named] = record

    for record in records:
        place(record)
    return list(ordered.values())[::-1]
