"""Components as they are stored: documents of the metadata store, mapped by superorm itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from superorm.artifacts.reference import Reference
from superorm.components.model import Model
from superorm.exc import UnsupportedError
from superorm.schema.document import Document
from superorm.schema.fields import Mapped, field, utcnow
from superorm.schema.registry import Registry

__all__ = ["COMPONENT_KEYS", "REFERENCE_PATH", "ComponentRecord", "component_of", "internal_registry"]

internal_registry = Registry()
"""The registry of superorm's own documents."""

COMPONENT_KEYS = (("kind", 1), ("name", 1), ("version", 1))
"""The unique index that gives each version to one of those who add at once."""

REFERENCE_PATH = "artifact.sha256"
"""Where a component refers to its blob: what collects unused blobs looks there."""


class ComponentRecord(Document, registry=internal_registry):
    """One version of a component."""

    __collection__ = "_superorm_components"

    kind: Mapped[str]
    name: Mapped[str]
    version: Mapped[int]
    content: Mapped[str]
    """What makes it the same as another: ``fingerprint:...`` or ``sha256:...``."""
    artifact: Mapped[dict[str, Any]]
    """The reference to its blob."""
    params: Mapped[dict[str, Any]] = field(factory=dict)
    children: Mapped[list[dict[str, Any]]] = field(factory=list)
    created: Mapped[datetime] = field(factory=utcnow)

    @property
    def owner(self) -> tuple[str | int, ...]:
        """What the artifact's signature is bound to."""
        return (self.kind, self.name, self.version)

    @property
    def reference(self) -> Reference:
        """The reference to its blob."""
        return Reference.from_bson(self.artifact)


def component_of(record: ComponentRecord, obj: Any) -> Model:
    """The component of a record and its loaded object."""
    if record.kind != Model.kind:
        raise UnsupportedError(f"components of kind {record.kind!r} cannot be loaded by this release")
    fingerprint = record.content.removeprefix("fingerprint:") if record.content.startswith("fingerprint:") else None
    return Model(record.name, obj, fingerprint=fingerprint, version=record.version, **record.params)
