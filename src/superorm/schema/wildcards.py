"""Which wildcards the server takes beside other fields of an index, and which fields these may choose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

__all__ = ["WILDCARD", "wildcard_problem"]

WILDCARD = "$**"


def wildcard_problem(paths: Sequence[str], included: Sequence[str], excluded: Sequence[str]) -> str | None:
    """What the server would refuse of an index with a wildcard; all paths as they are stored.

    A field of the index is not in the wildcard too, and the fields that the wildcard is limited to, or not to take,
    are not part of one another. Only the key can be excluded where others are included, and the other way round.
    """
    wildcard = next((path for path in paths if path.rpartition(".")[2] == WILDCARD), None)
    if wildcard is None:
        return None
    others = [path for path in paths if path != wildcard]
    whole = wildcard.removesuffix(WILDCARD).removesuffix(".")
    for path in others if whole else ():
        if _is_within(path, [whole]):
            return f"{path} is in the wildcard {wildcard} already; leave one of them out"
    for name, given in ("include=", included), ("exclude=", excluded):
        for one, other in permutations(given, 2):
            if _is_within(one, [other]):
                return f"{name} has both {other} and {one}, which is part of it"
    if included and excluded and ["_id"] not in (list(included), list(excluded)):
        return "only the primary key goes into include= beside exclude=, or the other way round"
    if not whole:
        for path in others:
            if _is_within(path, included):
                return f"{path} is a field of the index itself, and cannot be in include= too"
            if excluded and list(excluded) != ["_id"] and not _is_within(path, excluded):
                return f"exclude= has to name {path} too, as it is a field of the index itself"
    return None


def _is_within(path: str, others: Sequence[str]) -> bool:
    """Whether a path is one of some others, or leads below one."""
    return any(path == other or path.startswith(f"{other}.") for other in others)
