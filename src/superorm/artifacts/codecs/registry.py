"""Which codec stores what."""

from __future__ import annotations

from typing import Any

import numpy as np

from superorm.artifacts.codecs.base import Codec
from superorm.artifacts.codecs.pickled import CloudpickleCodec
from superorm.artifacts.codecs.plain import BytesCodec, NpyCodec
from superorm.exc import CorruptArtifactError

__all__ = ["codec_for", "codec_named"]

_BYTES, _NPY, _CLOUDPICKLE = BytesCodec(), NpyCodec(), CloudpickleCodec()
_CODECS: dict[str, Codec] = {codec.name: codec for codec in (_BYTES, _NPY, _CLOUDPICKLE)}


def codec_for(value: Any) -> Codec:
    """The codec for an object: a safe one where one gives the same object back, else cloudpickle."""
    if value.__class__ is bytes:
        return _BYTES
    if value.__class__ is np.ndarray and not value.dtype.hasobject:
        return _NPY
    return _CLOUDPICKLE


def codec_named(name: str, version: int) -> Codec:
    """The codec that decodes what a codec of that name and version encoded.

    Raises ``CorruptArtifactError``, which lists the known ones.
    """
    codec = _CODECS.get(name)
    if codec is None or not 0 < version <= codec.version:
        known = ", ".join(f"{known.name} {known.version}" for known in _CODECS.values())
        raise CorruptArtifactError(
            f"the artifact is stored with the codec {name!r}, version {version}; this superorm knows {known}"
        )
    return codec
