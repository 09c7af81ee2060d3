"""Objects to bytes and back."""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from superorm.artifacts.codecs import codec_for, codec_named
from superorm.exc import ArtifactSavingError, CorruptArtifactError


class Custom:
    def __init__(self, value: int) -> None:
        self.value = value


def test_bytes() -> None:
    """Bytes are stored as they are, with no trust needed."""
    codec = codec_for(b"abc")
    assert ("bytes", False) == (codec.name, codec.carries_code)
    assert b"abc" == codec.encode(b"abc") == codec.decode(b"abc")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.array(5),
        np.array([], "int8"),
        np.array(["a", "bc"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-01"], "datetime64[D]"),
    ],
)
def test_arrays(array: np.ndarray[Any, Any]) -> None:
    """Arrays are .npy files, which numpy reads without pickle; what comes back can be changed."""
    codec = codec_for(array)
    assert ("npy", False) == (codec.name, codec.carries_code)
    data = codec.encode(array)
    plain = np.load(io.BytesIO(data), allow_pickle=False)
    decoded = codec.decode(data)
    for result in plain, decoded:
        assert array.dtype == result.dtype
        np.testing.assert_array_equal(array, result)
    assert decoded.flags.writeable


def test_objects() -> None:
    """Everything else is pickled by cloudpickle with protocol 5, local functions and arrays of objects too."""
    factor = 3

    def triple(x: int) -> int:
        return factor * x

    codec = codec_for(triple)
    assert ("cloudpickle", True) == (codec.name, codec.carries_code)
    data = codec.encode(triple)
    assert b"\x80\x05" == data[:2]
    assert 12 == pickle.loads(data)(4) == codec.decode(data)(4)
    objects = np.array([Custom(1), None], dtype=object)
    for value in (
        objects,
        Custom(2),
        bytearray(b"x"),
        [b"x"],
        (1,),
        {1: 2},
        [float("nan")],
        np.float32(1),
        np.ma.array([1], mask=[True]),
    ):
        assert "cloudpickle" == codec_for(value).name
        assert type(value) is type(codec.decode(codec.encode(value)))


class HasLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


HELD = HasLock()


class Raises:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("own code")


def uses_lock() -> object:
    return HELD


uses_lock.__module__ = "__main__"  # pickled by value, as functions of scripts are


@pytest.mark.parametrize(
    ("value", "name"), [(HasLock(), "an object of HasLock"), (Raises(), "Raises"), (uses_lock, "uses_lock")]
)
def test_what_cannot_be_pickled(value: object, name: str) -> None:
    """The error names the object and the reason."""
    with pytest.raises(ArtifactSavingError, match=f"{name} cannot be pickled: .*(lock|own code)") as caught:
        codec_for(value).encode(value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("name", "value"), [("bytes", "text"), ("npy", [1]), ("npy", np.array([None], dtype=object))])
def test_values_that_a_safe_codec_refuses(name: str, value: object) -> None:
    """A safe codec that was asked for stores what it is for and nothing else."""
    with pytest.raises(ArtifactSavingError, match=name):
        codec_named(name, 1).encode(value)


@pytest.mark.parametrize(("name", "version"), [("nonsense", 1), ("npy", 2), ("npy", 0), ("npy", -1)])
def test_unknown_codecs(name: str, version: int) -> None:
    """A codec or version that is not known is an error that lists the known ones."""
    with pytest.raises(CorruptArtifactError, match=f"{name}.*{version}.*bytes 1, text 1, npy 1, .*cloudpickle 1"):
        codec_named(name, version)


def test_npy_runs_no_pickles() -> None:
    """An .npy file with a pickle in it is not decoded, nor is an archive."""
    file = io.BytesIO()
    np.save(file, np.array([Custom(1)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        codec_named("npy", 1).decode(file.getvalue())
    archive = io.BytesIO()
    np.savez(archive, a=np.ones(1))
    with pytest.raises(ValueError, match="magic"):
        codec_named("npy", 1).decode(archive.getvalue())
