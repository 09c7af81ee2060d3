"""Where outputs are kept: those of a listener beside all others, those that a vector index holds by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from attrs import frozen

from superorm.codec.outputs import output_of
from superorm.codec.vectors import decode_vector, encode_vector, real_float32
from superorm.components.base import Named
from superorm.components.listened import Source
from superorm.components.outputs import OUTPUTS, State, all_outputs, among, output_id, stored_output
from superorm.exc import PredictionError, ValidationError
from superorm.schema.vector_spec import VectorSpec

__all__ = ["Kept", "kept"]


class Kept(Protocol):
    """The place of what a listener, or a vector index, keeps of each document."""

    @property
    def collection(self) -> str: ...

    @property
    def spec(self) -> VectorSpec | None:
        """What indexes it, if anything does."""
        ...

    def id_of(self, key: Any) -> Any:
        """The ``_id`` of what is kept, by the document's key."""
        ...

    def key_of(self, stored: Mapping[str, Any]) -> Any:
        """The document's key."""
        ...

    def everything(self, backend: str) -> dict[str, Any]:
        """A filter for all."""
        ...

    def among(self, keys: Sequence[Any]) -> dict[str, Any]:
        """A filter for those of these documents."""
        ...

    def stored(self, mapping: str, key: Any, output: Any) -> tuple[dict[str, Any], bool]:
        """What is kept of an output, and whether it nests no deeper than a list; `mapping` is the document's class.

        Raises `PredictionError` for what cannot be kept.
        """
        ...

    def is_whole(self, stored: Mapping[str, Any], source: Source) -> bool:
        """Whether what is kept is still an output as far as can be told without a model: that of the source."""
        ...


@frozen
class _Outputs:
    """Of a listener."""

    named: Named
    collection = OUTPUTS
    spec = None

    def id_of(self, key: Any) -> Any:
        return output_id(self.named, key)

    def key_of(self, stored: Mapping[str, Any]) -> Any:
        return stored["_id"]["key"]

    def everything(self, backend: str) -> dict[str, Any]:
        return all_outputs(self.named, backend)

    def among(self, keys: Sequence[Any]) -> dict[str, Any]:
        return among(self.named, keys)

    def stored(self, mapping: str, key: Any, output: Any) -> tuple[dict[str, Any], bool]:
        return stored_output(self.named, key, output)

    def is_whole(self, stored: Mapping[str, Any], source: Source) -> bool:
        try:
            output_of(stored)
        except ValidationError:
            return False
        return stored.get("output") is not None or ("output" in stored and "form" not in stored)


@frozen
class _Vectors:
    """Of a vector index."""

    named: Named
    spec: VectorSpec

    @property
    def collection(self) -> str:
        return self.spec.collection

    def id_of(self, key: Any) -> Any:
        return key

    def key_of(self, stored: Mapping[str, Any]) -> Any:
        return stored["_id"]

    def everything(self, backend: str) -> dict[str, Any]:
        return {}

    def among(self, keys: Sequence[Any]) -> dict[str, Any]:
        return {"_id": {"$in": list(keys)}}

    def stored(self, mapping: str, key: Any, output: Any) -> tuple[dict[str, Any], bool]:
        vector = real_float32(output)
        if vector is None or vector.ndim == 0:
            what = f"a {type(output).__name__}, which is no vector"
        elif vector.shape != (self.spec.dim,):
            what = f"of shape {vector.shape}, and the index has {self.spec.dim} dimensions"
        elif not np.isfinite(vector).all():
            what = "not finite"
        else:
            return {self.spec.path: encode_vector(vector)}, True
        raise PredictionError(
            f"the {self.named} cannot hold the output for {mapping} {key!r}: it is {what}", component=self.named.name
        )

    def is_whole(self, stored: Mapping[str, Any], source: Source) -> bool:
        vector, given = decode_vector(stored.get(self.spec.path)), real_float32(source.value)
        return vector is not None and given is not None and np.array_equal(vector, given)


def kept(state: State) -> Kept:
    """The place that a state tells of."""
    return _Outputs(state.named) if state.spec is None else _Vectors(state.named, state.spec)
