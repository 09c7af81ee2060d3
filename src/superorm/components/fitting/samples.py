"""What a model is trained on, as arrays where it is numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import bson
import numpy as np
from attrs import define, field, frozen

from superorm.components.trainer import Trainer
from superorm.exc import TrainingError
from superorm.expr.narrow import is_list
from superorm.unitofwork.encode import CODEC_OPTIONS
from superorm.unitofwork.rows import rows_of

__all__ = ["Collecting", "Samples", "Values"]

Values: TypeAlias = "np.ndarray[Any, Any] | list[Any]"


@frozen(eq=False)
class Samples:
    """Inputs and targets of documents, in the same order."""

    inputs: Values
    targets: Values | None
    plain: Sequence[Any]
    """The targets as the documents have them."""
    data: str
    """The SHA-256 of what they are made of."""

    def __len__(self) -> int:
        return len(self.inputs)


@define
class Collecting:
    """Takes documents batch by batch."""

    trainer: Trainer
    _inputs: list[Values] = field(factory=list["Values"])
    _targets: list[Any] = field(factory=list[Any])
    _hash: Any = field(factory=hashlib.sha256)

    def take(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Take whole documents, or what the trainer's fields read of them.

        Raises `TrainingError` where one has no value, and `ValidationError` where a stored value does not fit.
        """
        documents: Any = found
        fields = self.trainer.fields
        rows = rows_of(fields, documents, None, _no_documents)
        for which, column in zip(("key", "target"), zip(*rows, strict=True), strict=False):
            for document, value in zip(found, column, strict=True):
                if value is None:
                    self._refuse(which, document["_id"])
        inputs, *targets = (list(column) for column in zip(*rows, strict=True)) if rows else ([],)
        self._inputs.append(arrayed(inputs))
        self._targets += targets[0] if targets else []
        names = ["_id", *sorted({path.partition(".")[0] for path in fields.find.projection or () if path != "_id"})]
        for document in found:
            kept = {name: document[name] for name in names if name in document}
            self._hash.update(bson.encode(kept, codec_options=CODEC_OPTIONS))

    def _refuse(self, which: str, key: Any) -> NoReturn:
        trainer, given = self.trainer, getattr(self.trainer, which)
        mapping = trainer.mapping
        raise TrainingError(
            f"{mapping.name} {key!r} has None as {given!r}, the {which} of a trainer: leave such documents out, "
            f"by .where(~{given!r}.is_(None))",
            document_class=mapping.cls,
            key=key,
            field=str(given._path),
        )

    def samples(self, what: str) -> Samples:
        """All that was taken. Raises `TrainingError` where that is nothing."""
        batches = [batch for batch in self._inputs if len(batch)]
        if not batches:
            raise TrainingError(f"{what}: there are no {self.trainer.mapping.name}s to train on or to validate with")
        inputs = _joined(batches)
        targets = None if self.trainer.target is None else arrayed(self._targets)
        return Samples(inputs, targets, self._targets, self._hash.hexdigest())


def arrayed(values: list[Any]) -> Values:
    """Numbers, truth values, and arrays or lists of them of one shape, as one array; anything else as it is."""
    first = values[0] if values else None
    if isinstance(first, np.ndarray):
        arrays: list[np.ndarray[Any, Any]] = values
        same = all(isinstance(one, np.ndarray) for one in values) and len({one.shape for one in arrays}) == 1
        return np.stack(arrays) if same else values
    if is_list(first) or (isinstance(first, (int, float)) and type(first) in (int, float, bool)):
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError):  # lists of different lengths
            return values
        return array if array.dtype.kind in "biuf" else values
    return values


def _joined(batches: Sequence[Values]) -> Values:
    arrays = [batch for batch in batches if isinstance(batch, np.ndarray)]
    if len(arrays) == len(batches) and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return [value for batch in batches for value in batch]


def _no_documents(*_: object) -> NoReturn:
    raise AssertionError("only fields are read")
