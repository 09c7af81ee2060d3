"""Artifacts put and got as streams, beside the same by hand: ``python benchmarks/artifacts [--quick]``.

By hand are: plain ``gridfs.GridFSBucket``, as it comes and, without a bound, told to make chunks of superorm's size;
boto3's ``upload_fileobj`` and ``download_fileobj`` on moto's server; ``shutil.copyfile`` and ``hashlib.sha256`` of the
copy.
superorm hashes in all of them, and asks its registry on the server whether it has the bytes already.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gridfs
from attrs import frozen
from pymongo import MongoClient, WriteConcern

from harness import Time, interleave, table, timed
from superorm import DirectoryArtifactStore, MongoArtifactStore, MongoMetaDataStore, S3ArtifactStore
from superorm._sync.blobs import Blobs
from superorm.artifacts._sync.gridfs import CHUNK_BYTES
from superorm.artifacts.codecs import codec_named
from superorm.artifacts.registry import REGISTRY, Uploaded
from superorm.artifacts.signing import Keyring
from superorm.backends.mongod import open_mongod, wait_stopped
from tests.vectors.s3_server import S3Server

AT_LEAST = {"gridfs": 0.9, "s3": 0.9, "directory": 0.8}
"""superorm's throughput, as a ratio to that by hand."""
OWNER = ("benchmark",)


@frozen
class Way:
    """How a file is put and got, and how what was put goes again."""

    put: Callable[[Path], object]
    get: Callable[[Path], object]
    clear: Callable[[], object]


class Ours:
    """superorm, on any store."""

    def __init__(self, store: Any, client: MongoClient[dict[str, Any]], name: str) -> None:
        self._registry = client[name][REGISTRY]
        self._store = store
        self._blobs = Blobs(MongoMetaDataStore(client, name), store, lambda: Keyring((b"a key of this benchmark",)))
        self._blobs.prepare()
        self._last: Uploaded | None = None

    def put(self, source: Path) -> None:
        with source.open("rb", 0) as file:
            self._last = self._blobs.upload(file)
        self._blobs.register([self._last])

    def get(self, target: Path) -> None:
        assert self._last is not None
        reference = self._blobs.reference(self._last, codec_named("bytes", 1), OWNER)
        with target.open("wb", 0) as file:
            for chunk in self._blobs.open(reference, OWNER):
                file.write(chunk)

    def clear(self) -> None:
        """As if the bytes had never been stored, so that they are stored again."""
        if self._last is not None:
            self._store.delete(self._last.key)
        self._registry.delete_many({})

    @property
    def way(self) -> Way:
        return Way(self.put, self.get, self.clear)


def plain_gridfs(client: MongoClient[dict[str, Any]], name: str, **options: int) -> Way:
    database = client.get_database(name, write_concern=WriteConcern("majority"))
    bucket = gridfs.GridFSBucket(database, **options)

    def put(source: Path) -> None:
        with source.open("rb", 0) as file:
            bucket.upload_from_stream_with_id("it", "it", file)

    def get(target: Path) -> None:
        with target.open("wb", 0) as file:
            bucket.download_to_stream("it", file)

    def clear() -> None:
        database["fs.files"].delete_many({})
        database["fs.chunks"].delete_many({})

    return Way(put, get, clear)


def plain_boto3(client: Any, bucket: str) -> Way:
    place = {"Bucket": bucket, "Key": "plain"}

    def put(source: Path) -> None:
        with source.open("rb", 0) as file:
            client.upload_fileobj(file, **place)

    def get(target: Path) -> None:
        with target.open("wb", 0) as file:
            client.download_fileobj(**place, Fileobj=file)

    return Way(put, get, lambda: client.delete_object(**place))


def plain_copies(folder: Path) -> Way:
    """A copy that is on the disk, as a blob is, and its hash."""
    copy = folder / "plain"

    def copied(source: Path, target: Path) -> None:
        shutil.copyfile(source, target)
        with target.open("rb", 0) as file:
            hashlib.file_digest(file, "sha256")

    def put(source: Path) -> None:
        copied(source, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())

    return Way(put, lambda target: copied(copy, target), lambda: copy.unlink(missing_ok=True))


