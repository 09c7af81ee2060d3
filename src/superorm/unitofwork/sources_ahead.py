"""Which sources an update is going to leave, as far as that can be told before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from superorm.compile.plan import Aggregate

if TYPE_CHECKING:
    from superorm.compile.writes import UpdatePlan
    from superorm.schema.vector_fields import VectorField

__all__ = ["sources_after"]


def sources_after(field: VectorField, plan: UpdatePlan) -> Aggregate | None:
    """The read of the sources of a computed field as they would be after the update; None where none can tell.

    Of documents that are all given the same source it reads one.
    """
    assert field.source is not None
    path = field.stored_path(field.source)
    collection = cast("str", plan.mapping.collection)
    match, shown = {"$match": plan.filter}, {"$project": dict.fromkeys(field.needed_of(field.source), 1)}
    if isinstance(plan.update, list):
        return Aggregate(collection, [match, *plan.update, shown])
    given: dict[str, Any] = plan.update.get("$set", {})
    for assigned, value in given.items():
        if path == assigned or path.startswith(f"{assigned}."):
            change = {"$set": {assigned: {"$literal": value}}}
            return Aggregate(collection, [match, {"$limit": 1}, change, shown])
    return None
