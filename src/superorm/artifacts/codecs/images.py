"""The codec for images of Pillow."""

from __future__ import annotations

import io
import sys
from typing import Any

from attrs import frozen

from superorm.artifacts.codecs.base import is_a
from superorm.exc import ArtifactSavingError

__all__ = ["ImageCodec"]

_FORMATS = dict.fromkeys(("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "PNG") | dict.fromkeys(
    ("CMYK", "F", "I"), "TIFF"
)
"""A format that keeps every value, by the image's mode."""


@frozen
class ImageCodec:
    """Images, without loss: as PNG, those that it cannot hold as TIFF. EXIF and colour profiles are kept."""

    name: str = "image"
    version: int = 1
    carries_code: bool = False

    def takes(self, value: Any) -> bool:
        """Whether it is an image of Pillow, of one frame, that comes back without loss."""
        return (
            is_a(value, "PIL.Image", "Image")
            and value.mode in _FORMATS
            and getattr(value, "n_frames", 1) == 1
            and 0 < value.width * value.height <= (sys.modules["PIL.Image"].MAX_IMAGE_PIXELS or sys.maxsize)
            and (value.mode != "P" or value.getextrema()[1] < _colours(value))
        )

    def encode(self, value: Any) -> bytes:
        """The image. Raises ``ArtifactSavingError`` for what is none, and for more frames than one."""
        if not self.takes(value):
            raise ArtifactSavingError(
                f"the codec image stores images of Pillow with one frame, of the modes {', '.join(_FORMATS)}, with "
                "pixels, no more than Image.MAX_IMAGE_PIXELS, and none beyond their palette, "
                f"not {value!r:.80}: convert it, or store the file's bytes"
            )
        file = io.BytesIO()
        exif = value.getexif()
        value.save(file, _FORMATS[value.mode], **({"exif": exif} if exif else {}))
        return file.getvalue()

    def decode(self, data: bytes) -> Any:
        """The image, loaded."""
        from PIL import Image

        image = Image.open(io.BytesIO(data), formats=sorted(set(_FORMATS.values())))
        image.load()
        return image


def _colours(image: Any) -> int:
    """How many colours the palette has."""
    return len(image.palette.palette) // len(image.palette.mode)
