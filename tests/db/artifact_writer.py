"""A process that commits documents with artifacts, says which are committed, and is killed."""

from __future__ import annotations

import hashlib
import os
import sys

from superorm import Document, Mapped, Registry, artifact, connect, field

registry = Registry()


class Blob(Document, registry=registry):
    __collection__ = "blobs_of_a_killed_writer"

    digest: Mapped[str] = field(primary_key=True)
    data: Mapped[bytes] = artifact()


def main(uri: str, database: str) -> None:
    """Commit documents whose key is the hash of their artifact, some with two flushes, for ever."""
    with connect(uri, database=database, vector_database="memory://", signing_key="key") as db:
        db.open()
        print("ready", flush=True)
        while True:
            datas = [os.urandom(100_000) for _ in range(2)]
            with db.begin() as session:
                for data in datas:
                    session.add(Blob(digest=hashlib.sha256(data).hexdigest(), data=data))
                    session.flush()
            for data in datas:
                print(hashlib.sha256(data).hexdigest(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
