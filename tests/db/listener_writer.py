"""A process whose threads add, replace and remove listeners, and write documents, until it is killed."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from random import Random
from typing import Any

from superorm import (
    DB,
    ComponentInUseError,
    ComponentNotFoundError,
    Document,
    DuplicateKeyError,
    Listener,
    Mapped,
    Model,
    Session,
    VectorIndex,
    connect,
    delete,
    field,
    insert,
    score,
    select,
    update,
)

KEYS = 12


class Word(Document):
    __collection__ = "words_of_killed_writers"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None)
    other: Mapped[int] = field(default=0)


def length(text: str) -> int | None:
    return None if text.startswith("n") else len(text)


def reverse(text: str) -> str:
    return text[::-1]


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0, float(text.count("a"))]


def turned(text: str) -> list[float]:
    return vector(text)[::-1]


def shown(output: Any) -> str:
    return f"<{output}>"


def pair(output: Any) -> list[Any] | None:
    return None if output == 3 else [output, output]


OF_TEXTS: dict[str, Callable[[str], Any]] = {"length": length, "reverse": reverse}
VECTORS: dict[str, Callable[[str], Any]] = {"vector": vector, "turned": turned}
OF_OUTPUTS: dict[str, Callable[[Any], Any]] = {"shown": shown, "pair": pair}
FUNCTIONS = OF_TEXTS | VECTORS | OF_OUTPUTS
NAMES = {"listener": ["a", "b", "c", "d", "v"], "vector_index": ["i"]}


def model(function: str, listener: str) -> Model:
    return Model(f"{function} {listener}", FUNCTIONS[function], fingerprint=function)


def listener(name: str, rng: Random) -> Listener | VectorIndex:
    """Any of that name."""
    if name == "i":
        return VectorIndex("i", listener=rng.choice(["v", listener("v", rng)]), dim=3, metric="euclidean")
    if name in "cd":
        before = {"c": rng.choice("ab"), "d": "c"}[name]
        return Listener(
            name, model=model(rng.choice([*OF_OUTPUTS]), name), listener=rng.choice([before, listener(before, rng)])
        )
    chosen = select(Word).where(Word.id < KEYS // 2) if rng.random() < 0.3 else select(Word)
    return Listener(
        name, model=model(rng.choice([*(VECTORS if name == "v" else OF_TEXTS)]), name), select=chosen, key=Word.text
    )


def write(db: DB, rng: Random) -> None:
    """Change some documents, one way or another."""
    keys = rng.sample(range(KEYS), rng.randint(1, 4))
    text = rng.choice([None, "n" * rng.randint(1, 5), "a" * rng.randint(1, 6), f"{rng.randint(0, 999)}"])

    def change(session: Session) -> None:
        for key in keys:
            found = session.get(Word, key)
            if found is None:
                session.add(Word(id=key, text=text))
            elif rng.random() < 0.3:
                session.delete(found)
            else:
                found.text = text
                found.other += 1

    def state(session: Session) -> None:
        match rng.randint(0, 3):
            case 0:
                session.execute(update(Word).where(Word.id.in_(keys)).values(text=text))
            case 1:
                session.execute(delete(Word).where(Word.id.in_(keys)))
            case 2:
                session.execute(insert(Word).values([{"id": key, "text": text} for key in keys]).upsert())
            case _:
                session.execute(update(Word).where(Word.id.in_(keys)).values(other=rng.randint(0, 9)))

    db.run(rng.choice([change, change, state]), attempts=100)


def read(db: DB, rng: Random) -> None:
    """Read outputs, or search."""
    name = rng.choice("abcdvi")
    if name != "i":
        dict(db.outputs(name).items())
        return
    with db.session() as session:
        rows = session.execute(select(Word, score()).like([1.0, 1.0, 1.0], on="i", k=4)).all()
    assert sorted((row[1] for row in rows), reverse=True) == [row[1] for row in rows]


def act(db: DB, rng: Random, *, registering: bool) -> None:
    """Do one thing."""
    chance = rng.random()
    kind = rng.choice([*NAMES])
    name = rng.choice(NAMES[kind])
    if not registering or chance < 0.5:
        (read if chance < 0.05 else write)(db, rng)
    elif chance < 0.8:
        db.add(listener(name, rng))
    else:
        versions = db.show(kind, name)
        if versions:
            version = rng.choice([None, versions[0]])
            db.remove(kind, name, version, recursive=rng.random() < 0.3)


def work(db: DB, rng: Random, *, registering: bool, over: Callable[[], bool]) -> None:
    """Act until it is over; what other programs are the reason for is no fault."""
    while not over():
        try:
            act(db, rng, registering=registering)
        except (ComponentNotFoundError, ComponentInUseError, DuplicateKeyError):
            pass
        except Exception:  # noqa: BLE001 - a fault, which the test that started this reports
            print("FAULT", traceback.format_exc(), flush=True)
        else:
            print("done", flush=True)


def main(uri: str, database: str, vectors: str, seed: str, registering: str) -> None:
    """Work in two threads until killed, or told to end by the end of the input."""
    ended = threading.Event()
    with connect(uri, database=database, vector_database=vectors, signing_key="key") as db:
        db.open()
        print("ready", flush=True)
        threads = [
            threading.Thread(
                target=work,
                args=(db, Random(f"{seed} {number}")),
                kwargs={"registering": registering == "registering", "over": ended.is_set},
            )
            for number in range(2)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    from tests.db import listener_writer  # so that its class is the same in every process

    listener_writer.main(*sys.argv[1:])
