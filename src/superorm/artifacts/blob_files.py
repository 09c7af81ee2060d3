"""Blobs as files: written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from errno import ENOTDIR
from pathlib import Path

from superorm.artifacts.blob_keys import check_key

__all__ = ["blob_file", "blob_files", "delete_blob", "write_blob"]

_SUFFIX = ".blob"
_PART = ".blob.part"
"""Of a file that is being written, or was when its process died."""


def blob_file(folder: Path, key: str) -> Path:
    """The file of a blob. Raises `ValueError` for a key that is no plain name."""
    check_key(key)
    return folder / f"{key}{_SUFFIX}"


def write_blob(file: Path, chunks: Iterable[bytes]) -> int:
    """Write a new file, which is there when all of it is on the disk; the number of bytes.

    Raises `FileExistsError` where the file exists, or is being written.
    """
    _make_folder(file.parent)
    part = file.with_name(f"{file.stem}{_PART}")
    length = 0
    with part.open("xb") as opened:  # who makes it has the key
        try:
            if file.exists():
                raise FileExistsError(file)
            for chunk in chunks:
                length += opened.write(chunk)
            opened.flush()
            os.fsync(opened.fileno())
            part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    _sync_folder(file.parent)
    return length


def delete_blob(file: Path) -> None:
    """Remove the file, a half-written one too; nothing happens where there is none."""
    file.unlink(missing_ok=True)
    file.with_name(f"{file.stem}{_PART}").unlink(missing_ok=True)


def blob_files(folder: Path) -> Iterator[tuple[str, datetime]]:
    """The key of every blob in the folder, half-written ones too, with the time (UTC) of the last write.

    Other files are left out.
    """
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        suffix = next((suffix for suffix in (_SUFFIX, _PART) if entry.name.endswith(suffix)), None)
        if suffix is not None and (written := _written(entry)) is not None:
            yield entry.name.removesuffix(suffix), written


def _written(entry: os.DirEntry[str]) -> datetime | None:
    try:
        return datetime.fromtimestamp(entry.stat().st_mtime, UTC)
    except FileNotFoundError:  # deleted or renamed in the meantime
        return None


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, so that they outlast a loss of power too."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(ENOTDIR, "not a directory", str(folder))
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
