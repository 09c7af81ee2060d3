"""A dataset: the documents of a select as they were when it was added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import bson
from attrs import Attribute, define, field

from superorm.codec import documents
from superorm.components.base import Component
from superorm.components.selects import check_documents
from superorm.exc import ComponentError
from superorm.expr.statements import Select
from superorm.schema.mapping import ClassMap, class_map
from superorm.unitofwork.encode import CODEC_OPTIONS

__all__ = ["Dataset"]


def _check_select(dataset: Dataset, _: Attribute[Any], select: object) -> None:
    check_documents(f"Dataset {dataset.name!r}", select)


@define(eq=False, slots=False, repr=False)
class Dataset(Component):
    """The documents that a select of one class finds, kept as they are when `DB.add` stores it.

    It is a sequence of these objects, in the select's order, once it is added or loaded.
    Adding one of the same documents is a no-op; of others it is the next version, which `DB.add` gives it.
    """

    kind: ClassVar[str] = "dataset"

    select: Select[Any, Any] = field(kw_only=True, validator=_check_select)
    data: bytes | None = field(init=False, default=None)
    """The documents as BSON, one after the other: what is stored."""

    @property
    def mapping(self) -> ClassMap:
        """The class of the documents."""
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        return class_map(cls)

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The documents as MongoDB has them. Raises `ComponentError` before the dataset is added."""
        if self.data is None:
            raise ComponentError(
                f"{self!r} has no documents yet: db.add(...) takes them, db.load('dataset', ...) gives those of before",
                component=self.name,
            )
        return bson.decode_all(self.data, CODEC_OPTIONS)  # pyright: ignore[reportUnknownMemberType]

    @property
    def objects(self) -> list[Any]:
        """The documents as objects of their class, new ones each time. Raises `ComponentError` as `documents` does."""
        return documents.load(self.mapping, self.documents)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.objects)

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Keep these documents."""
        self.data = b"".join([bson.encode(document, codec_options=CODEC_OPTIONS) for document in found])

    @property
    def params(self) -> dict[str, Any]:
        """The select, as data."""
        return {"select": self.select.to_dict()}

    @property
    def stored(self) -> Any:
        """The documents."""
        return self.data

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The dataset of what was stored. Raises `StatementError` where its class is not declared in this process."""
        dataset = cls(name, select=Select.from_dict(params["select"]))
        dataset.data = stored
        return dataset
