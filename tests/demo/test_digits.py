"""The example with the digits as a user runs it, its table against models that are trained by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from gridfs import GridFSBucket
from PIL import Image
from pymongo import MongoClient
from pymongo.database import Database
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.databases import drop_database

DIGITS = Path(__file__).parents[2] / "examples" / "digits.py"


@pytest.fixture(scope="module")
def client(mongodb_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client


def shares_by_hand() -> list[float]:
    """How many of the unseen digits logistic regression reads rightly, for a third of the others and for all."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    unseen = np.arange(len(labels)) % 4 == 3
    shares = []
    for end in 600, len(labels):
        known = ~unseen & (np.arange(len(labels)) < end)
        scaler = StandardScaler().fit(images[known])
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(images[known]), labels[known])
        # the unseen ones are those that were there when the dataset was added
        rated = unseen & (np.arange(len(labels)) < 600)
        shares.append(float(np.mean(model.predict(scaler.transform(images[rated])) == labels[rated])))
    return shares


def mistakes(database: Database[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The digits that are taken for others, the surest dozen first, of what is stored of documents and outputs."""
    labels = load_digits(return_X_y=True)[1]
    found: list[tuple[float, int, int]] = []
    keys: set[int] = set()
    for one in database["_superorm_outputs"].find({"_id.listener": "readings"}):
        key, probabilities = one["_id"]["key"], np.array(one["output"].as_vector().data, np.float32)
        keys.add(key)
        if probabilities.argmax() != labels[key]:
            found.append((-float(probabilities.max()), key, int(probabilities.argmax())))
    assert keys == {key for key in range(len(labels)) if key % 4 == 3}
    worst = sorted(found)[:12]
    return [(str(key), str(labels[key]), str(taken), f"{-100 * sure:.1f}") for sure, key, taken in worst]


def test_the_example(mongodb_uri: str, client: MongoClient[dict[str, Any]], tmp_path: Path) -> None:
    """Its table is right, the models are on both stores, and the mistakes are those of the documents."""
    name = f"test_{uuid4().hex[:12]}"
    databases = [name, f"{name}_s3", f"_filesystem:{name}", f"_filesystem:{name}_s3"]
    picture = tmp_path / "mistakes.png"
    command = [sys.executable, str(DIGITS), "--db", mongodb_uri, "--database", name, "--picture", str(picture)]
    env = {**os.environ, "SUPERORM_SIGNING_KEY": "test-key", "XDG_CONFIG_HOME": str(tmp_path)}
    env["OMP_NUM_THREADS"] = "1"  # where others use the processors, torch's threads wait for one another
    try:
        done = subprocess.run(command, env=env, text=True, capture_output=True, check=False, timeout=300)
        assert 0 == done.returncode, done.stderr[-4000:]
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("GridFS", "S3"))]
        models = [(model, version) for model in ("scikit-learn", "torch") for version in ("0", "1")]
        assert [(store, *one) for store in ("GridFS", "S3") for one in models] == [tuple(row[:3]) for row in rows]
        assert ["450", "1,348"] * 4 == [row[3] for row in rows]
        plain = [float(row[4]) for row in rows if row[1] == "scikit-learn"]
        assert plain == pytest.approx(shares_by_hand() * 2, abs=1e-2)
        assert all(float(row[4]) > 0.9 for row in rows)
        files = list(GridFSBucket(client[f"_filesystem:{name}"], "_superorm_artifacts").find({}))
        (objects,) = re.findall(r"On S3 are (\d+) objects of ([\d,]+) bytes", done.stdout)
        assert len(files) == int(objects[0]) >= 7
        assert sum(file.length for file in files) == pytest.approx(int(objects[1].replace(",", "")), rel=0.01)
        assert [] == client[f"_filesystem:{name}_s3"].list_collection_names()
        assert mistakes(client[name]) == re.findall(
            r"digit (\d+) is a (\d), taken for a (\d) \(([\d.]+)% sure\)", done.stdout
        )
        (count,) = re.findall(r"It takes (\d+) of the unseen digits for others", done.stdout)
        told = min(int(count), 12)
        assert told
        with Image.open(picture) as image:
            assert (448, 112 * -(-told // 4)) == image.size
            assert len(image.getcolors() or []) > 10
    finally:
        for database in databases:
            drop_database(client, database)
