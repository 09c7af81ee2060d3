"""S3 calls that fail, hang, are slow, end too early or succeed without saying so, at each call of an operation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient, MongoClient

from superorm import (
    DB,
    ArtifactError,
    AsyncDB,
    AsyncMemoryVectorIndex,
    AsyncMongoDatabackend,
    AsyncMongoMetaDataStore,
    AsyncS3ArtifactStore,
    MemoryVectorIndex,
    MongoDatabackend,
    MongoMetaDataStore,
    S3ArtifactStore,
)
from superorm.components.kinds import KINDS
from tests.artifacts.operations import OPERATIONS, Operation, World, under_fault
from tests.artifacts.s3_proxy import FAULTS, S3Proxy
from tests.databases import drop_database
from tests.teams import Team
from tests.vectors.s3_server import CREDENTIALS, S3Server

ALONE, REPEATED = 0, 2
"""How often boto3 repeats a call."""
SECONDS = 1.0
"""For which boto3 waits for an answer."""
LIMIT = 15.0
"""Seconds that an operation takes at most, however its calls hang."""
NUMBER = 1000
"""From here on operations are numbered."""


class S3World(World):
    """Documents on a server, and artifacts in a bucket behind the proxy."""

    by_async = False
    """Whether operations are those of `AsyncDB`."""

    def __init__(self, uri: str, bucket: str, plain: Any, proxy: S3Proxy, client: Any) -> None:
        self.uri = uri
        self.proxy = proxy
        self.name = f"test_{uuid4().hex[:12]}"
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.bucket = bucket
        self.plain = plain
        self.place = f"s3://{bucket}/{self.name}"
        self.disturbed = client
        self.db = self.of(S3ArtifactStore(self.place, client=client))

    def of(self, store: S3ArtifactStore) -> DB:
        backend, metadata = MongoDatabackend(self.client, self.name), MongoMetaDataStore(self.client, self.name)
        return DB(backend, metadata, store, MemoryVectorIndex(), signing_keys=[b"key"])

    def run(self, operation: Operation, number: int) -> None:
        if self.by_async:
            asyncio.run(self._run_async(operation, number))
        else:
            super().run(operation, number)

    async def _run_async(self, operation: Operation, number: int) -> None:
        async with AsyncMongoClient[dict[str, Any]](self.uri) as client:
            backend, metadata = AsyncMongoDatabackend(client, self.name), AsyncMongoMetaDataStore(client, self.name)
            store = AsyncS3ArtifactStore(self.place, client=self.disturbed)
            db = AsyncDB(backend, metadata, store, AsyncMemoryVectorIndex(), signing_keys=[b"key"])
            await operation.run_async(db, self, number)

    def other(self) -> DB:
        return self.of(S3ArtifactStore(self.place, client=self.plain))

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.client[self.name][collection].find())

    def stored(self) -> dict[str, bytes]:
        found = self.plain.list_objects_v2(Bucket=self.bucket, Prefix=self.name).get("Contents", [])
        unfinished = self.plain.list_multipart_uploads(Bucket=self.bucket, Prefix=self.name).get("Uploads", [])
        stored: dict[str, bytes] = {one["Key"]: b"" for one in unfinished}
        for one in found:
            stored[one["Key"]] = self.plain.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read()
        return {name.removeprefix(f"{self.name}/").removesuffix(".blob"): data for name, data in stored.items()}

    def close(self) -> None:
        self.db.close()
        drop_database(self.client, self.name)
        self.client.close()


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    proxy = S3Proxy(s3.port)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def client(s3: S3Server, proxy: S3Proxy) -> Iterator[Callable[[int], Any]]:
    """Makes the client of a store, which repeats a call so often.

    Making one takes long, so there is one that repeats none; others repeat only so many in all before they give up.
    """
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in CREDENTIALS.items():
            patch.setenv(name.upper(), value)
        patch.setattr("botocore.retryhandler.delay_exponential", lambda *_, **__: 0.01)  # otherwise up to seconds
        patch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)

        def made(retries: int) -> Any:
            said = f"timeout={SECONDS * 1000:.0f}ms&connect_timeout=2s&client_max_retries={retries}"
            store = S3ArtifactStore(f"s3://bucket?endpoint={proxy.endpoint}&{said}")
            stack.callback(store.close)
            return store.client

        alone = made(ALONE)
        yield lambda retries: made(retries) if retries else alone


@pytest.fixture(scope="module")
def plain(s3: S3Server) -> Iterator[Any]:
    """A client that nothing disturbs."""
    client = s3.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture
def make(
    mongodb_uri: str,
    bucket: str,
    plain: Any,
    proxy: S3Proxy,
    client: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., S3World]]:
    """Makes a DB whose artifacts are behind the proxy, with what stays."""
    monkeypatch.setitem(KINDS, Team.kind, Team)
    proxy.arm()
    with ExitStack() as stack:

        def make(retries: int, large: bool = False) -> S3World:
            world = S3World(mongodb_uri, bucket, plain, proxy, client(retries))
            world.large = 9 << 20 if large else 0
            stack.callback(world.close)
            world.begin()
            return world

        yield make


CALLS = {
    "add": ["HEAD", "PUT"],
    "commit": ["HEAD", "PUT"],
    "remove": [],
    "gc": ["DELETE", "GET", "DELETE", "GET", "GET", "GET"],
    "load": ["HEAD", "GET", "HEAD", "GET"],
}
"""The calls of each operation, where nothing goes wrong: a blob is looked for before it is put,
and where one is deleted, or all are listed, so are uploads that were not finished."""
LARGE = {"commit": ["HEAD", "POST", "PUT", "PUT", "POST"], "load": ["HEAD", "GET", "HEAD", "GET", "GET"]}
"""Those where the document's artifact goes in two parts."""
HEADLESS = ("cut", "load", "HEAD")
"""Headers that end too early are whole ones to Python's HTTP client, so boto3 does not ask again."""
SHORT = {(fault, ALONE, "once") for fault in ("error", "cut", "unsaid")} | {("unsaid", REPEATED, "once")}


