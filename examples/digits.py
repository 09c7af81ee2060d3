# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
"""Handwritten digits in MongoDB, and who reads them better: scikit-learn or torch.

Both models are trained on a select, first on a third of the digits, and anew when the others arrive.
All is done twice, with the models on GridFS and on S3. Then the better one reads the digits that neither has seen,
and its worst mistakes are saved as a picture.

Without ``--db`` everything lives in a private mongod that is gone afterwards; without ``--s3``, S3 is moto's server.
It needs the extras mongod, s3, torch, sklearn and images, and moto[server].
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from superorm import (
    DB,
    Dataset,
    Document,
    Listener,
    Mapped,
    Metric,
    Model,
    Session,
    Trainer,
    connect,
    field,
    outputs,
    select,
)


class Digit(Document):
    """A digit of 8 by 8 pixels, row by row, from 0 to 1."""

    __collection__ = "digits"

    id: Mapped[int] = field(primary_key=True)
    pixels: Mapped[np.ndarray]
    label: Mapped[int]
    unseen: Mapped[int]
    """1 for each fourth digit, which no model is trained on."""


class Probabilities(Pipeline):  # type: ignore[misc]
    """Predicts how probable each digit is."""

    def predict(self, X: Any, **params: Any) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The probabilities of 0 to 9 for each input."""
        return self.predict_proba(X, **params)


