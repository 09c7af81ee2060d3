"""An S3 server of the tests' own: moto's, in a process of its own, asked over HTTP."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

__all__ = ["S3Server"]

_SERVE = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with lock:
        return list(moto(environ, start_response))
server = make_server("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
"""One request at a time: S3 looks for an object and writes it, under a condition, in one step; moto does not."""
KEY, SECRET = "AKIAEXAMPLEOFAKEY", "a-secret-that-nobody-shows"
LEASE = 2.5
"""Seconds for which a writer's lease of a bucket lasts in tests."""
CREDENTIALS = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}


class S3Server:
    """The server, what it was asked, and its buckets."""

    def __init__(self) -> None:
        self._log = Path(tempfile.mkstemp(prefix="superorm-s3-", suffix=".log")[1])
        self._process = self._start(0)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def _start(self, port: int) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(port)], stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """What LanceDB is to be told."""
        return {"endpoint": self.endpoint, **CREDENTIALS}

    def client(self) -> Any:
        """A plain client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def bucket(self) -> str:
        """A new bucket."""
        name = f"vectors-{uuid4().hex[:12]}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def url(self, bucket: str, prefix: str) -> str:
        """A URL that names this server."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def empty(self, bucket: str) -> int:
        """Remove all that is in a bucket; how much that was."""
        client, gone = self.client(), 0
        while found := client.list_objects_v2(Bucket=bucket).get("Contents"):
            gone += len(found)
            client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": one["Key"]} for one in found]})
        client.close()
        return gone

    def requests(self) -> list[str]:
        """Method, path and query of all that was asked."""
        return [line.split('"')[1] for line in self._log.read_text().splitlines() if "HTTP/1.1" in line]

    def stop(self) -> None:
        """End it; nobody answers at its address any more."""
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.unlink(missing_ok=True)
