"""From settings to the four parts of a DB."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from superorm._async.db import AsyncParts
from superorm._io import aio
from superorm.artifacts._async.gridfs import AsyncMongoArtifactStore
from superorm.artifacts._async.memory import AsyncMemoryArtifactStore
from superorm.backends._async.mongodb import AsyncMongoDatabackend, AsyncMongoMetaDataStore
from superorm.config import Settings, data_dir, hide_password
from superorm.exc import BackendError, ConfigurationError, UnsupportedError
from superorm.protocols._async.parts import AsyncArtifactStore, AsyncDataBackend, AsyncMetaDataStore
from superorm.s3_address import S3Address
from superorm.urls import check_scheme, cluster_name, lance_directory, numbers_of_url, path_of_url, scheme_of
from superorm.vectors._async.memory import AsyncMemoryVectorIndex

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

    from superorm.vectors._async.protocol import AsyncVectorDatabase

__all__ = ["mongomock_parts_around", "open_parts", "parts_around"]

_PATIENCE_MS = 5000
"""How long to wait for a private server that ran a moment ago."""


async def open_parts(settings: Settings, database: str | None) -> AsyncParts:
    """The parts that the settings name, connected.

    Raises `ConfigurationError` for URLs that cannot be, and for a server that does not answer.
    """
    url = settings.data_backend
    assert url is not None
    _check_schemes(settings)
    if scheme_of(url) == "mongomock":
        return await _mongomock_parts(settings, url, database)
    async with AsyncExitStack() as opened:  # whatever fails, what was opened is closed again
        parts = await _server_parts(settings, url, database, opened)
        opened.pop_all()
    return parts


def _check_schemes(settings: Settings) -> None:
    """Refuse what no part answers to before anything is started."""
    assert settings.data_backend is not None
    check_scheme("compute engine", settings.compute)
    check_scheme("data backend", settings.data_backend)
    check_scheme("artifact store", settings.artifact_store)
    match scheme_of(settings.artifact_store or ""):
        case "gridfs":
            _database_name(_bucket(settings, "x"))
        case "file":
            path_of_url(str(settings.artifact_store))
        case "s3":
            S3Address.of(str(settings.artifact_store))
        case _:
            pass
    vectors = settings.vector_database
    check_scheme("vector database", vectors)
    if vectors is not None and scheme_of(vectors) == "atlas":
        _atlas(vectors)
        if scheme_of(settings.data_backend) == "mongomock":
            raise ConfigurationError(
                "atlas:// is the search of a MongoDB server, and mongomock has none; use memory://"
            )
    if (uri := _store_of(settings)) is not None:
        _lance(uri)  # raises where it names no bucket
        if scheme_of(settings.data_backend) == "mongomock":
            raise UnsupportedError(f"{hide_password(uri)} is for all machines, and mongomock is not; use memory://")
    check_scheme("metadata store", settings.metadata)


async def _server_parts(settings: Settings, url: str, database: str | None, opened: AsyncExitStack) -> AsyncParts:
    """The parts on a MongoDB server, one of our own if the URL says so."""
    closers: tuple[Callable[[], Awaitable[None]], ...] = ()
    if scheme_of(url) == "mongod":
        name = _database_name(database or "superorm")
        from superorm.backends.mongod import open_mongod

        lease = await aio.in_thread(open_mongod, path_of_url(url), binary=settings.mongod)

        async def stop() -> None:
            await aio.in_thread(lease.close)

        closers = (stop,)
        opened.push_async_callback(stop)
        uri, lost = f"{lease.uri}&serverSelectionTimeoutMS={_PATIENCE_MS}", lease.check
    else:
        uri, lost, name = url, None, _database_name(database or _database_of(url))
    client = _client(uri)
    backend = AsyncMongoDatabackend(client, name, owns_client=True, lost=lost)
    opened.push_async_callback(backend.close)
    metadata: AsyncMetaDataStore = AsyncMongoMetaDataStore(client, name, lost=lost)
    if settings.metadata is not None:
        metadata = AsyncMongoMetaDataStore(
            _client(settings.metadata), _database_of(settings.metadata), owns_client=True
        )
        opened.push_async_callback(metadata.close)
    for part, where in ((backend, url), (metadata, settings.metadata or url)):
        try:
            await part.capabilities()
        except BackendError as error:
            raise ConfigurationError(f"{hide_password(where)} does not answer: {error.__cause__}") from error.__cause__
    artifacts = await _artifacts(settings, url, name)
    if artifacts is None:
        artifacts = AsyncMongoArtifactStore(client, name=_bucket(settings, name))
    opened.push_async_callback(artifacts.close)
    vectors = _vectors(settings, url, name)
    vectors.serve(backend)
    await vectors.check_server()
    return AsyncParts(backend, metadata, artifacts, vectors, closers)


def _client(url: str) -> AsyncMongoClient[dict[str, Any]]:
    try:
        return AsyncMongoClient(url)
    except (PyMongoError, ValueError) as error:
        raise _no_url(url, error) from None


def _no_url(url: str, error: Exception) -> ConfigurationError:
    """What is wrong with a URL; without the driver's words where they may quote a password that is not escaped."""
    reason = str(error)
    credentials = re.match(r"[^:]*://[^:]*:(.*)@", url, re.DOTALL)
    if credentials and re.search(r"[:/?#\[\]@]", credentials[1]):
        reason = "in a user name or password the characters : / ? # [ ] @ must be percent-encoded"
    return ConfigurationError(f"{hide_password(url)} is no MongoDB URL: {reason}")


