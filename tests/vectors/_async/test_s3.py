"""LanceDB in a bucket: one engine of all machines, its lease, and what the store is asked."""

from __future__ import annotations

import http.client
import http.server
import re
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from attrs import evolve

from superorm._async import vector_builds, vector_upkeep
from superorm._io import aio
from superorm.exc import BackendError, ConfigurationError, UnsupportedError
from superorm.vectors import lance_directory, upkeep
from superorm.vectors._async.lancedb import AsyncLanceVectorIndex
from superorm.vectors._async.lease import AsyncLease
from superorm.vectors.errors import EngineBusy
from tests.vectors._async.test_traces import QUERY, at, keys
from tests.vectors._async.world import AsyncWorld
from tests.vectors.brute import DIM
from tests.vectors.s3_server import KEY, LEASE, SECRET, S3Server

VECTORS = np.random.default_rng(0).standard_normal((40, DIM)).astype("f4")
GONE = {"client_max_retries": "0", "client_retry_timeout": "1"}

MakeWorld = Callable[[str], AsyncWorld]


@pytest_asyncio.fixture
async def two(make_world: MakeWorld) -> tuple[AsyncWorld, AsyncWorld]:
    """Two machines that share documents and bucket; document 0 is nearer than 1."""
    one, other = make_world("s3scan-mongod"), make_world("s3scan-mongod")
    await one.indexes.ensure(one.spec)
    await other.indexes.ensure(one.spec)
    await one.put({0: at(3), 1: at(5)})
    await one.indexes.apply(one.spec)
    return one, other


async def asleep(lease: Any) -> None:
    """Its holder renews it no more, and it expires."""
    await lease._keeper.stop()
    await aio.sleep(LEASE)


def lease_of(world: AsyncWorld) -> dict[str, Any]:
    """The document of the index's writer's lease."""
    leases = world.plain["_superorm_records"].find({"kind": "lease"})
    (found,) = (one for one in leases if one["_id"].partition("@")[0].endswith(f".{world.spec.name}"))
    return dict(found)


async def test_one_engine(two: tuple[AsyncWorld, AsyncWorld], s3: S3Server) -> None:
    """All machines are one engine, that finds what any of them wrote; a copy of the bucket is another."""
    one, other = two
    assert await one.indexes.copies.engine() == await other.indexes.copies.engine()
    (state,) = one.plain["_superorm_records"].find({"kind": "state"})
    assert await one.indexes.copies.engine() == state["engine"]
    await other.put({0: at(9)})
    await other.indexes.apply(other.spec)
    assert [1, 0] == keys(await one.agrees(QUERY, 2))
    tables: Any = one.indexes.copies
    source, target = tables.tables.uri.split("/")[2], s3.bucket()
    client = s3.client()
    for found in client.list_objects_v2(Bucket=source)["Contents"]:
        client.copy_object(Bucket=target, Key=found["Key"], CopySource={"Bucket": source, "Key": found["Key"]})
    client.close()
    copied = AsyncLanceVectorIndex(f"s3://{target}/lance", storage_options=s3.options)
    assert state["engine"] != await copied.open()
    assert (
        await copied.open() == await AsyncLanceVectorIndex(f"s3://{target}/lance/", storage_options=s3.options).open()
    )


async def test_a_lease_excludes_others(two: tuple[AsyncWorld, AsyncWorld]) -> None:
    """While it is held, and renewed, nobody else gets it; then at once, with the next fence."""
    one, other = two
    first: Any = one.indexes.copies
    second: Any = other.indexes.copies
    before = lease_of(one)["fence"]
    async with first.lock(one.spec) as held:
        assert before + 1 == held.fence == lease_of(one)["fence"]
        (now,) = one.plain.client.admin.aggregate([{"$documents": [{}]}, {"$set": {"now": "$$NOW"}}])
        assert timedelta(0) < lease_of(one)["until"] - now["now"] <= timedelta(seconds=LEASE)
        await one.put({1: at(2)})
        with pytest.raises(EngineBusy, match="another writer"):
            await second.apply(one.spec, patience=2 * LEASE)
        assert keys(await other.agrees(QUERY, 2)) == [1, 0]
        assert not held.lost
    await second.apply(one.spec, patience=0)
    assert before + 2 == lease_of(one)["fence"]
    assert [] == await other.indexes.check(other.spec)


