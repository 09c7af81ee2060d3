"""Connecting: from a URL, from the configuration, or from a PyMongo database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superorm._io.progress import Progress
from superorm._io.twins import Twins
from superorm.config import Settings, data_dir, load_settings, signing_keys
from superorm.exc import ConfigurationError
from superorm.protocols.concerns import Concerns

if TYPE_CHECKING:
    from pymongo.read_concern import ReadConcern
    from pymongo.write_concern import WriteConcern

    from superorm._async.db import AsyncDB, AsyncParts
    from superorm._sync.db import DB, Parts
    from superorm.protocols.concerns import Preference

__all__ = ["build_datalayer", "connect", "connect_async", "superduper"]


def connect(
    url: str | None = None,
    *,
    database: str | None = None,
    read_concern: ReadConcern | None = None,
    write_concern: WriteConcern | None = None,
    read_preference: Preference | None = None,
    causal_consistency: bool | None = None,
    max_commit_time_ms: int | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> DB:
    """Connect to a database and the parts around it.

    `url` is ``mongodb://...``, ``mongod://path`` (a private server, started if need be) or ``mongomock://name``.
    `read_concern` and the like are for sessions that do not say otherwise, as `Session` describes them.
    `progress` is told how far it is where a search has to load all vectors before: True shows a bar.
    Further settings are `metadata`, `artifact_store`, `vector_database`, `compute`, `mongod`, `trust` and
    `signing_key`; each may come from a ``SUPERORM_*`` variable or from ``superorm.toml`` instead.
    Without any of these, it is a private mongod under the user's data directory.
    Raises `ConfigurationError`, `MongodError`, `UnsupportedError`.
    """
    from superorm._sync.db import DB
    from superorm._sync.open import open_parts

    found = _settings(url, settings)
    concerns = Concerns(
        read_concern=read_concern,
        write_concern=write_concern,
        read_preference=read_preference,
        causal_consistency=causal_consistency,
        max_commit_time_ms=max_commit_time_ms,
    )

    def opener() -> Parts:
        return open_parts(found, database)

    db = DB.deferred(
        opener, trust=found.trust, signing_keys=lambda: signing_keys(found), concerns=concerns, progress=progress
    )
    db.twins = _twins(found, database, concerns, progress)
    db.open()
    return db


def connect_async(
    url: str | None = None,
    *,
    database: str | None = None,
    read_concern: ReadConcern | None = None,
    write_concern: WriteConcern | None = None,
    read_preference: Preference | None = None,
    causal_consistency: bool | None = None,
    max_commit_time_ms: int | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> AsyncDB:
    """The same with every method awaited. Nothing is opened before the first of them is."""
    concerns = Concerns(
        read_concern=read_concern,
        write_concern=write_concern,
        read_preference=read_preference,
        causal_consistency=causal_consistency,
        max_commit_time_ms=max_commit_time_ms,
    )
    return _async_db(_settings(url, settings), database, concerns, progress)


def _async_db(
    found: Settings,
    database: str | None,
    concerns: Concerns,
    progress: Progress | bool | None,
    twins: Twins | None = None,
) -> AsyncDB:
    from superorm._async.db import AsyncDB
    from superorm._async.open import open_parts

    async def opener() -> AsyncParts:
        if twins is not None:
            await twins.opening(db)
        return await open_parts(found, database)

    db = AsyncDB.deferred(
        opener, trust=found.trust, signing_keys=lambda: signing_keys(found), concerns=concerns, progress=progress
    )
    return db


def _twins(found: Settings, database: str | None, concerns: Concerns, progress: Progress | bool | None) -> Twins:
    """What opens asynchronous DBs of the same configuration."""

    def make() -> AsyncDB:
        return _async_db(found, database, concerns, progress, twins)

    twins = Twins(make)
    return twins


def build_datalayer(url: str | None = None, *, database: str | None = None, **settings: Any) -> DB:
    """The same as `connect`."""
    return connect(url, database=database, **settings)


def superduper(database: Any) -> DB:
    """A DB around a PyMongo (or mongomock) database, with its artifacts and metadata on the same server.

    The client stays the caller's: closing the DB does not close it.
    Of the configuration it takes `trust` and `signing_key`.
    Raises `ConfigurationError` for anything else.
    """
    from pymongo.database import Database

    from superorm._sync import open as sync_open
    from superorm._sync.db import DB

    if isinstance(database, Database):
        parts = sync_open.parts_around(database)  # pyright: ignore[reportUnknownArgumentType]
    elif type(database).__module__ == "mongomock.database":  # all of mongomock's objects have any attribute
        parts = sync_open.mongomock_parts_around(database)
    else:
        raise ConfigurationError(
            "superduper() takes a PyMongo or mongomock database such as MongoClient().shop, "
            f"not {type(database).__name__}"
        )
    settings = load_settings()
    return DB(
        parts.data_backend,
        parts.metadata,
        parts.artifact_store,
        parts.vector_database,
        trust=settings.trust,
        signing_keys=lambda: signing_keys(settings),
    )


def _settings(url: str | None, settings: dict[str, Any]) -> Settings:
    if url is not None:
        if "data_backend" in settings:
            raise ConfigurationError("the URL is given twice: leave out data_backend=")
        settings = {**settings, "data_backend": url}
    found = load_settings(**settings)
    if found.data_backend is None:
        found = _with_default(found)
    return found


def _with_default(settings: Settings) -> Settings:
    """The embedded default: a private mongod in the user's data directory.

    Raises `ConfigurationError` where there is no binary.
    """
    from attrs import evolve

    from superorm.backends.mongod import find_mongod

    find_mongod(settings.mongod)
    return evolve(settings, data_backend=f"mongod://{data_dir() / 'mongod'}")
