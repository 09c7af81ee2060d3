"""Components as they are stored: documents of the metadata store, mapped by superorm itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import bson
from bson import ObjectId

from superorm.artifacts.reference import Reference
from superorm.components.base import Named
from superorm.components.training import Fit
from superorm.schema.document import Document
from superorm.schema.fields import Mapped, field, utcnow
from superorm.schema.registry import Registry
from superorm.unitofwork.encode import CODEC_OPTIONS

__all__ = [
    "COLLECTION",
    "COMPONENT_KEYS",
    "HIDDEN",
    "LIVE",
    "REFERENCE_PATH",
    "REMOVED",
    "ComponentRecord",
    "content_of",
    "internal_registry",
]

internal_registry = Registry()
"""The registry of superorm's own documents."""

COLLECTION = "_superorm_components"

COMPONENT_KEYS = (("kind", 1), ("name", 1), ("version", 1))
"""The unique index that gives each version to one of those who add at once."""

REFERENCE_PATH = "artifact.sha256"
"""Where a component refers to its blob: what collects unused blobs looks there."""

LIVE, HIDDEN, REMOVED = "live", "hidden", "removed"


class ComponentRecord(Document, registry=internal_registry):
    """One version of a component."""

    __collection__ = COLLECTION

    kind: Mapped[str]
    name: Mapped[str]
    version: Mapped[int]
    state: Mapped[str] = field(default=LIVE)
    """``live``; ``hidden``, where it was removed by force and others need it; or ``removed``.

    Of what was removed nothing is left but this, so that its version is not given again.
    """
    content: Mapped[str]
    """What makes it the same as another: ``fingerprint:...`` or ``sha256:...``."""
    artifact: Mapped[dict[str, Any] | None] = field(default=None)
    """The reference to its blob, where it has one."""
    params: Mapped[dict[str, Any]] = field(factory=dict)
    children: Mapped[list[dict[str, Any]]] = field(factory=list)
    """Kind, name and version of each component that it needs."""
    fit: Mapped[dict[str, Any] | None] = field(default=None)
    """What came of its training, where it is a model that was trained."""
    created: Mapped[datetime] = field(factory=utcnow)
    touched: Mapped[ObjectId] = field(factory=ObjectId)
    """Of the last commit that counts on the component: of that and a removal at the same time one fails.

    The record's own id, where none did.
    """

    @property
    def is_counted_on(self) -> bool:
        """Whether another commit has counted on it than that which added it, and it was not replaced."""
        return bool(self.touched != self.id)

    @property
    def owner(self) -> tuple[str | int, ...]:
        """What the artifact's signature is bound to."""
        return (self.kind, self.name, self.version)

    @property
    def shown(self) -> dict[str, Any]:
        """What `DB.show` says of it."""
        shown = ("kind", "name", "version", "content", "artifact", "params", "children", "created")
        values = {attribute: getattr(self, attribute) for attribute in shown}
        return values if self.fit is None else {**values, **self.fit, "metrics": dict(Fit.from_bson(self.fit).metrics)}

    @property
    def named(self) -> Named:
        """The component that it is."""
        return Named(self.kind, self.name, self.version)

    @property
    def needs(self) -> list[Named]:
        """The components that it needs."""
        return [Named(**child) for child in self.children]

    @property
    def reference(self) -> Reference | None:
        """The reference to its blob. Raises `CorruptArtifactError`."""
        return None if self.artifact is None else Reference.from_bson(self.artifact)

    @property
    def fingerprint(self) -> dict[str, str]:
        """The argument that says what the content is; none where it is a hash."""
        kind, _, text = self.content.partition(":")
        return {"fingerprint": text} if kind == "fingerprint" else {}


def content_of(
    identity: str | None,
    params: Mapping[str, Any],
    children: Sequence[Mapping[str, Any]],
    artifact: Mapping[str, Any] | None,
) -> str:
    """What makes a component the same as another: what it says itself, or a hash over all that is stored of it."""
    if identity is not None:
        return f"fingerprint:{identity}"
    stored = {"params": params, "children": list(children), "artifact": artifact}
    return f"sha256:{hashlib.sha256(bson.encode(stored, codec_options=CODEC_OPTIONS)).hexdigest()}"
