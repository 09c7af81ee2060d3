"""The type of artifact fields: objects whose bytes are kept elsewhere, and what documents hold in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import frozen

from superorm.expr.narrow import is_dict
from superorm.schema.types.artifact_annotations import annotated_types
from superorm.schema.types.base import BsonType, Misfit

if TYPE_CHECKING:
    from superorm.schema.mapping import ClassMap, MappedField

__all__ = ["ArtifactType", "Artifacts", "Held", "Unread"]


@frozen(eq=False)
class Held:
    """Stands in a document that is about to be written, until the object's bytes are stored."""

    value: Any
    codec: str | None


class Unread:
    """Stands in an object for an artifact that was not read before the document was lost to it."""


class Artifacts:
    """What the packages above do for artifact fields: `superorm.artifacts.fields` sets it as it is imported.

    That is with ``superorm`` itself, so that it is there before any object with such a field.
    """

    same: ClassVar[Callable[[Any, str | None, Mapping[str, Any]], bool]]
    """Whether an object, encoded by a codec, is what a reference refers to."""
    read: ClassVar[Callable[[ClassMap, MappedField, object, dict[str, Any]], Any]]
    """The artifact of a field of an object with that document. Raises `NotLoadedError` and what reading raises."""


class ArtifactType(BsonType):
    """Any object, or None. Documents hold a reference, which only a session can read."""

    name = "artifact"
    reads = frozenset({dict, type(None)})

    def __init__(self, codec: str | None, annotated: Callable[[], Any] = lambda: Any) -> None:
        self.codec = codec
        self._annotated = annotated

    @cached_property
    def _types(self) -> tuple[type, ...] | None:
        return annotated_types(self._annotated())

    def _fits(self, value: object) -> bool:
        """Whether a value is what the annotation says; anything is where that names what only checkers import."""
        try:
            return self._types is None or isinstance(value, self._types)
        except NameError:
            return True

    def from_bson(self, value: Any) -> Any:
        if value is None:
            return None
        if is_dict(value):
            raise Misfit(value, "a column; an artifact is read as an attribute of its document, so select that")
        raise Misfit(value, "a reference to an artifact")

    def to_bson(self, value: Any) -> Any:
        if isinstance(value, Unread):
            raise Misfit(value, "an artifact, which was not read before its document was rolled back; assign it anew")
        if not self._fits(value):
            names = ["None" if one is NoneType else one.__name__ for one in self._types or ()]
            raise Misfit(value, " or ".join(names))
        return None if value is None else Held(value, self.codec)

    def unchanged(self, value: Any, raw: Any) -> bool:
        if value is None or not is_dict(raw) or isinstance(value, Unread):
            return value is None and raw is None
        return Artifacts.same(value, self.codec, raw)

    def beside(self, value: object) -> Any:
        if value is None:
            return None
        raise Misfit(value, "None: artifacts cannot be compared in the database")
