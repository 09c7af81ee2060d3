"""Documents that the process which inserted them hands to the applier, which then need not read them.

The document of a key is as it was handed over as long as no other commit touched the key.
Every commit leaves a record, and an applier stamps the records of later commits by later publications only.
So among the records not stamped, and those stamped after a publication that was there before the commit,
none but the handed record may name the key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from bson import ObjectId

from superorm.codec.keys import encode_key
from superorm.vectors.records import Look

__all__ = ["Handed", "as_handed", "oldest"]

FROM = 100
"""So many documents are worth to be handed over."""
MOST = 50_000
"""So many are kept until they are applied."""


@frozen
class Handed:
    """What one committed flush inserted."""

    n: int
    """A publication that was there before the commit."""
    records: frozenset[ObjectId]
    documents: Sequence[Mapping[str, Any]]
    names: frozenset[str] = frozenset()
    """The stored names of the fields that were kept of them."""
    complete: bool = False
    """Whether the records name no other keys than theirs."""


def oldest(handed: Iterable[Handed]) -> int | None:
    """The publication after which a look must read the stamped records too; None where nothing was handed over."""
    return min((one.n for one in handed), default=None)


def as_handed(look: Look, handed: Iterable[Handed], touched: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The documents of touched keys that still are as they were handed over, by canonical key.

    The look must reach back to `oldest` of them; records of before its floor may be gone.
    """
    state = look.state
    valid = [one for one in handed if state is not None and state.floor <= one.n <= state.n]
    if not valid:
        return {}
    keys = {id: [encode_key(key) for key in record.keys] for id, record in look.records.items()}
    times = Counter(key for part in keys.values() for key in part)
    found: dict[str, Mapping[str, Any]] = {}
    for one in valid:
        own = {key for id in one.records if id in keys and look.records[id].seq is None for key in keys[id]}
        if own:
            found |= {
                key: document
                for document in one.documents
                if (key := encode_key(document["_id"])) in own and key in touched and times[key] == 1
            }
    return found