def cases(calls: Mapping[str, Sequence[str]], short: Collection[tuple[str, int, str]]) -> list[Any]:
    """Each fault of each operation, with and without repetition, once and for a while."""
    return [
        pytest.param(
            operation,
            fault,
            retries,
            mode == "from then on",
            marks=[] if (fault, retries, mode) in short else [pytest.mark.soak],
            id=f"{operation}, {fault}, {mode}{', repeated' if retries else ''}",
        )
        for operation, fault, retries, mode in product(calls, FAULTS, (ALONE, REPEATED), ("once", "from then on"))
        if calls[operation]
    ]


@pytest.mark.parametrize("large", [False, True])
def test_the_calls(make: Callable[..., S3World], large: bool) -> None:
    """Those that are to go wrong are all that there are."""
    world = make(ALONE, large)
    for name, expected in (LARGE if large else CALLS).items():
        operation = OPERATIONS[name]
        operation.prepare(world, NUMBER)
        world.proxy.arm()
        operation.run(world.db, world, NUMBER)
        assert expected == [call.partition(" ")[0] for call in world.proxy.calls]
        assert operation.is_done(world, NUMBER)
        operation.undo(world, NUMBER)
        world.settle()


def at_each_call(
    world: S3World,
    operation: str,
    calls: Sequence[str],
    fault: str,
    *,
    always: bool = False,
    succeeds: bool = False,
    only: int | None = None,
) -> None:
    """The fault at each of the operation's calls in turn, or at one only; whether it succeeds nevertheless."""
    for number, call in enumerate(calls, 1):
        if only not in (None, number):
            continue
        try:
            failed = under_fault(
                world,
                OPERATIONS[operation],
                NUMBER + number,
                partial(world.proxy.arm, fault, number, always=always),
                world.proxy.arm,
                ArtifactError,
                LIMIT,
            )
            if succeeds and (fault, operation, call) != HEADLESS:
                assert failed is None
        except BaseException as error:
            error.add_note(f"{operation}, {fault} at call {number}, {call}")
            raise
    world.intact()


def comes_through(fault: str, retries: int, always: bool) -> bool:
    """Whether boto3 gets what it wants in the end. It has checksums, but does not ask again where they are wrong."""
    return fault == "slow" or (retries > 0 and not always and fault != "short")


@pytest.mark.parametrize(("operation", "fault", "retries", "always"), cases(CALLS, SHORT))
def test_at_each_call(make: Callable[..., S3World], operation: str, fault: str, retries: int, always: bool) -> None:
    """All of it is done, or there is an error and nothing of it is; what boto3 repeats succeeds."""
    succeeds = comes_through(fault, retries, always)
    at_each_call(make(retries), operation, CALLS[operation], fault, always=always, succeeds=succeeds)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if (fault, ALONE, "once") not in SHORT])