async def test_a_lease_that_was_taken_unheard(two: tuple[AsyncWorld, AsyncWorld]) -> None:
    """Where the answer of the server is lost, nobody waits until the lease has expired."""
    one, other = two
    copies: Any = one.indexes.copies
    lease = AsyncLease(one.backend, f"{copies.prefix(one.spec)}@{await copies.engine()}", 1_000)
    write, lost = one.backend.write, list[Any]()

    async def unheard(plan: Any, **options: Any) -> Any:
        done = await write(plan, **options)
        if lost:
            return done
        lost.append(done)
        raise BackendError("the connection is lost")

    one.backend.write = unheard  # type: ignore[method-assign]
    with pytest.raises(BackendError, match="lost"):
        await lease.acquire()
    assert 1 == lost[0].matched
    await other.put({0: at(9)})
    await other.indexes.copies.apply(other.spec, patience=0)
    assert [1, 0] == keys(await one.agrees(QUERY, 2))


async def test_c_after_the_lease(two: tuple[AsyncWorld, AsyncWorld]) -> None:
    """C: a zombie, whose lease has expired, writes after the other published: its write is restored away."""
    one, other = two
    first: Any = one.indexes.copies
    await one.put({0: at(9)})
    async with first.lock(one.spec) as lease:
        zombie = await first.read_step(one.spec)
        await asleep(lease)
        await other.put({0: at(1)})
        await other.indexes.apply(other.spec)
        ver = await first.write_step(one.spec, zombie)
        assert not await first.publish_step(one.spec, zombie, ver, lease)
        await lease.renew()
        assert lease.lost
    assert [0, 1] == keys(await one.agrees(QUERY, 2))
    await one.put({1: at(4)})
    await one.indexes.apply(one.spec)
    assert 1 == (await other.agrees(QUERY, 1)).explanation.calls
    assert [] == await other.indexes.check(other.spec)


@pytest.mark.parametrize("applied", [False, True])
async def test_the_fence(two: tuple[AsyncWorld, AsyncWorld], applied: bool) -> None:
    """A zombie does not publish what it wrote in time, though nobody else has published; the next restores it away."""
    one, other = two
    first: Any = one.indexes.copies
    second: Any = other.indexes.copies
    await one.put({0: at(9)})
    async with first.lock(one.spec) as lease:
        zombie = await first.read_step(one.spec)
        ver = await first.write_step(one.spec, zombie)
        assert zombie.state.ver + 1 == ver
        await asleep(lease)
        async with second.lock(one.spec) as its:
            assert not await first.publish_step(one.spec, zombie, ver, lease)
            (state,) = one.plain["_superorm_records"].find({"kind": "state"})
            assert (zombie.state.n, zombie.state.ver) == (state["n"], state["ver"])
            await other.put({0: at(1)})
            if applied:
                assert not await second.apply_some(one.spec, its)
                assert [] == (await second.records.look(one.spec.name, await second.engine())).unstamped
    assert [0, 1] == keys(await one.agrees(QUERY, 2))
    assert [] == await other.indexes.check(other.spec)


@pytest.mark.parametrize("zombies", ["merge", "restore"])
async def test_versions_that_are_not_contiguous(
    two: tuple[AsyncWorld, AsyncWorld], monkeypatch: pytest.MonkeyPatch, zombies: str
) -> None:
    """A zombie writes between the other's look at the table and its commit: the other reads and writes again."""
    one, other = two
    first: Any = one.indexes.copies
    await one.put({0: at(9)})
    zombie = await first.read_step(one.spec)
    await other.put({0: at(1)})
    merge, made = lance_directory.merge, list[Any]()
    tables = first.tables._directory

    def interrupted(*args: Any) -> None:
        if not made:
            made.append(None)
            if zombies == "merge":
                state, rows = zombie.state, zombie.rows
                made[0] = tables.write(state.table, state.ver, zombie.touched, rows.keys, rows.rows, rows.columns)
            else:
                handle = tables._connect().open_table(zombie.state.table)
                handle.checkout(zombie.state.ver - 1)
                handle.restore()
                made[0] = handle.version
        merge(*args)

    monkeypatch.setattr(lance_directory, "merge", interrupted)
    await other.indexes.apply(other.spec)
    (state,) = one.plain["_superorm_records"].find({"kind": "state"})
    assert zombie.state.ver + 1 == made[0]
    assert (zombie.state.n + 1, True) == (state["n"], state["ver"] > made[0] + 1)
    assert [0, 1] == keys(await one.agrees(QUERY, 2))
    assert [] == await one.indexes.check(one.spec)


