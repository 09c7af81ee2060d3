"""Sets are stored, and compared, in an order that the seed of Python's hashes does not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from superorm import Document, Mapped, Registry, Session, StatementError, connect, field, select, update
from tests.databases import drop_database

PROJECT = Path(__file__).resolve().parents[2]


def run(seed: str, *arguments: str) -> str:
    """The output of the program under a seed."""
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    program = [sys.executable, "-m", "tests.db.set_order", *arguments]
    return subprocess.run(program, env=environment, cwd=PROJECT, check=True, text=True, stdout=subprocess.PIPE).stdout


def test_sets_are_found_under_another_seed(mongodb_uri: str) -> None:
    """As whole values, by every condition and change; statements do not depend on the seed either."""
    name = f"sets_{uuid.uuid4().hex[:8]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        try:
            run("1", "write", mongodb_uri, name)
            (stored,) = client[name]["holders"].find()
            assert ["", "Z", "a", "b", "c", "dd", "ee", "é"] == stored["words"] == stored["lists"][0]
            answers = [json.loads(run(seed, "find", mongodb_uri, name)) for seed in ("2", "3")]
            (counts, statement), other = answers
            assert [counts, statement] == other
            assert (1, 2) == (counts.pop("pull"), counts.pop("add_to_set"))
            assert dict.fromkeys(counts, 1) == counts
            assert [stored] == list(client[name]["holders"].find())
        finally:
            drop_database(client, name)


class Tagged(Document, registry=Registry()):
    tags: Mapped[set[str]] = field(factory=set)
    n: Mapped[int] = field(default=0)


def test_what_others_stored_in_another_order(mongodb_uri: str) -> None:
    """``==`` finds it, and it is no change; what compares as stored does not find it."""
    name, key = f"sets_{uuid.uuid4().hex[:8]}", ObjectId()
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client, connect(mongodb_uri, database=name) as db:
        try:
            client[name]["tagged"].insert_one({"_id": key, "tags": ["c", "a", "b"], "n": 0})
            with Session(db) as session:
                tags = {"a", "b", "c"}
                assert [key] == list(session.scalars(select(Tagged.id).where(Tagged.tags == tags)))
                assert [] == list(session.scalars(select(Tagged.id).where(Tagged.tags.in_([tags]))))
                (found,) = session.scalars(select(Tagged)).all()
                found.tags = tags
                found.n = 1
                session.commit()
            assert {"_id": key, "tags": ["c", "a", "b"], "n": 1} == client[name]["tagged"].find_one()
        finally:
            drop_database(client, name)


@pytest.mark.parametrize("tags", [{"a"}, {"a", "b"}])
def test_upserts_by_sets(mongodb_uri: str, tags: set[str]) -> None:
    """An equality with a set makes no document: it is refused by name, with what to write instead."""
    name = f"sets_{uuid.uuid4().hex[:8]}"
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client, connect(mongodb_uri, database=name) as db:
        try:
            with Session(db) as session:
                with pytest.raises(
                    StatementError, match=r"Tagged\.tags: an element would .* write \.in_\(\[\.\.\.\]\)"
                ):
                    session.execute(update(Tagged).where(Tagged.tags == tags).set(Tagged.n.to(1)).upsert())
                for n in (1, 2):
                    change = update(Tagged).where(Tagged.tags.in_([tags]))
                    session.execute(change.set(Tagged.tags.to(tags), Tagged.n.to(n)).upsert())
                session.commit()
            (stored,) = client[name]["tagged"].find({}, {"_id": 0})
            assert {"tags": sorted(tags), "n": 2} == stored
        finally:
            drop_database(client, name)