def _database_name(name: object) -> str:
    """The name, if a server takes it: mongomock would take any, and a directory may be named after it."""
    if not isinstance(name, str) or set(name) & set(' ."$/\\\0') or not 0 < len(name.encode(errors="replace")) < 64:
        raise ConfigurationError(
            f'{name!r} is no name for a database: that has 1 to 63 bytes, and none of the characters space . " $ / \\'
        )
    return name


def _bucket(settings: Settings, name: str) -> str:
    """The database of the artifacts in GridFS. Raises `ConfigurationError` where its name is too long."""
    return _database_name((settings.artifact_store or "").partition("://")[2] or f"_filesystem:{name}")


async def _artifacts(settings: Settings, url: str, name: str) -> AsyncArtifactStore | None:
    """The artifact store that the settings name; None for GridFS, and where they name none."""
    wanted = settings.artifact_store
    match None if wanted is None else scheme_of(wanted):
        case "memory":
            return _in_memory(settings, url, name)
        case "file":
            from superorm.artifacts._async.directory import AsyncDirectoryArtifactStore

            return AsyncDirectoryArtifactStore(path_of_url(str(wanted)))
        case "s3":
            from superorm.artifacts._async.s3 import AsyncS3ArtifactStore

            return await aio.in_thread(AsyncS3ArtifactStore, str(wanted))
        case _:
            return None


def _in_memory(settings: Settings, url: str, name: str) -> AsyncMemoryArtifactStore:
    """The artifacts in memory that the settings name, else those of the database."""
    named = (settings.artifact_store or "").partition("://")[2]
    return AsyncMemoryArtifactStore(named or f"{cluster_name(url)}/{name}")


async def _mongomock_parts(settings: Settings, url: str, database: str | None) -> AsyncParts:
    from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
    from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore
    from superorm.backends.mongomock_engine import mongomock_client

    name = url.partition("://")[2]
    if not name:
        raise ConfigurationError("mongomock:// names no database; write mongomock://demo, for example")
    if settings.metadata is not None:
        raise ConfigurationError("documents in mongomock keep their metadata beside them; leave out metadata=")
    client = mongomock_client(name)
    name = _database_name(database or name)
    backend: AsyncDataBackend = AsyncMongomockDatabackend(client, name)
    artifacts = await _artifacts(settings, url, name)
    if artifacts is None and settings.artifact_store is not None:
        artifacts = AsyncMongomockArtifactStore(client, name=_bucket(settings, name))
    elif artifacts is None:
        artifacts = _in_memory(settings, url, name)
    vectors = settings.vector_database or "memory://"
    return AsyncParts(
        backend, AsyncMongomockMetaDataStore(client, name), artifacts, _vectors_at(vectors, settings, url, name)
    )