async def test_a_builder_that_slept(two: tuple[AsyncWorld, AsyncWorld]) -> None:
    """A table whose builder lost the lease is not published with the old one, but under a new lease."""
    one, other = two
    first: Any = one.indexes.copies
    finish, fences = first.finish_build, list[int]()

    async def slow(*args: Any) -> bool:
        lease = args[-1]
        fences.append(lease.fence)
        if len(fences) == 1:
            await asleep(lease)
            await other.put({0: at(9)})
            await other.indexes.apply(other.spec)
        return bool(await finish(*args))

    first.finish_build = slow
    await one.indexes.rebuild(one.spec)
    assert 2 == len(fences)
    assert fences[0] + 1 < fences[1]
    assert [1, 0] == keys(await other.agrees(QUERY, 2))
    assert [] == await other.indexes.check(other.spec)


async def test_without_transactions(two: tuple[AsyncWorld, AsyncWorld]) -> None:
    """On a standalone server the fence is read before the state is published; a zombie publishes nothing either."""
    for world in two:
        backend: Any = world.backend
        capabilities = evolve(await backend.capabilities(), transactions=False)
        backend._server = evolve(backend._server, capabilities=capabilities)
    one, other = two
    first: Any = one.indexes.copies
    second: Any = other.indexes.copies
    await one.put({0: at(9)})
    async with first.lock(one.spec) as lease:
        zombie = await first.read_step(one.spec)
        ver = await first.write_step(one.spec, zombie)
        await asleep(lease)
        async with second.lock(one.spec):
            assert not await first.publish_step(one.spec, zombie, ver, lease)
        await other.put({0: at(1)})
        await other.indexes.apply(other.spec)
    assert [0, 1] == keys(await one.agrees(QUERY, 2))
    assert [] == await other.indexes.check(other.spec)


async def test_requests(make_world: MakeWorld, s3: S3Server) -> None:
    """A search in memory asks the store nothing, one in the table only for its rows, whoever published."""
    held, scan = make_world("s3-mongod"), make_world("s3scan-mongod")
    await held.put(dict(enumerate(VECTORS)))
    await held.indexes.apply(held.spec)
    await held.agrees(VECTORS[0], 5)
    await scan.agrees(VECTORS[0], 5)

    async def asked(search: Callable[[], Awaitable[Any]]) -> list[str]:
        before = len(s3.requests())
        await search()
        return s3.requests()[before:]

    assert [] == await asked(partial(held.agrees, VECTORS[1], 5))
    rows = await asked(partial(scan.agrees, VECTORS[1], 5))
    assert rows
    assert all(one.startswith("GET ") and "/data/" in one for one in rows)
    await scan.put({0: -VECTORS[0]})
    await scan.indexes.apply(scan.spec)
    assert [] == await asked(partial(held.agrees, VECTORS[2], 5))
    new = await asked(partial(scan.agrees, VECTORS[2], 5))
    assert [one for one in new if "/data/" not in one and "/_deletions/" not in one]
    rows = await asked(partial(scan.agrees, VECTORS[3], 5))
    assert all(one.startswith("GET ") and "/data/" in one for one in rows)


