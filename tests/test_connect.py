"""Connecting: the construction snippets of the documentation, URLs, configuration, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import operator
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import mongomock
import pymongo
import pytest
from attrs import evolve
from pymongo.errors import PyMongoError

import superorm
from superorm import (
    DB,
    AsyncDB,
    ConfigurationError,
    Datalayer,
    Document,
    LanceVectorIndex,
    Mapped,
    Model,
    MongoArtifactStore,
    MongoDatabackend,
    MongodError,
    MongoMetaDataStore,
    Session,
    UnsupportedError,
    UntrustedArtifactError,
    build_datalayer,
    connect,
    connect_async,
    select,
    superduper,
)
from superorm._async.db import AsyncParts
from superorm.backends.mongod import wait_stopped
from tests.databases import drop_database
from tests.mongod.processes import everything, kill, servers, until


class Note(Document):
    text: Mapped[str]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the user's files nor the working directory's settings are used."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[dict[str, object]]]:
    """A PyMongo client of the real server."""
    with pymongo.MongoClient[dict[str, object]](mongodb_uri) as client:
        yield client


@pytest.fixture
def name(client: pymongo.MongoClient[dict[str, object]]) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    drop_database(client, name)
    drop_database(client, f"_filesystem:{name}")


def works(db: DB) -> None:
    """Documents and models can be stored and found."""
    db.create_all(Note)
    with Session(db) as session:
        session.add(Note(text="hello"))
        session.commit()
        assert ["hello"] == session.scalars(select(Note.text)).all()
    db.add(Model("upper", str.upper))
    assert ["A"] == db.predict("upper", ["a"])
    assert db.check(Note).ok


def test_datalayer_is_db() -> None:
    """The two names are one class."""
    assert DB is Datalayer


def test_four_parts(client: pymongo.MongoClient[dict[str, object]], name: str, tmp_path: Path) -> None:
    """A DB of four parts, made by hand."""
    db = DB(
        data_backend=MongoDatabackend(client, name=name),
        metadata=MongoMetaDataStore(client, name=name),
        artifact_store=MongoArtifactStore(client, name=f"_filesystem:{name}"),
        vector_database=LanceVectorIndex(uri=str(tmp_path / "lancedb")),
    )
    works(db)
    db.close()
    assert 1 == client[name]["note"].count_documents({})
    assert 1 == client[f"_filesystem:{name}"]["_superorm_artifacts.files"].count_documents({})


def test_superduper_around_pymongo(client: pymongo.MongoClient[dict[str, object]], name: str) -> None:
    """A PyMongo database; its client is left open."""
    db = superduper(client[name])
    works(db)
    db.close()
    assert 1 == client[name]["note"].count_documents({})


def test_superduper_around_mongomock() -> None:
    """A mongomock database."""
    database = mongomock.MongoClient().shop
    db = superduper(database)
    works(db)
    db.close()
    assert 1 == database["note"].count_documents({})


def test_superduper_refuses_anything_else() -> None:
    """The error says what it takes."""
    with pytest.raises(ConfigurationError, match=r"MongoClient\(\)\.shop, not str"):
        superduper("mongodb://localhost")


@pytest.mark.parametrize(
    "value", [mongomock.MongoClient(), mongomock.MongoClient().shop.movies], ids=["client", "collection"]
)
def test_superduper_refuses_other_parts_of_mongomock(value: object) -> None:
    """mongomock's clients and collections have any attribute, but are no databases."""
    with pytest.raises(ConfigurationError, match=f"not {type(value).__name__}"):
        superduper(value)


def test_superduper_keeps_to_the_configured_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment forbids is not loaded by the wrapper either."""
    database = mongomock.MongoClient().shop
    superduper(database).add(Model("upper", str.upper))
    assert ["A"] == superduper(database).predict("upper", ["a"])
    monkeypatch.setenv("SUPERORM_TRUST", "none")
    with pytest.raises(UntrustedArtifactError):
        superduper(database).predict("upper", ["a"])


def test_superduper_names_the_vectors_by_what_the_user_named(mongodb_uri: str, name: str) -> None:
    """Not by the members that the client has found so far, which depend on the moment."""
    url = mongodb_uri.partition("?")[0].replace("127.0.0.1", "localhost")  # so that it finds the replica set's members
    with pymongo.MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=500) as client:
        early = repr(superduper(client[name]))
        with suppress(PyMongoError):  # those of a private mongod cannot be reached
            client.admin.command("ping")
        assert client.topology_description.topology_type_name.startswith("ReplicaSet")
        assert early == repr(superduper(client[name]))


def test_connect_to_a_server(mongodb_uri: str, name: str) -> None:
    """A URL with the database in it, or beside it."""
    base, _, query = mongodb_uri.partition("?")
    with connect(f"{base.rstrip('/')}/{name}?{query}") as db:
        works(db)
    with connect(mongodb_uri, database=name) as db, db.session() as session:
        assert 1 == session.count(select(Note))


def test_mongomock_name_is_the_same_data() -> None:
    """The same name in one process is the same data; another is another."""
    name = uuid4().hex
    with connect(f"mongomock://{name}") as db:
        works(db)
    with connect(f"mongomock://{name}") as db, db.session() as session:
        assert 1 == session.count(select(Note))
        assert ["upper"] == db.show("model")
        assert ["B"] == db.predict("upper", ["b"])
    with connect(f"mongomock://{name}x") as db, db.session() as session:
        assert 0 == session.count(select(Note))


def test_build_datalayer_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the parts; arguments win."""
    monkeypatch.setenv("SUPERORM_DATA_BACKEND", "mongomock://from_environment")
    with build_datalayer() as db:
        assert "from_environment" in repr(db)
        works(db)
    with connect("mongomock://argument") as db:
        assert "argument" in repr(db)


