"""The demo as a user runs it, against a real server, with the real encoder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from encoder import MiniLM
from pymongo import MongoClient
from pymongo.collection import Collection

from superorm.backends.mongod import open_mongod, wait_stopped
from tests.databases import drop_database

DEMO = Path(__file__).parents[2] / "examples" / "recipes" / "demo.py"
SOUP = "lunch/586"


class Runs:
    """Runs of the demo in one home directory."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.command = [sys.executable, str(DEMO), *arguments]
        self.env = {**os.environ, "XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}

    def start(self) -> subprocess.Popen[str]:
        """The demo, running."""
        return subprocess.Popen(
            self.command, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=1
        )

    def finish(self) -> str:
        """What the demo prints."""
        done = subprocess.run(self.command, env=self.env, text=True, capture_output=True, check=False, timeout=600)
        assert 0 == done.returncode, done.stderr[-4000:]
        return done.stdout


Place = tuple[Runs, Collection[dict[str, Any]], int]


@pytest.fixture(scope="module", params=["embedded", "server", pytest.param("whole", marks=pytest.mark.soak)])
def place(
    request: pytest.FixtureRequest, mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Runs with every third recipe on the embedded default, or on a server that they did not start; or with all.

    With them the stored recipes by plain PyMongo, and how many there should be.
    """
    home = tmp_path_factory.mktemp("home")
    if request.param != "server":
        arguments, count = ((), 4819) if request.param == "whole" else (("--every", "3"), 1607)
        directory = home / "data" / "superorm" / "mongod"
        with open_mongod(directory) as lease, MongoClient[dict[str, Any]](lease.uri) as client:
            yield Runs(home, *arguments), client.superorm.recipe, count
        assert wait_stopped(directory)
        return
    name = f"test_demo_{uuid4().hex[:8]}"
    base, _, query = mongodb_uri.partition("?")
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        url = f"{base.rstrip('/')}/{name}?{query}"
        yield Runs(home, "--db", url, "--every", "3"), client[name].recipe, 1607
        drop_database(client, name)
        drop_database(client, f"_filesystem:{name}")


@pytest.fixture(scope="module")
def runs(place: Place) -> Runs:
    """The runs alone."""
    return place[0]


@pytest.fixture(scope="module")
def recipes(place: Place) -> Collection[dict[str, Any]]:
    """The stored recipes alone."""
    return place[1]


@pytest.fixture(scope="module")
def count(place: Place) -> int:
    """How many recipes there should be."""
    return place[2]


@pytest.fixture(scope="module")
def interrupted(runs: Runs, recipes: Collection[dict[str, Any]]) -> int:
    """Ctrl-C while the recipes are being embedded; how many were stored then."""
    process = runs.start()
    assert process.stderr is not None
    seen = ""
    while not re.search(r"[1-9]\d*/\d{4} ", seen):
        character = process.stderr.read(1)
        assert character, f"the demo ended too early: {seen[-4000:]}"
        seen += character
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    return recipes.count_documents({})


@pytest.fixture(scope="module")
def outputs(interrupted: int, runs: Runs) -> list[str]:
    """What the first whole run prints, and the second."""
    return [runs.finish(), runs.finish()]


def tables(output: str) -> list[list[tuple[float, float, int, str]]]:
    """The printed tables: score, calories, minutes and name of each answer."""
    found: list[list[tuple[float, float, int, str]]] = []
    for line in output.splitlines():
        if line.startswith("score "):
            found.append([])
        elif match := re.fullmatch(r"(0\.\d{4}) +(\d+) +(\d+)  (.+)", line):
            score, calories, minutes, name = match.groups()
            found[-1].append((float(score), float(calories), int(minutes), name))
    return found


def test_interrupted_run_leaves_nothing(interrupted: int) -> None:
    """Ctrl-C before the commit stores no recipe."""
    assert 0 == interrupted


def test_first_run_stores_all(outputs: list[str], recipes: Collection[dict[str, Any]], count: int) -> None:
    """The next run stores every recipe with its embedding."""
    assert f"Stored and embedded {count} recipes." in outputs[0]
    assert count == recipes.count_documents({"embedding": {"$type": "binData"}})


def test_answers_are_the_nearest(outputs: list[str], recipes: Collection[dict[str, Any]]) -> None:
    """The first table is what numpy finds in the stored vectors, filtered before and after by plain Python."""
    docs = [
        doc
        for doc in recipes.find()
        if doc["nutrition"]["calories"] < 400
        and doc["meal"] in ("lunch", "dinner")
        and not any(word in label.lower() for label in doc["allergens"] for word in ("nut", "almond"))
    ]
    vectors = np.array([doc["embedding"].as_vector().data for doc in docs])
    scores = (1 + vectors @ MiniLM.from_package().encode(["something warm for a cold evening"])[0]) / 2
    nearest = sorted(range(len(docs)), key=lambda i: (-scores[i], docs[i]["_id"]))[:10]
    expected = [
        (round(float(scores[i]), 4), docs[i]["nutrition"]["calories"], docs[i]["prep_time"]["value"], docs[i]["name"])
        for i in nearest
        if docs[i]["prep_time"]["value"] <= 30
    ]
    for output in outputs:
        first = tables(output)[0]
        assert [row[1:] for row in expected] == [row[1:] for row in first]
        assert [row[0] for row in expected] == pytest.approx([row[0] for row in first], abs=2e-4)


def test_search_follows_changes(outputs: list[str], recipes: Collection[dict[str, Any]]) -> None:
    """The changed recipe comes first, the deleted one is gone, and the next run finds it in its old state."""
    for output in outputs:
        before, changed, deleted = tables(output)
        soup = "Bulgarian Tarator Refreshing Cold Soup"
        assert soup == changed[0][3]
        assert before[0][0] < changed[0][0]
        assert soup not in [row[3] for row in deleted]
    restored = recipes.find_one({"_id": SOUP})
    assert restored is not None
    assert restored["text"].startswith("Bulgarian Tarator Refreshing Cold Soup: Cucumber")


def test_second_run_embeds_nothing(outputs: list[str], count: int) -> None:
    """It finds the recipes and gives the same answers."""
    assert f"Found {count} recipes, embedded already: nothing to embed." in outputs[1]
    assert f"Stored and embedded {count}" not in outputs[1]
    assert tables(outputs[0]) == tables(outputs[1])


def test_says_what_ran(outputs: list[str]) -> None:
    """The pipeline that ran is printed."""
    assert all("nutrition.calories" in output and "like" in output for output in outputs)


@pytest.mark.parametrize("place", ["server"], indirect=True)
def test_in_memory(outputs: list[str], count: int, tmp_path: Path) -> None:
    """The same script on mongomock stores as many, and gives the same answers."""
    output = Runs(tmp_path, "--db", "mongomock://demo", "--every", "3").finish()
    assert f"Stored and embedded {count} recipes." in output
    assert tables(outputs[0]) == tables(output)
    assert "engine: memory" in output