class Net(torch.nn.Module):
    """Finds edges, and reads the digit from where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 8, 8)),
            torch.nn.Conv2d(1, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * 4 * 4, 10),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """A number for each of 0 to 9: the larger, the more probable."""
        numbers: torch.Tensor = self.layers(pixels)
        return numbers

    def predict(self, items: list[np.ndarray]) -> list[np.ndarray]:
        """The probabilities of 0 to 9 for each input."""
        with torch.no_grad():
            return list(self(torch.from_numpy(np.stack(items))).softmax(dim=1).numpy())


def share_right(outputs: Sequence[Any], labels: Sequence[int]) -> float:
    """How many of the digits are read rightly."""
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


def surprise(outputs: Sequence[Any], labels: Sequence[int]) -> float:
    """How improbable the right ones seemed: their mean negative logarithm."""
    probabilities = np.asarray(outputs)[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(probabilities, 1e-12))))


def fill(db: DB, first: int, end: int) -> None:
    """Store these digits, where they are not there yet."""
    read: Any = load_digits
    pixels, labels = read(return_X_y=True)
    with db.begin() as session:
        there = set(session.scalars(select(Digit.id)))
        session.add_all(
            Digit(
                id=n,
                pixels=(pixels[n] / 16).astype(np.float32),
                label=int(labels[n]),
                unseen=int(n % 4 == 3),
            )
            for n in range(first, min(end, len(labels)))
            if n not in there
        )


def train(db: DB) -> None:
    """Train both models on a third of the digits, and anew on all of them."""
    seen = select(Digit).where(Digit.unseen == 0).order_by(Digit.id)
    metrics = [Metric("share right", share_right), Metric("surprise", surprise)]
    classifier = Probabilities([("scale", StandardScaler()), ("read", LogisticRegression(max_iter=1000))])
    torch.manual_seed(0)
    in_torch: dict[str, Any] = {"loss": "CrossEntropyLoss", "learning_rate": 0.005, "epochs": 15}
    fill(db, 0, 600)
    db.add(Dataset("unseen", select=select(Digit).where(Digit.unseen == 1).order_by(Digit.id)))
    for name, object, options in ("scikit-learn", classifier, {}), ("torch", Net(), in_torch):
        trainer = Trainer(
            select=seen, key=Digit.pixels, target=Digit.label, metrics=metrics, validation="unseen", **options
        )
        if name not in db.show("model"):
            db.add(Model(name, object, trainer=trainer))
    fill(db, 600, 2000)
    for name in db.show("model"):
        if len(db.show("model", name)) == 1:
            db.fit(name)


def compare(dbs: dict[str, DB]) -> str:
    """Print all versions; the name of the model whose newest one is right most often."""
    print(f"{'store':8}  {'model':12}  {'version':>7}  {'trained on':>10}  {'share right':>11}  {'surprise':>8}")
    shares: dict[str, float] = {}
    for store, db in dbs.items():
        for name in db.show("model"):
            for version in db.show("model", name):
                record = db.show("model", name, version)
                shares[name] = record["metrics"]["share right"]
                print(
                    f"{store:8}  {name:12}  {version:7}  {record['documents']:10,}  "
                    f"{shares[name]:11.4f}  {record['metrics']['surprise']:8.4f}"
                )
    return max(shares, key=lambda name: shares[name])


def mistakes(db: DB, name: str) -> list[tuple[Digit, int, float]]:
    """The unseen digits that the model reads wrongly, with what it takes them for, those that it is surest of first."""
    unseen = select(Digit).where(Digit.unseen == 1)
    db.add(Listener("readings", model=name, select=unseen, key=Digit.pixels))
    beside = select(Digit, outputs("readings")).where(Digit.unseen == 1).order_by(Digit.id)
    with Session(db) as session:
        read = session.execute(beside).all()
    wrong = [(digit, int(found.argmax()), float(found.max())) for digit, found in read if found.argmax() != digit.label]
    return sorted(wrong, key=lambda one: -one[2])


def draw(wrong: Sequence[tuple[Digit, int, float]], path: Path) -> None:
    """Save the digits, each over what it is and what it was taken for."""
    cell, zoom, columns = 112, 10, 4
    rows = -(-len(wrong) // columns)
    picture = Image.new("L", (cell * columns, cell * max(rows, 1)), 255)
    text = ImageDraw.Draw(picture)
    for n, (digit, taken, sure) in enumerate(wrong):
        x, y = cell * (n % columns), cell * (n // columns)
        pixels = Image.fromarray((255 * (1 - digit.pixels.reshape(8, 8))).astype(np.uint8))
        picture.paste(pixels.resize((8 * zoom, 8 * zoom), Image.Resampling.NEAREST), (x + 16, y + 6))
        text.text((x + 16, y + 90), f"{digit.label}, not {taken} ({sure:.0%})", fill=0)
    picture.save(path)


@contextmanager
def s3_url(given: str | None) -> Generator[str]:
    """The bucket that was given, or one on a server of moto's."""
    if given is not None:
        yield given
        return
    import boto3
    from moto.server import ThreadedMotoServer

    os.environ |= {"AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example", "AWS_REGION": "us-east-1"}
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which tells of each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="digits")
        yield f"s3://digits/models?endpoint={endpoint}"
        stored = client.list_objects_v2(Bucket="digits").get("Contents", [])
        print(f"On S3 are {len(stored)} objects of {sum(one['Size'] for one in stored):,} bytes.")
        client.close()
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="where to store: mongod://path or mongodb://host")
    parser.add_argument("--database", default="digits", help="the databases' name; _s3 is added for the second")
    parser.add_argument("--s3", help="s3://bucket/prefix, instead of moto's server")
    parser.add_argument("--picture", type=Path, default=Path("mistakes.png"), help="where to save the mistakes")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="digits-") as directory, s3_url(arguments.s3) as bucket:
        url = arguments.db or f"mongod://{directory}"
        with (
            connect(url, database=arguments.database, vector_database="memory://") as on_gridfs,
            connect(
                url, database=f"{arguments.database}_s3", vector_database="memory://", artifact_store=bucket
            ) as on_s3,
        ):
            dbs = {"GridFS": on_gridfs, "S3": on_s3}
            for db in dbs.values():
                db.create_all(Digit)
                train(db)
            best = compare(dbs)
            wrong = mistakes(on_gridfs, best)
            draw(wrong[:12], arguments.picture)
            print(f"{best} is the better one. It takes {len(wrong)} of the unseen digits for others:")
            for digit, taken, sure in wrong[:12]:
                print(f"  digit {digit.id} is a {digit.label}, taken for a {taken} ({sure:.1%} sure)")
            print(f"The worst are drawn in {arguments.picture}.")


if __name__ == "__main__":
    main()
