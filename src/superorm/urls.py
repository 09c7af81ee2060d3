"""The URLs of a DB's parts."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl

from superorm.exc import ConfigurationError, UnsupportedError

__all__ = ["check_scheme", "cluster_name", "lance_directory", "numbers_of_url", "path_of_url", "scheme_of"]

KNOWN: Mapping[str, Mapping[str, str]] = {
    "data backend": {
        "mongodb": "mongodb://host/database",
        "mongodb+srv": "mongodb+srv://host/database",
        "mongod": "mongod://path",
        "mongomock": "mongomock://name",
    },
    "metadata store": {"mongodb": "mongodb://host/database", "mongodb+srv": "mongodb+srv://host/database"},
    "artifact store": {
        "gridfs": "gridfs://",
        "s3": "s3://bucket/prefix",
        "file": "file://path",
        "memory": "memory://",
    },
    "vector database": {
        "lancedb": "lancedb://path",
        "s3": "s3://bucket/prefix",
        "memory": "memory://",
        "atlas": "atlas://",
    },
    "compute engine": {"local": "local://"},
}
LATER: Mapping[str, frozenset[str]] = {
    "vector database": frozenset({"http", "https"}),
    "compute engine": frozenset({"dask"}),
}


def scheme_of(url: str) -> str:
    """What stands before ``://``; the URL itself where nothing does, so that ``local`` is ``local://``."""
    return url.partition("://")[0]


def path_of_url(url: str) -> Path:
    """The path of a ``scheme://path`` URL, ``~`` expanded. Raises `ConfigurationError` where there is none."""
    path = url.partition("://")[2]
    if not path:
        raise ConfigurationError(f"{url!r} names no path; write {scheme_of(url)}://./data, for example")
    if "\0" in path:
        raise ConfigurationError(f"{url!r} is no path: it has a NUL character")
    return Path(path).expanduser()


def numbers_of_url(url: str, names: Collection[str]) -> dict[str, float]:
    """The options of a ``scheme://?name=number`` URL, which names no place.

    Raises `ConfigurationError` for anything else in it.
    """
    place, _, query = url.partition("://")[2].partition("?")
    found: dict[str, float] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        with suppress(ValueError):
            found[name] = float(value)
        if name not in names or not math.isfinite(found.get(name, math.nan)):
            options = " and ".join(f"{one}=seconds" for one in names)
            raise ConfigurationError(f"{url!r} has {name}={value!r}; its options are {options}")
    if place:
        raise ConfigurationError(f"{url!r} names {place!r}, but {scheme_of(url)}:// is where the documents are")
    return found


def check_scheme(part: str, url: str | None) -> None:
    """Raise an error for a URL that no part of that kind has: `UnsupportedError` for what is to come."""
    if url is None or (scheme := scheme_of(url)) in KNOWN[part]:
        return
    known = ", ".join(KNOWN[part].values())
    if scheme in LATER.get(part, ()):
        raise UnsupportedError(f"the {part} {scheme}:// is not supported yet; there are {known}")
    shown = scheme if "://" in url else "without a scheme"
    raise ConfigurationError(f"no {part} has URLs of the form {shown!r}; the known ones are {known}")


def cluster_name(url: str) -> str:
    """A short, stable name for what a data backend's URL names, fit for a directory."""
    scheme, _, rest = url.partition("://")
    if scheme == "mongod":
        where = str(path_of_url(url).resolve())
    else:
        where = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
        where = ",".join(sorted(where.split(",")))
    readable = re.sub(r"[^A-Za-z0-9]+", "-", where).strip("-")[-40:]
    return f"{scheme}-{readable}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"


def lance_directory(data_directory: Path, url: str, database: str) -> Path:
    """Where the vectors of a database are kept unless a URL says otherwise."""
    return data_directory / "lance" / cluster_name(url) / database