async def test_upkeep(two: tuple[AsyncWorld, AsyncWorld], s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is copied beside searches, by one machine at a time, and the one before it removed."""
    one, other = two
    copies: Any = one.indexes.copies
    monkeypatch.setattr(upkeep, "PUBLICATIONS", 2)
    monkeypatch.setattr(upkeep, "BYTES_A_SECOND", 1 << 40)
    monkeypatch.setattr(vector_builds, "READERS", timedelta(0))
    monkeypatch.setattr(vector_upkeep, "_TIDY_EVERY", 1)
    await one.put({2: at(4)})
    await one.indexes.apply(one.spec)
    bucket = copies.tables.uri.split("/")[2]

    def tables() -> set[str]:
        client = s3.client()
        found = {item["Key"].split("/")[1] for item in client.list_objects_v2(Bucket=bucket)["Contents"]}
        client.close()
        return {name.removesuffix(".lance") for name in found if not name.startswith("superorm-")}

    before = tables()
    async with copies.lock(one.spec, ".upkeep"):
        await other.indexes.copies.keep(one.spec, lambda: True)
    assert before == tables()
    await other.indexes.copies.keep(one.spec, lambda: True)
    (state,) = one.plain["_superorm_records"].find({"kind": "state"})
    assert {state["table"]} == tables()
    assert before.isdisjoint(tables())
    assert [0, 2, 1] == keys(await one.agrees(QUERY, 3))
    assert [] == await one.indexes.check(one.spec)


@pytest.mark.parametrize("opened_anew", [False, True])
async def test_an_emptied_bucket(
    two: tuple[AsyncWorld, AsyncWorld], make_world: MakeWorld, s3: S3Server, opened_anew: bool
) -> None:
    """What vanished is built anew from the documents, by a search or by one call; no answer is silently empty."""
    one, _ = two
    copies: Any = one.indexes.copies
    bucket = copies.tables.uri.split("/")[2]
    world = make_world("s3scan-mongod") if opened_anew else one
    assert s3.empty(bucket)
    assert [0, 1] == keys(await world.agrees(QUERY, 2))
    assert s3.empty(bucket)
    await world.indexes.rebuild(world.spec)
    await world.put({0: at(9)})
    await world.indexes.apply(world.spec)
    assert 1 == (await world.agrees(QUERY, 2)).explanation.calls
    assert [] == await world.indexes.check(world.spec)


async def test_a_store_that_is_gone(make_world: MakeWorld) -> None:
    """Searches in the bucket say so and name it, and so does a rebuild; when it is back all goes on."""
    server = S3Server()
    bucket, world = server.bucket(), make_world("memory-mongod")
    options = {**server.options, **GONE}
    tables = AsyncLanceVectorIndex(f"s3://{bucket}/x", storage_options=options, cache_bytes=0, lease_seconds=LEASE)
    world.indexes = type(world.indexes)(world.backend, tables)
    await world.put({0: at(3), 1: at(5)})
    assert [0, 1] == keys(await world.agrees(QUERY, 2))
    server.stop()
    for use in (
        partial(world.search, QUERY),
        partial(world.indexes.rebuild, world.spec),
        partial(world.indexes.check, world.spec),
    ):
        with pytest.raises(ConfigurationError, match=f"s3://{bucket}/x cannot be used: .*127.0.0.1") as caught:
            await use()
        shows_no_secret(caught.value)


class Denies(http.server.BaseHTTPRequestHandler):
    """A store that knows nobody, and says whom."""

    def _deny(self) -> None:
        body = (
            "<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>The key you provided is unknown."
            f"</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId><RequestId>1</RequestId></Error>"
        ).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = _deny

    def log_message(self, *args: Any) -> None:
        """Nothing."""


class ReadOnly(Denies):
    """A store that is empty, and may only be read."""

    def _read(self) -> None:
        body = (
            b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        status = 200
        if "list-type" not in self.path:
            status, body = 404, b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = _read


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The endpoint of a store."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def denying() -> Iterator[str]:
    """The endpoint of a store that denies all."""
    with serving(Denies) as endpoint:
        yield endpoint


def shows_no_secret(error: BaseException) -> None:
    """Neither the error nor its traceback has credentials."""
    for text in (str(error), repr(error), "".join(traceback.format_exception(error))):
        assert SECRET not in text
        assert KEY not in text


class Fails(http.server.BaseHTTPRequestHandler):
    """The store at the address `to`, which does not answer some requests: with a status of 0 it hangs up."""

    to = ("", 0)
    requests: re.Pattern[str] | None = None
    status = 503

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.requests is not None and self.requests.search(f"{self.command} {self.path}"):
            if self.status:
                self._send(self.status, {}, b"<Error><Code>SlowDown</Code><Message>Not now.</Message></Error>")
            self.close_connection = True
            return
        with closing(http.client.HTTPConnection(*self.to)) as store:
            store.request(self.command, self.path, body, dict(self.headers.items()))
            answer = store.getresponse()
            self._send(answer.status, dict(answer.getheaders()), answer.read())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize(("what", "status"), [(r"_versions/.*\.manifest", 503), ("data/", 403), ("data/", 0)])
async def test_a_store_that_fails_for_a_moment(
    make_world: MakeWorld, s3: S3Server, monkeypatch: pytest.MonkeyPatch, what: str, status: int
) -> None:
    """That a table cannot be read now does not mean that it is lost: it is not built anew, and serves later."""
    world, opened_anew = make_world("memory-mongod"), make_world("memory-mongod")
    with serving(Fails) as endpoint:
        monkeypatch.setattr(Fails, "to", ("127.0.0.1", s3.port))
        monkeypatch.setattr(Fails, "status", status)
        options, bucket = {**s3.options, **GONE, "endpoint": endpoint}, s3.bucket()
        for one in (world, opened_anew):
            tables = AsyncLanceVectorIndex(
                f"s3://{bucket}/x", storage_options=options, cache_bytes=0, lease_seconds=LEASE
            )
            one.indexes = type(world.indexes)(one.backend, tables)
        await world.indexes.ensure(world.spec)
        await world.put({0: at(3), 1: at(5)})
        await world.indexes.apply(world.spec)
        (before,) = world.plain["_superorm_records"].find({"kind": "state"})
        for one in (world, opened_anew):
            copies: Any = one.indexes.copies
            await copies.tables.close()
            monkeypatch.setattr(Fails, "requests", re.compile(f"GET .*/{before['table']}.lance/{what}"))
            with pytest.raises(ConfigurationError, match=f"s3://{bucket}/x cannot be used: ") as caught:
                await one.search(QUERY)
            shows_no_secret(caught.value)
            monkeypatch.setattr(Fails, "requests", None)
            assert [0, 1] == keys(await one.agrees(QUERY, 2))
        assert [before] == list(world.plain["_superorm_records"].find({"kind": "state"}))
        assert s3.empty(bucket)  # now it is lost
        assert [0, 1] == keys(await world.agrees(QUERY, 2))
        (after,) = world.plain["_superorm_records"].find({"kind": "state"})
        assert before["table"] != after["table"]


async def test_wrong_credentials_and_buckets(denying: str, s3: S3Server) -> None:
    """Each is a configuration error that names the URI and what the store said, and nothing secret."""
    index = AsyncLanceVectorIndex("s3://some-bucket/x", storage_options={**s3.options, "endpoint": denying})
    with pytest.raises(ConfigurationError, match=r"s3://some-bucket/x .*InvalidAccessKeyId: The key you") as caught:
        await index.open()
    shows_no_secret(caught.value)
    missing = AsyncLanceVectorIndex("s3://no-such-bucket/x", storage_options=s3.options)
    for use in (missing.open, partial(missing.create, "t", DIM), partial(missing.count, "t", 1)):
        with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket/x .*NoSuchBucket") as caught:
            await use()
        shows_no_secret(caught.value)
    assert f"AsyncLanceVectorIndex(uri={missing.uri!r})" == repr(missing)


async def test_a_store_that_may_only_be_read(s3: S3Server) -> None:
    """It says that nothing can be written to it, and not that nothing is there."""
    with serving(ReadOnly) as endpoint:
        index = AsyncLanceVectorIndex("s3://some-bucket/x", storage_options={**s3.options, "endpoint": endpoint})
        with pytest.raises(ConfigurationError, match=r"s3://some-bucket/x .*InvalidAccessKeyId: The key you") as caught:
            await index.open()
    shows_no_secret(caught.value)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (f"s3://{KEY}:{SECRET}@bucket/x", "no credentials"),
        (f"s3://bucket/x?aws_secret_access_key={SECRET}", "may say endpoint, region.* not aws_secret_access_key"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket//x", "no empty part"),
        ("s3://bucket/x//y", "no empty part"),
        ("s3://bucket/x#y", "no # or NUL"),
        ("s3://a b/x", "'a b' is no name for a bucket: that has 3 to 63 characters"),
        ("s3://b/p", "'b' is no name for a bucket: that has 3 to 63 characters"),
    ],
)
async def test_uris_that_cannot_be(uri: str, words: str) -> None:
    """They are refused before anything is asked, without what is secret."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        AsyncLanceVectorIndex(uri)
    shows_no_secret(caught.value)


async def test_options_that_cannot_be(make_world: MakeWorld, s3: S3Server) -> None:
    """Storage options of a directory, a lease that never lasts, other stores, and documents that are not shared."""
    with pytest.raises(ConfigurationError, match="storage_options"):
        AsyncLanceVectorIndex("somewhere", storage_options={"region": "x"})
    with pytest.raises(ConfigurationError, match="lease_seconds=0"):
        AsyncLanceVectorIndex("s3://bucket", lease_seconds=0)
    with pytest.raises(UnsupportedError, match="gs://"):
        AsyncLanceVectorIndex("gs://bucket/vectors")
    world = make_world("s3-mongomock")
    with pytest.raises(UnsupportedError, match=r"mongomock.*memory://"):
        await world.search(QUERY)
