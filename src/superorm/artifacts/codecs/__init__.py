"""Codecs: objects to bytes and back."""

from __future__ import annotations

from superorm.artifacts.codecs.base import Codec, FileCodec
from superorm.artifacts.codecs.registry import codec_for, codec_named

__all__ = ["Codec", "FileCodec", "codec_for", "codec_named"]
