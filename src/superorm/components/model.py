"""A model: any object that turns inputs into outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from superorm._io.progress import Progress
from superorm.exc import ConfigurationError, PredictionError

__all__ = ["Model"]


_METHODS = ("predict", "encode", "transform")


class Model:
    """A named, versioned object with a prediction.

    A plain function is called for each item;
    an object with ``predict``, ``encode`` or ``transform`` is called with a list of at most `batch_size` items.
    `batched` overrides that choice.
    `fingerprint` says what the content is; without one it is known by the hash of the stored bytes.
    `version` is given by `DB.add`.
    """

    kind: ClassVar[str] = "model"

    def __init__(
        self,
        name: str,
        object: Any,
        *,
        batch_size: int = 64,
        batched: bool | None = None,
        fingerprint: str | None = None,
        version: int | None = None,
    ) -> None:
        self.name = _name(name)
        self.batch_size = _size(name, batch_size)
        method = next((getattr(object, name) for name in _METHODS if hasattr(object, name)), None)
        if method is None and not callable(object):
            raise ConfigurationError(
                f"Model {name!r}: a {type(object).__name__} has no {', '.join(_METHODS)} and cannot be called"
            )
        self.object = object
        self.batched = method is not None if batched is None else batched
        self.fingerprint = fingerprint
        self.version = version
        self._call: Callable[[Any], Any] = method if method is not None else object

    def __repr__(self) -> str:
        version = "" if self.version is None else f", version={self.version}"
        return f"Model({self.name!r}{version})"

    @property
    def params(self) -> dict[str, Any]:
        """What is stored beside the artifact."""
        return {"batch_size": self.batch_size, "batched": self.batched}

    def predict(self, items: Sequence[Any], *, progress: Progress | None = None) -> list[Any]:
        """One output for each item, in order.

        Raises `PredictionError`, whose `position` is that of the item at fault where it is known.
        """
        outputs: list[Any] = []
        for start in range(0, len(items), self.batch_size):
            batch = list(items[start : start + self.batch_size])
            outputs += self._predict_batch(batch, start)
            if progress is not None:
                progress(len(outputs), len(items), f"model {self.name}")
        return outputs

    def _predict_batch(self, batch: list[Any], start: int) -> list[Any]:
        try:
            outputs = list(self._call(batch)) if self.batched else [self._call(item) for item in batch]
        except Exception as error:
            raise self._failed(batch, start, error) from error
        if len(outputs) != len(batch):
            raise PredictionError(
                f"model {self.name!r} gave {len(outputs)} outputs for {len(batch)} inputs",
                component=self.name,
                position=start if len(batch) == 1 else None,
            )
        return outputs

    def _failed(self, batch: list[Any], start: int, error: Exception) -> PredictionError:
        """The error for a batch that failed, with the item at fault, if one alone fails too."""
        position = None
        for offset, item in enumerate(batch):
            try:
                self._call([item] if self.batched else item)
            except Exception:  # noqa: BLE001 - any failure of the user's code points to the item
                position = start + offset
                break
        return PredictionError(
            f"model {self.name!r} failed: {type(error).__name__}: {error}", component=self.name, position=position
        )


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a Model needs a name, not {name!r}")
    return name


def _size(name: str, batch_size: object) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"Model {name!r}: batch_size must be a whole number from 1, not {batch_size!r}")
    return batch_size