def test_at_one_call(make: Callable[..., S3World], fault: str) -> None:
    """The other faults in short: each operation meets each of them once, at another call; of hanging, one form."""
    world = make(ALONE)
    names = [name for name, calls in CALLS.items() if calls]
    half = {"hangs": names[::2], "hangs, but done": names[1::2]}
    for operation in half.get(fault, names):
        calls = CALLS[operation]
        only = list(FAULTS).index(fault) % len(calls) + 1
        at_each_call(world, operation, calls, fault, succeeds=fault == "slow", only=only)


@pytest.mark.parametrize(("operation", "fault", "retries", "always"), cases(LARGE, {("unsaid", REPEATED, "once")}))
def test_at_each_call_of_parts(
    make: Callable[..., S3World], operation: str, fault: str, retries: int, always: bool
) -> None:
    """The same where artifacts are uploaded and downloaded in parts; no part stays behind."""
    succeeds = comes_through(fault, retries, always)
    at_each_call(make(retries, large=True), operation, LARGE[operation], fault, always=always, succeeds=succeeds)


@pytest.mark.parametrize("operation", [name for name, calls in CALLS.items() if calls])
def test_async(make: Callable[..., S3World], operation: str) -> None:
    """The same of `AsyncDB`, where answers are lost."""
    world = make(ALONE)
    world.by_async = True
    at_each_call(world, operation, CALLS[operation], "unsaid")


def test_an_upload_that_is_gone(bucket: str, plain: Any, proxy: S3Proxy, client: Callable[[int], Any]) -> None:
    """Where the answer is lost, boto3 asks again for what is done: neither a removal nor an upload fails by that."""
    store = S3ArtifactStore(f"s3://{bucket}/gone", client=client(REPEATED))
    plain.create_multipart_upload(Bucket=bucket, Key="gone/half.blob")
    proxy.arm("unsaid", 3)
    store.delete("half")
    assert ["DELETE", "GET", "DELETE", "DELETE"] == [call.partition(" ")[0] for call in proxy.calls]
    assert "Uploads" not in plain.list_multipart_uploads(Bucket=bucket, Prefix="gone/")
    data = [Random(number).randbytes(1 << 20) for number in range(9)]
    proxy.arm("unsaid", 5)
    assert 9 << 20 == store.put("whole", data)
    assert "POST" == proxy.calls[5].partition(" ")[0]
    proxy.arm()
    assert b"".join(data) == plain.get_object(Bucket=bucket, Key="gone/whole.blob")["Body"].read()


@pytest.mark.parametrize(("size", "parts", "at"), [(68, 1, 2), (100_000, 1, 2), (9 << 20, 2, 2), (9 << 20, 2, 3)])
def test_answers_that_are_cut_off_once(
    bucket: str, plain: Any, proxy: S3Proxy, client: Callable[[int], Any], size: int, parts: int, at: int
) -> None:
    """They are asked for again, and what has come of them before is not given twice."""
    store = S3ArtifactStore(f"s3://{bucket}/cut", client=client(ALONE))
    key, data = f"of-{size}-{at}", Random(size).randbytes(size)
    plain.put_object(Bucket=bucket, Key=f"cut/{key}.blob", Body=data)
    proxy.arm("cut", at)
    assert data == b"".join(store.get(key))
    assert ["HEAD", *["GET"] * (parts + 1)] == [call.partition(" ")[0] for call in proxy.calls]


@pytest.mark.parametrize("fault", ["cut", "short", "refused"])
def test_answers_that_end_too_early(
    bucket: str, plain: Any, proxy: S3Proxy, client: Callable[[int], Any], fault: str
) -> None:
    """However they do, the error is superorm's own and names the store."""
    store = S3ArtifactStore(f"s3://{bucket}/early-{fault}", client=client(ALONE))
    store.put("k", [b"0123456789"])
    proxy.arm(fault, 1, always=True)
    with pytest.raises(ArtifactError, match=rf"s3://{bucket}/early-{fault} cannot be listed: "):
        list(store.keys())
    proxy.arm(fault, 2, always=True)
    with pytest.raises(ArtifactError, match="the blob k cannot be read: "):
        list(store.get("k"))
    proxy.arm()
    assert b"0123456789" == b"".join(store.get("k"))
