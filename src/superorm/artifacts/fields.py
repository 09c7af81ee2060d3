"""Artifact fields of documents: what they are called by, and what objects hold in them. Decisions only."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import bson
from attrs import frozen

from superorm.artifacts.collecting import Place
from superorm.artifacts.encodings import Loaded, same
from superorm.artifacts.reference import Reference
from superorm.artifacts.signing import Owner
from superorm.exc import ArtifactError, NotLoadedError, StatementError
from superorm.expr.kinds import is_field
from superorm.expr.narrow import is_dict
from superorm.expr.order import BSON_OPTIONS
from superorm.expr.reprs import short_repr
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.state import GONE, RAW
from superorm.schema.types.artifacts import Artifacts, ArtifactType, Held, Unread
from superorm.unitofwork.flush import FlushPlan, Work
from superorm.unitofwork.holding import Holder

__all__ = [
    "Loaded",
    "Pending",
    "Wanted",
    "artifact_fields",
    "loaded",
    "located",
    "owner_of",
    "pending",
    "place_of",
    "reference_of",
    "released",
]


def owner_of(mapping: ClassMap, part: MappedField, key: Any) -> Owner:
    """What a reference in a document belongs to: its place in the database, so that a copy elsewhere is no good."""
    return "field", str(mapping.collection), bson.encode({"": key}, codec_options=BSON_OPTIONS).hex(), part.stored


def place_of(mapping: ClassMap, part: MappedField) -> Place:
    """Where the hashes of a field's references are."""
    return Place(str(mapping.collection), f"{part.stored}.sha256")


def located(error: ArtifactError, mapping: ClassMap, part: MappedField, key: Any) -> ArtifactError:
    """The same error, which says whose artifact it is about."""
    return type(error)(
        f"{mapping.name} {short_repr(key)}: {part.attribute}: {error}",
        document_class=mapping.cls,
        key=key,
        field=part.attribute,
    )


def reference_of(part: MappedField, document: Mapping[str, Any]) -> Reference | None:
    """The reference that a document holds. Raises ``CorruptArtifactError``."""
    found = document.get(part.stored)
    return None if found is None else Reference.from_bson(found)


@frozen
class Pending:
    """An object in a document that is about to be written; its reference goes in its place."""

    mapping: ClassMap
    part: MappedField
    key: Any
    held: Held
    holders: Sequence[dict[str, Any]]
    """The documents and updates that hold it under the field's key."""

    def put(self, reference: Reference) -> None:
        """Put the reference in the object's place."""
        for holder in self.holders:
            holder[self.part.stored] = reference.to_bson()


@frozen
class Wanted:
    """An artifact that is to be read."""

    mapping: ClassMap
    part: MappedField
    document: dict[str, Any]

    @property
    def owner(self) -> Owner:
        """What its reference has to be signed for."""
        return owner_of(self.mapping, self.part, self.document["_id"])

    def reference(self) -> Reference:
        """What the document holds. Raises ``CorruptArtifactError``."""
        return Reference.from_bson(self.document[self.part.stored])

    @contextmanager
    def named(self) -> Generator[None]:
        """A block whose errors of artifacts say whose it is."""
        try:
            yield
        except ArtifactError as error:
            raise located(error, self.mapping, self.part, self.document["_id"]) from error


def pending(works: Iterable[Work]) -> list[Pending]:
    """The objects in what is about to be written."""
    found: list[Pending] = []
    for work in works:
        for part in work.mapping.artifacts:
            for document in work.documents:
                if isinstance(held := document.get(part.stored), Held):
                    found.append(Pending(work.mapping, part, document["_id"], held, [document]))
            for edit, snapshot in zip(work.changed.edits, work.changed.snapshots, strict=True):
                if isinstance(held := snapshot.get(part.stored), Held):
                    sets = [edit["$set"]] if isinstance(edit, dict) else []
                    found.append(Pending(work.mapping, part, snapshot["_id"], held, [snapshot, *sets]))
    return found


def loaded(objects: Iterable[object]) -> list[Loaded]:
    """The artifacts that stored objects show, each with the reference in the stored document."""
    found: list[Loaded] = []
    for instance in objects:
        parts = class_map(type(instance)).artifacts
        state: dict[str, Any] = vars(instance) if parts else {}
        raw: Mapping[str, Any] = state.get(RAW) or state.get(GONE) or {}
        for part in parts:
            value, reference = state.get(part.attribute), raw.get(part.stored)
            if value is not None and is_dict(reference) and not isinstance(value, Unread):
                found.append((value, codec_of(part), reference))
    return found


def codec_of(part: MappedField) -> str | None:
    """The codec that a field asks for."""
    assert isinstance(part.type, ArtifactType)
    return part.type.codec


def released(plan: FlushPlan) -> list[str]:
    """The hashes that documents refer to no more once the plan is written, as far as their objects know."""
    found: dict[str, None] = {}
    for mapping, changed in plan.updated:
        for part in mapping.artifacts:
            for before, after in zip(changed.before, changed.snapshots, strict=True):
                found |= _gone(before.get(part.stored), after.get(part.stored))
    for instance in plan.deleted:
        for part in class_map(type(instance)).artifacts:
            found |= _gone(vars(instance)[RAW].get(part.stored), None)
    return list(found)


def _gone(before: object, after: object) -> dict[str, None]:
    """The hash of a reference that another value takes the place of, unless that refers to the same."""
    old = before.get("sha256") if is_dict(before) else None
    new = after.get("sha256") if is_dict(after) else None
    return {old: None} if isinstance(old, str) and old != new else {}


def artifact_fields(mapping: ClassMap, fields: Iterable[object], caller: str) -> list[MappedField]:
    """The artifact fields of a class that are given as ``Movie.trailer``. Raises `StatementError`."""
    parts: list[MappedField] = []
    for field in fields:
        names = [part.attribute for part in field._parts] if is_field(field) else []  # pyright: ignore[reportPrivateUsage]
        part = next((one for one in mapping.artifacts if [one.attribute] == names), None)
        if part is None:
            known = ", ".join(f"{mapping.name}.{one.attribute}" for one in mapping.artifacts) or "none"
            raise StatementError(f"{caller} takes artifact fields of {mapping.name} ({known}), not {short_repr(field)}")
        parts.append(part)
    if not parts:
        raise StatementError(f"{caller} needs an artifact field of {mapping.name}")
    return parts


def _read(mapping: ClassMap, part: MappedField, instance: object, raw: dict[str, Any]) -> Any:
    holder = Holder.of(instance)
    if holder is not None and holder.read_artifact is not None:
        return holder.read_artifact(mapping, part, raw)
    why = "it is in no session; add() it to one" if holder is None else "that has to be awaited"
    raise NotLoadedError(
        f"{mapping.name} {short_repr(raw.get('_id'))}: the artifact {part.attribute} was not read, and {why}: "
        f"session.load(..., {part.where})",
        document_class=mapping.cls,
        key=raw.get("_id"),
        field=part.attribute,
    )


Artifacts.same, Artifacts.read = same, _read