def _vectors(settings: Settings, url: str, name: str) -> AsyncVectorDatabase:
    """The vector database of the settings; LanceDB where it is installed, else memory."""
    default = "lancedb://" if find_spec("lancedb") is not None else "memory://"
    return _vectors_at(settings.vector_database or default, settings, url, name)


def _vectors_at(vectors: str, settings: Settings, url: str, name: str) -> AsyncVectorDatabase:
    if scheme_of(vectors) == "memory":
        return AsyncMemoryVectorIndex()
    if scheme_of(vectors) == "atlas":
        return _atlas(vectors)
    if find_spec("lancedb") is None:
        raise ConfigurationError('lancedb:// needs LanceDB: pip install "superorm-mongodb[lance]"')
    if (uri := _store_of(settings)) is not None:
        return _lance(uri)
    if vectors.partition("://")[2]:
        return _lance(str(path_of_url(vectors)))
    return _lance(str(lance_directory(data_dir(), url, name)))


def _lance(uri: str) -> AsyncVectorDatabase:
    from superorm.vectors._async.lancedb import AsyncLanceVectorIndex

    return AsyncLanceVectorIndex(uri)


def _atlas(url: str) -> AsyncVectorDatabase:
    from superorm.vectors._async.atlas import AsyncAtlasVectorIndex

    return AsyncAtlasVectorIndex(**numbers_of_url(url, ("lag", "timeout")))


def _store_of(settings: Settings) -> str | None:
    """The URI of the store that the vector database is in, unless that is a directory: ``s3://bucket/prefix``."""
    uri = (settings.vector_database or "").removeprefix("lancedb://")
    return uri if "://" in uri and scheme_of(uri) not in ("memory", "atlas") else None


def _database_of(url: str) -> str:
    try:
        name = parse_uri(url)["database"]
    except (PyMongoError, ValueError) as error:
        raise _no_url(url, error) from None
    if not name:
        raise ConfigurationError(
            f"{hide_password(url)} names no database; write mongodb://host/name, or give database="
        )
    return str(name)


def parts_around(database: AsyncDatabase[dict[str, Any]]) -> AsyncParts:
    """The parts on the server of a PyMongo database; its client stays the caller's."""
    client, name = database.client, database.name
    # What was asked for: the members that the client found depend on the moment.
    seeds = client._topology_settings.seeds  # pyright: ignore[reportPrivateUsage]
    url = "mongodb://" + ",".join(f"{host}:{port}" for host, port in seeds)
    return AsyncParts(
        AsyncMongoDatabackend(client, name),
        AsyncMongoMetaDataStore(client, name),
        AsyncMongoArtifactStore(client, name=f"_filesystem:{name}"),
        _vectors(Settings(), url, name),
    )


def mongomock_parts_around(database: Any) -> AsyncParts:
    """The parts in the memory of a mongomock database, its artifacts in mongomock's GridFS."""
    from superorm.artifacts._async.mongomock_gridfs import AsyncMongomockArtifactStore
    from superorm.backends._async.mongomock import AsyncMongomockDatabackend, AsyncMongomockMetaDataStore

    client, name = database.client, database.name
    return AsyncParts(
        AsyncMongomockDatabackend(client, name),
        AsyncMongomockMetaDataStore(client, name),
        AsyncMongomockArtifactStore(client, name=f"_filesystem:{name}"),
        AsyncMemoryVectorIndex(),
    )