def test_build_datalayer_reads_the_file(tmp_path: Path) -> None:
    """So does superorm.toml in the working directory."""
    (tmp_path / "superorm.toml").write_text('data_backend = "mongomock://from_file"\n')
    with build_datalayer() as db:
        assert "from_file" in repr(db)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vector_database": "http://localhost:8000"}, "vector database http"),
        ({"compute": "dask://tcp://host:8786"}, "compute engine dask"),
    ],
)
def test_what_is_to_come_is_unsupported(arguments: dict[str, str], words: str) -> None:
    """URL schemes of later releases are refused by name."""
    with pytest.raises(UnsupportedError, match=words):
        connect("mongomock://x", **arguments)


@pytest.mark.parametrize(
    "url", ["file://", "s3://", "s3://b/prefix", "s3://key:secret@bucket", "s3://bucket?color=red"]
)
def test_artifact_stores_that_cannot_be(url: str) -> None:
    """The error comes before anything is opened, and tells no secret."""
    with pytest.raises(ConfigurationError) as caught:
        connect("mongomock://x", artifact_store=url)
    assert "secret" not in str(caught.value)


def test_artifacts_in_a_directory(tmp_path: Path) -> None:
    """A model is loaded from where the URL says, by another DB too."""
    for again in (False, True):
        with connect("mongomock://in_a_directory", artifact_store=f"file://{tmp_path}/blobs", trust="all") as db:
            if not again:
                db.add(Model("plus", functools.partial(operator.add, 1)))
            assert [3] == db.load("model", "plus").predict([2])
        assert 1 == len(list((tmp_path / "blobs").glob("*.blob")))


@pytest.mark.parametrize("metadata", ["mongomock://x", "s3://bucket"])
def test_unknown_metadata_store(metadata: str) -> None:
    """Metadata has URLs of its own, which the error lists."""
    with pytest.raises(ConfigurationError, match=r"metadata store.*mongodb://"):
        connect("mongomock://x", metadata=metadata)


@pytest.mark.parametrize("base", ["mongomock://x", "mongod://./data", "mongodb://127.0.0.1:1/x"])
@pytest.mark.parametrize("database", ["a.b", "../up", "a/b", 'a"b', "a b", "$a", "x" * 64, 5])
def test_names_that_no_database_has(base: str, database: str, tmp_path: Path) -> None:
    """They are refused before anything is started; mongomock alone would take them."""
    with pytest.raises(ConfigurationError, match="database"):
        connect(base, database=database)
    assert not (tmp_path / "data").exists()


def test_names_in_the_url() -> None:
    """The same for the name in mongomock's URL, and for an artifact store's."""
    with pytest.raises(ConfigurationError, match="database"):
        connect("mongomock://../../x")
    with pytest.raises(ConfigurationError, match="database"):
        connect("mongodb://127.0.0.1:1/x", artifact_store="gridfs://a.b")


def test_the_first_argument_by_its_setting() -> None:
    """data_backend= is the URL too, but not beside it; what is no setting is refused."""
    with connect(data_backend="mongomock://by_name") as db:
        assert "by_name" in repr(db)
    with pytest.raises(ConfigurationError, match="data_backend"):
        connect("mongomock://x", data_backend="mongomock://y")
    for name in ("environ", "directory"):
        with pytest.raises(ConfigurationError, match=f"unknown setting {name}"):
            connect("mongomock://x", **{name: {}})


def test_two_dbs_share_no_memory_by_chance(mongodb_uri: str, name: str) -> None:
    """Artifacts in memory belong to a database unless they are named; another's are no orphans here."""
    with (
        connect(mongodb_uri, database=name, artifact_store="memory://") as first,
        connect(f"mongomock://{name}", artifact_store="memory://") as second,
    ):
        first.add(Model("upper", str.upper))
        assert [] == list(second.check().orphans)
        assert [] == list(first.check().orphans)


