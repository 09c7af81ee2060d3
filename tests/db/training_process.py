"""A process that trains a model and stops in the middle: to be killed, or interrupted.

Arguments: the server, the database, the artifact store, ``add`` or ``fit``, and where: ``fit``, ``put`` or ``write``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import superorm
from superorm import Dataset, Document, Mapped, Metric, Model, Trainer, field, select

__all__ = ["Measured", "main", "model"]


class Measured(Document):
    """A document to train on."""

    __collection__ = "measured_of_trainings"

    id: Mapped[int] = field(primary_key=True)
    height: Mapped[float] = field(default=0.0)


class Slow:
    """Stops in its training where it is told to."""

    stops = False

    def fit(self, inputs: Any, targets: Any) -> None:
        self.mean, self.when = float(targets.mean()), time.time()
        if Slow.stops:
            stop()

    def predict(self, items: list[Any]) -> list[float]:
        return [self.mean] * len(items)


def stop(*_: Any, **__: Any) -> None:
    print("stopped", flush=True)
    time.sleep(60)


def largest(outputs: Any, targets: Any) -> float:
    return max(abs(output - target) for output, target in zip(outputs, targets, strict=True))


def model() -> Model:
    """The model: of the mean of the first documents."""
    trainer = Trainer(
        select=select(Measured).where(Measured.id < 50),
        key=Measured.id,
        target=Measured.height,
        metrics=[Metric("largest error", largest)],
        validation=Dataset("others", select=select(Measured).where(Measured.id >= 50)),
    )
    return Model("mean", Slow(), trainer=trainer, fingerprint="mean")


def main(uri: str, name: str, store: str, call: str, where: str) -> None:
    """Train, and stop."""
    with superorm.connect(uri, database=name, vector_database="memory://", artifact_store=store) as db:
        db.prepare()
        if where == "fit":
            Slow.stops = True
        elif where == "put":
            put = db.parts.artifact_store.put

            def put_and_stop(*args: Any, **kwargs: Any) -> None:
                put(*args, **kwargs)
                stop()

            db.parts.artifact_store.put = put_and_stop  # type: ignore[method-assign]
        else:
            db.parts.metadata.write = stop  # type: ignore[assignment,method-assign]
        if call == "add":
            db.add(model())
        else:
            db.fit("mean")


if __name__ == "__main__":
    # what is pickled is of the module, as the tests import it
    from tests.db import training_process

    training_process.main(*sys.argv[1:6])
