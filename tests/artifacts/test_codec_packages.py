"""Codecs of packages that are installed, in components and documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from superorm import (
    CorruptArtifactError,
    Document,
    Mapped,
    Model,
    Registry,
    UntrustedArtifactError,
    artifact,
    connect,
    field,
    select,
)
from superorm.artifacts.codecs import registry

CODE = """
class Adder:
    def __init__(self, number):
        self.number = number

    def predict(self, items):
        return [item + self.number for item in items]


class NumberCodec:
    name = "number"
    version = 2
    carries_code = False

    def takes(self, value):
        return isinstance(value, Adder)

    def encode(self, value):
        return b"%d" % value.number

    def decode(self, data):
        return Adder(int(data))


class RunningCodec(NumberCodec):
    name = "running"
    carries_code = True

    def takes(self, value):
        return False


made = RunningCodec
"""
"""What the package has; the second codec is never chosen unless it is asked for."""


class Sum(Document, registry=Registry()):
    """A document with what only such a codec stores."""

    __collection__ = "sums_of_packages"

    id: Mapped[int] = field(primary_key=True)
    adder: Mapped[Any] = artifact(default=None)
    other: Mapped[Any] = artifact(codec="running", default=None)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, installed."""
    (tmp_path / "number_codecs.py").write_text(CODE)
    installed = tmp_path / "number_codecs-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: number-codecs\nVersion: 1.0\n")
    points = "[superorm.codecs]\nnumber = number_codecs:NumberCodec\nrunning = number_codecs:made\n"
    (installed / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._by_name.cache_clear()
    yield __import__("number_codecs")
    registry._by_name.cache_clear()


def test_a_codec_of_a_package(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stores what it takes, is named in the reference, and only what carries code has to be signed.

    Where the package is not installed, the error names the codec.
    """
    name = uuid4().hex

    def opened(key: str) -> Any:
        return connect(f"mongomock://{name}", artifact_store=f"memory://{name}", signing_key=key)

    with opened("ours") as db:
        db.add(Model("plain", package.Adder(5)))
        db.add(Model("code", package.Adder(6), codec="running"))
        with db.begin() as session:
            session.add(Sum(id=1, adder=package.Adder(7), other=package.Adder(8)))
        stored = [db.show("model", one, 0)["artifact"] for one in ("plain", "code")]
        assert [("number", 2), ("running", 2)] == [(one["codec"], one["codec_version"]) for one in stored]
    with opened("ours") as db:
        assert [[6], [7]] == [db.predict(one, [1]) for one in ("plain", "code")]
        with db.session() as session:
            one = session.scalars(select(Sum)).one()
            assert [[8], [9]] == [one.adder.predict([1]), one.other.predict([1])]
    with opened("theirs") as db:
        assert [6] == db.predict("plain", [1])
        with pytest.raises(UntrustedArtifactError, match="running"):
            db.predict("code", [1])
        with db.session() as session:
            one = session.scalars(select(Sum)).one()
            assert [8] == one.adder.predict([1])
            with pytest.raises(UntrustedArtifactError, match=r"Sum 1: other: .*running"):
                one.other  # noqa: B018
    monkeypatch.undo()
    registry._by_name.cache_clear()
    with opened("ours") as db, pytest.raises(CorruptArtifactError, match=r"the codec 'number', version 2; .* bytes 1"):
        db.load("model", "plain")