def measure(
    name: str, ways: dict[str, Way], folder: Path, mib: int, runs: int, least: float
) -> tuple[list[list[str]], list[str]]:
    """The rows of a store, and what is too slow; nothing is too slow for a least of 0."""
    source = folder / "source"
    source.write_bytes(os.urandom(mib << 20))

    def putting(way: Way) -> Callable[[], Time]:
        def run() -> Time:
            way.clear()
            return timed(lambda: way.put(source))()

        return run

    def getting(way: Way) -> Callable[[], Time]:
        def run() -> Time:
            target = folder / "target"
            target.unlink(missing_ok=True)
            time = timed(lambda: way.get(target))()
            assert target.stat().st_size == mib << 20
            return time

        return run

    rows: list[list[str]] = []
    misses: list[str] = []
    for what, candidate in (("put", putting), ("get", getting)):
        for way in ways.values():
            candidate(way)()  # once unmeasured
        times = interleave({key: candidate(way) for key, way in ways.items()}, runs)
        ours, hand = times["superorm"], times["by hand"]
        ratio = hand.wall / ours.wall
        cells = [f"{mib / time.wall:.0f}" for time in (ours, hand)] + [f"{time.cpu:.2f}" for time in (ours, hand)]
        rows.append([f"{name}, {what}", *cells, f"{ratio:.2f}", f"{least or ''}"])
        if ratio < least:
            misses.append(f"{name}, {what}: {ratio:.2f} x")
    for way in ways.values():
        way.clear()
    return rows, misses


@contextmanager
def server(uri: str | None) -> Iterator[str]:
    """The URI of a server: the given one, or a private one."""
    if uri is not None:
        yield uri
        return
    with TemporaryDirectory(prefix="superorm-bench-") as folder:
        with open_mongod(folder) as lease:
            yield lease.uri
        wait_stopped(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: a look, not a measurement")
    parser.add_argument("--mib", type=int, default=256, help="how large")
    parser.add_argument("--uri", help="a replica set that runs already, in place of a private one")
    parser.add_argument("--folder", help="where files are; on a disk whose speed varies, one in memory says more")
    parser.add_argument("--only", choices=sorted(AT_LEAST), help="one store alone")
    arguments = parser.parse_args()
    runs, name = 3 if arguments.quick else 9, f"bench_{uuid4().hex[:8]}"
    rows = [[f"{arguments.mib} MiB", "MiB/s", "by hand", "CPU s", "by hand"]]
    rows[0] += ["ratio", "at least"]
    misses: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="superorm-bench-", dir=arguments.folder)))
        client: MongoClient[dict[str, Any]] = stack.enter_context(
            MongoClient(stack.enter_context(server(arguments.uri)))
        )
        for database in (name, f"{name}_files", f"{name}_plain"):
            stack.callback(client.drop_database, database)
        s3 = S3Server()
        stack.callback(s3.stop)
        boto, bucket = s3.client(), s3.bucket()
        stack.callback(boto.close)
        in_gridfs, plain = MongoArtifactStore(client, f"{name}_files"), f"{name}_plain"
        stores: list[tuple[str, str, Any, Way]] = [
            ("gridfs", "", in_gridfs, plain_gridfs(client, plain)),
            ("gridfs", " (chunks alike)", in_gridfs, plain_gridfs(client, plain, chunk_size_bytes=CHUNK_BYTES)),
            ("s3", "", S3ArtifactStore(f"s3://{bucket}", client=boto), plain_boto3(boto, bucket)),
            ("directory", "", DirectoryArtifactStore(folder / "blobs"), plain_copies(folder)),
        ]
        for key, how, store, hand in stores:
            if arguments.only in (None, key):
                ways = {"superorm": Ours(store, client, name).way, "by hand": hand}
                least = 0.0 if how else AT_LEAST[key]
                found = measure(key + how, ways, folder, arguments.mib, runs, least)
                rows += found[0]
                misses += found[1]
    table(rows)
    print(f"\nMedians of {runs} interleaved runs; the ratio is one of throughputs. CPU is this process's alone.")
    print("superorm misses:", "; ".join(misses) or "nothing")


if __name__ == "__main__":
    main()
