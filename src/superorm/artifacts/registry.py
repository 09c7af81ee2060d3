"""The blob registry: which blobs there are, and what a commit writes there. Decisions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from bson import ObjectId

from superorm.backends.errors import has_error_label
from superorm.exc import WriteError
from superorm.unitofwork.writes import Update, UpdateOp

__all__ = ["REGISTRY", "BlobConflictError", "Uploaded", "is_blob_conflict", "registry_write"]

REGISTRY = "_superorm_blobs"
"""One document a blob: ``{_id: sha256, key, size, state, uses, touched, unused}``.

`key` is the physical key, `state` is ``live`` or ``condemned`` (about to be deleted).
`uses` is how many references were ever written, or more: where that is 1, one that goes was the only one.
`touched` is an ObjectId of the last commit that refers to the blob.
No two are the same, so such a commit always conflicts with a transaction that condemns the blob.
`unused` is the server's time since when nothing refers to the blob, where that is so.
"""


@frozen
class Uploaded:
    """A blob that is in the store, and what the registry said of its hash then."""

    sha256: str
    size: int
    key: str
    """The physical key: new, unless the registry had the hash."""
    found: Mapping[str, Any] | None = None
    """The registry's document."""
    uses: int = 1
    """How many references the commit writes."""

    @property
    def is_new(self) -> bool:
        """Whether the bytes were stored for this commit."""
        return self.found is None or self.found["key"] != self.key


class BlobConflictError(WriteError):
    """The blob was condemned or removed between its upload and the commit: upload it again."""


def is_blob_conflict(error: BaseException) -> bool:
    """Whether a commit failed because others wrote at the same time, so that it may succeed with a new upload."""
    return isinstance(error, BlobConflictError) or has_error_label(error, "TransientTransactionError")


def registry_write(uploads: Sequence[Uploaded]) -> Update:
    """What a commit that refers to the blobs writes, in its own transaction.

    Each operation matches or inserts one document.
    Where one does not, or its key exists already, the hash was condemned or removed since the upload.
    Of uploads of one hash the last counts: where it was condemned, a second operation could not match any more.
    """
    return Update(REGISTRY, [_operation(uploaded) for uploaded in {one.sha256: one for one in uploads}.values()])


def _operation(uploaded: Uploaded) -> UpdateOp:
    touched, uses = ObjectId(), {"uses": uploaded.uses}
    if uploaded.found is None:
        # The first of two who insert one hash wins; the other's operation touches the winner's document.
        filter = {"_id": uploaded.sha256, "state": "live"}
        new = {"key": uploaded.key, "size": uploaded.size}
        change = {"$setOnInsert": new, "$set": {"touched": touched}, "$inc": uses, "$unset": {"unused": ""}}
        return UpdateOp(q=filter, u=change, upsert=True)
    filter = {"_id": uploaded.sha256, "key": uploaded.found["key"], "state": uploaded.found["state"]}
    change = {"key": uploaded.key, "state": "live", "touched": touched}
    return UpdateOp(q=filter, u={"$set": change, "$inc": uses, "$unset": {"unused": ""}})
