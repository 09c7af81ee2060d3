"""A program that loads a torch module from a directory: ``mapped_process.py save|load DIRECTORY MIB``.

`load` prints how many bytes of memory of its own it took for it, at most, and its size.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from pathlib import Path

import mongomock
import torch

from superorm._sync.blobs import Blobs
from superorm.artifacts._sync.directory import DirectoryArtifactStore
from superorm.artifacts.codecs import codec_for
from superorm.artifacts.reference import Reference
from superorm.artifacts.signing import Keyring
from superorm.backends._sync.mongomock import MongomockMetaDataStore
from superorm.unitofwork.writes import Insert

OWNER = ("model", "large", 0)


def own_memory() -> int:
    """Memory that is this process's alone, in bytes; pages of a mapped file are not."""
    (found,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) << 10


def resident() -> int:
    """The most memory that was resident at once, mapped files included, in bytes."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) << 10


def main(what: str, folder: Path, mib: int) -> None:
    client: mongomock.MongoClient = mongomock.MongoClient()
    metadata = MongomockMetaDataStore(client, "mapped")
    blobs = Blobs(metadata, DirectoryArtifactStore(folder / "blobs"), lambda: Keyring((b"ours",)))
    kept = folder / "kept.json"

    def module(mib: int) -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Linear(1 << 10, 1 << 10, bias=False) for _ in range(mib // 4)))

    def save(mib: int) -> tuple[Reference, dict[str, object]]:
        value = module(mib)
        codec = codec_for(value)
        uploaded = blobs.upload(codec.encode(value))
        blobs.register([uploaded])
        (found,) = client["mapped"]["_superorm_blobs"].find({"_id": uploaded.sha256}, {"touched": 0})
        return blobs.reference(uploaded, codec, OWNER), found

    if what == "save":
        reference, found = save(mib)
        kept.write_text(json.dumps([reference.to_bson(), found]))
        return
    document, found = json.loads(kept.read_text())
    metadata.write(Insert("_superorm_blobs", [found]))
    blobs.load(save(4)[0], OWNER)  # with all that is imported at the first use
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = own_memory(), resident()
    loaded = blobs.load(Reference.from_bson(document), OWNER)
    total = sum(float(parameter.sum()) for parameter in loaded.parameters())  # every page is used
    assert total == total
    size = sum(parameter.nbytes for parameter in loaded.parameters())
    print(json.dumps({"own": own_memory() - before[0], "resident": resident() - before[1], "size": size}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