@pytest.mark.parametrize("url", ["postgres://localhost/x", "localhost:27017", "mongo://x"])
def test_unknown_scheme_lists_the_known(url: str) -> None:
    """A wrong URL scheme lists the known ones."""
    with pytest.raises(ConfigurationError, match=r"mongodb://.*mongod://.*mongomock://"):
        connect(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mongomock://", "names no database"),
        ("mongod://", "names no path"),
        ("mongod://a\0b", "NUL"),
        ("mongodb://localhost:27017", "names no database"),
        ("mongodb://:::", "mongodb"),
    ],
)
def test_incomplete_urls(url: str, words: str) -> None:
    """The error says what is missing."""
    with pytest.raises(ConfigurationError, match=words):
        connect(url)


def test_a_server_that_does_not_answer() -> None:
    """The error names it without its password."""
    url = "mongodb://user:secret@127.0.0.1:1/shop?serverSelectionTimeoutMS=200"
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1.*does not answer") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["sec?ret", "sec/ret", "sec:ret", "sec@ret"])
def test_a_password_that_is_not_escaped(password: str) -> None:
    """It does not show in the error, not in part and not in the driver's own words above it."""
    with pytest.raises(ConfigurationError) as caught:
        connect(f"mongodb://me:{password}@127.0.0.1:1/shop?serverSelectionTimeoutMS=200")
    shown = "".join(traceback.format_exception(caught.value)).lower()
    shown = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))  # source code
    assert not [part for part in ("sec", "ret@") if part in shown]
    assert "percent-encoded" in shown


def test_the_private_server_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who uses it is told so with its last log lines; connecting again starts a new one, with all data."""
    monkeypatch.setattr("superorm._sync.open._PATIENCE_MS", 500)
    monkeypatch.setattr("superorm.backends.mongod.lease.GRACE", 0.1)
    path = tmp_path / "data"
    with connect("mongod://./data", vector_database="memory://") as db:
        works(db)
        kill(*servers(path))
        assert until(lambda: not everything(path))
        with Session(db) as session:
            session.add(Note(text="lost"))
            with pytest.raises(MongodError, match="signal 9"):
                session.commit()
        with Session(db) as session, pytest.raises(MongodError, match="mongod has gone"):
            session.scalars(select(Note)).all()
        with connect("mongod://./data") as again, again.session() as session:
            assert 1 == session.count(select(Note))
    assert wait_stopped(path)


def test_no_mongod_names_the_ways_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """connect() without a binary never falls back to a store that forgets."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("superorm.backends.mongod.binary._packaged", lambda: None)
    with pytest.raises(ConfigurationError, match="mongomock://") as caught:
        connect()
    for way in ("SUPERORM_MONGOD", "PATH", "superorm-mongodb[mongod]"):
        assert way in str(caught.value)


def test_a_closed_db_says_so() -> None:
    """Using it is an error, closing it again is not."""
    db = connect("mongomock://closed")
    db.close()
    db.close()
    with pytest.raises(ConfigurationError, match="closed"):
        db.show("model")


async def test_connect_async_does_nothing_before_the_first_await(mongodb_uri: str, name: str) -> None:
    """Nothing is opened, so nothing has to be closed."""
    adb = connect_async(mongodb_uri, database=name)
    assert "not opened" in repr(adb)
    async with adb:
        await adb.add(Model("upper", str.upper))
        assert ["A"] == await adb.predict("upper", ["a"])


async def test_closed_while_it_opens() -> None:
    """A DB that is closed while it opens lets go of its parts."""
    opening, closed = asyncio.Event(), asyncio.Event()

    async def closer() -> None:
        closed.set()

    async def opener() -> AsyncParts:
        opening.set()
        await asyncio.sleep(0.1)
        async with connect_async("mongomock://opening") as other:
            return evolve(other.parts, closers=[closer])

    adb = AsyncDB.deferred(opener)
    task = asyncio.create_task(adb.open())
    await opening.wait()
    await adb.close()
    await task
    assert closed.is_set()
    with pytest.raises(ConfigurationError, match="closed"):
        await adb.open()


def test_passwords_never_show(mongodb_uri: str, name: str) -> None:
    """Neither in the DB's repr nor in its parts'."""
    with connect(mongodb_uri, database=name, signing_key="very-secret") as db:
        assert "very-secret" not in repr(db) + repr(vars(db))


def test_capabilities(mongodb_uri: str, name: str) -> None:
    """What the parts together can do."""
    with connect(mongodb_uri, database=name) as db:
        assert (True, True) == (db.capabilities.transactions, db.capabilities.shared_metadata_transaction)
    with connect("mongomock://capabilities") as db:
        assert not db.capabilities.transactions


def test_public_names() -> None:
    """Every name of __all__ is there."""
    assert [] == [name for name in superorm.__all__ if not hasattr(superorm, name)]
