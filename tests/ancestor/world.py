"""A database of a test, as superorm has it and as plain clients have it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import gridfs
import lancedb
from attrs import field, frozen

from superorm import DB, connect
from superorm.artifacts.memory_blobs import BLOBS
from tests.vectors.processes import started

__all__ = ["KEY", "World"]

KEY = "test-key"


@frozen
class World:
    """One combination of parts."""

    db: DB
    name: str
    settings: dict[str, Any] = field(repr=False)
    """What `connect` was given."""
    plain: Any
    """A client of the server that is PyMongo's own, or mongomock's."""
    endpoint: str | None = None
    """Of the S3 server."""
    environment: dict[str, str] = field(factory=dict[str, str])
    """Variables of processes that use it."""

    @property
    def mocked(self) -> bool:
        """Whether all of it is in the memory of this process."""
        return str(self.settings["url"]).startswith("mongomock:")

    @property
    def engine(self) -> str:
        """The vector engine."""
        return str(self.settings["vector_database"]).partition(":")[0]

    @contextmanager
    def opened(self, **settings: Any) -> Generator[DB]:
        """Another DB over the same data, with connections of its own: what a process that starts now has."""
        with connect(**(self.settings | settings)) as db:
            yield db

    def elsewhere(self, function: Any, *args: Any) -> Any:
        """What a function of `tests.ancestor.elsewhere` says of a DB of its own: in another process, if one could
        see the data, and with another DB of this process where they are in its memory.
        """
        if self.mocked:
            with self.opened() as db:
                return function(db, *args)
        from tests.ancestor.elsewhere import run

        process, pipe = started(run, function, self.settings, self.environment, *args)
        try:
            done, answer = pipe.recv()
        finally:
            pipe.close()
            process.join(30)
        assert done, answer
        assert 0 == process.exitcode
        return answer

    def documents(self, collection: str) -> list[dict[str, Any]]:
        """All that a collection holds."""
        return list(self.plain[self.name][collection].find({}))

    def outputs(self, listener: str) -> dict[Any, Any]:
        """The stored outputs of a listener by the key of the document."""
        found = self.documents("_superorm_outputs")
        return {one["_id"]["key"]: one["output"] for one in found if one["_id"]["listener"] == listener}

    def blobs(self) -> dict[str, bytes]:
        """The bytes of the artifact store by their physical key."""
        store = self.settings["artifact_store"]
        if store.startswith("memory:"):
            return {key: data for key, (_, data) in BLOBS[store.removeprefix("memory://")].items()}
        if store.startswith("gridfs:"):
            return {str(file._id): file.read() for file in self._bucket().find({})}
        client, bucket = self._s3(), self._s3_bucket()
        found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        read = {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}
        client.close()
        return read

    def collect(self) -> None:
        """Remove the blobs that nothing refers to, without a grace period."""
        self.db.gc(grace=timedelta(0))

    def indexed(self, field: str) -> int | None:
        """How many vectors are in LanceDB's newest table of a field; None where vectors are in memory."""
        if self.engine == "memory":
            return None
        directory = Path(self.settings["vector_database"].removeprefix("lancedb://"))
        newest = max(path.stem for path in directory.glob(f"*.{field}-*.lance"))
        return int(lancedb.connect(directory).open_table(newest).count_rows())

    def overwrite(self, key: str, data: bytes) -> None:
        """Put other bytes in the place of a blob."""
        store = self.settings["artifact_store"]
        if store.startswith("memory:"):
            blobs = BLOBS[store.removeprefix("memory://")]
            blobs[key] = (blobs[key][0], data)
        elif store.startswith("gridfs:"):
            bucket = self._bucket()
            bucket.delete(key)
            bucket.upload_from_stream_with_id(key, key, data)
        else:
            client = self._s3()
            client.put_object(Bucket=self._s3_bucket(), Key=key, Body=data)
            client.close()

    def _bucket(self) -> gridfs.GridFSBucket:
        database = self.settings["artifact_store"].removeprefix("gridfs://")
        return gridfs.GridFSBucket(self.plain[database], "_superorm_artifacts")

    def _s3(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")

    def _s3_bucket(self) -> str:
        return str(self.settings["artifact_store"]).removeprefix("s3://").partition("/")[0]
