"""Which codec stores what."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from superorm.artifacts.codecs.base import Codec
from superorm.artifacts.codecs.estimators import EstimatorCodec
from superorm.artifacts.codecs.images import ImageCodec
from superorm.artifacts.codecs.pickled import CloudpickleCodec
from superorm.artifacts.codecs.plain import BytesCodec, JsonCodec, NpyCodec, TextCodec
from superorm.artifacts.codecs.tables import ArrowCodec
from superorm.artifacts.codecs.tensors import ModuleCodec, StateCodec
from superorm.exc import ConfigurationError, CorruptArtifactError

__all__ = ["codec_for", "codec_named"]

_GROUP = "superorm.codecs"
_FALLBACK = CloudpickleCodec()
_CODECS: tuple[Codec, ...] = (
    *(BytesCodec(), TextCodec(), NpyCodec(), StateCodec(), JsonCodec()),
    *(ArrowCodec(), ImageCodec(), ModuleCodec(), EstimatorCodec()),
)


@cache
def _by_name() -> dict[str, Codec]:
    """All codecs, in the order of choice; none of other packages has the name of one of these."""
    own: dict[str, Codec] = {codec.name: codec for codec in _CODECS}
    others = [_loaded(entry.name, entry.load()) for entry in entry_points(group=_GROUP)]
    last: dict[str, Codec] = {_FALLBACK.name: _FALLBACK}
    return own | {codec.name: codec for codec in others if codec.name not in own | last} | last


def _loaded(name: str, found: Any) -> Codec:
    codec: Any = found() if isinstance(found, type) or not hasattr(found, "encode") else found
    parts = ("name", "version", "carries_code", "takes", "encode", "decode")
    missing = [part for part in parts if not hasattr(codec, part)]
    if missing or codec.name != name:
        wrong = f"it has no {', '.join(missing)}" if missing else f"it calls itself {codec.name!r}"
        raise ConfigurationError(f"the entry point {name!r} of {_GROUP} is no codec of that name: {wrong}")
    result: Codec = codec
    return result


def codec_for(value: Any, name: str | None = None) -> Codec:
    """The codec of that name, or the one for the object: a safe one where one gives the same object back.

    Where none takes it that is cloudpickle. Raises ``ConfigurationError``, which lists the names, for an unknown one.
    """
    codecs = _by_name()
    if name is None:
        return next((codec for codec in codecs.values() if codec.takes(value)), _FALLBACK)
    if name not in codecs:
        raise ConfigurationError(f"there is no codec {name!r}, but {', '.join(codecs)}")
    return codecs[name]


def codec_named(name: str, version: int) -> Codec:
    """The codec that decodes what a codec of that name and version encoded.

    Raises ``CorruptArtifactError``, which lists the known ones.
    """
    codec = _by_name().get(name)
    if codec is None or not 0 < version <= codec.version:
        known = ", ".join(f"{known.name} {known.version}" for known in _by_name().values())
        raise CorruptArtifactError(
            f"the artifact is stored with the codec {name!r}, version {version}; this superorm knows {known}"
        )
    return codec
