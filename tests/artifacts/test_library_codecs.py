"""Objects of libraries to bytes and back, against those libraries' own readers."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from superorm.artifacts.codecs import FileCodec, codec_for, codec_named, registry
from superorm.exc import ArtifactError, ArtifactSavingError, ConfigurationError, CorruptArtifactError


def there_and_back(value: Any, name: str, *, code: bool = False) -> tuple[bytes, Any]:
    """What the codec that is chosen stores, and gives back."""
    codec = codec_for(value)
    assert (name, code) == (codec.name, codec.carries_code)
    data = codec.encode(value)
    return data, codec_named(name, codec.version).decode(data)


@pytest.mark.parametrize("text", ["", "plain", "ä\0\r\n😀"])
def test_text(text: str) -> None:
    """Text is UTF-8."""
    data, back = there_and_back(text, "text")
    assert (text, text) == (data.decode("utf-8"), back)


def test_text_without_encoding() -> None:
    """Half a surrogate pair is no Unicode text: it is pickled unless text was asked for."""
    assert "cloudpickle" == codec_for("\ud800").name
    with pytest.raises(ArtifactSavingError, match="Unicode text"):
        codec_for("\ud800", "text").encode("\ud800")


@pytest.mark.parametrize("value", [[], {}, {"a": [1, -(1 << 63), 1.5, None, True, "ä\ud800"], "": {"b": {}}}])
def test_json(value: object) -> None:
    """Lists and dicts of plain values are JSON, of the same types afterwards."""
    data, back = there_and_back(value, "json")
    assert repr(value) == repr(json.loads(data)) == repr(back)


def test_what_is_no_json() -> None:
    """What would come back as something else is not stored as JSON, unless asked for; what JSON lacks never is."""
    loop: list[object] = []
    loop.append(loop)
    for value in loop, [1 << 64], {"a": (1,)}, [float("inf")], OrderedDict(a=1), [np.float64(1)]:
        assert "cloudpickle" == codec_for(value).name
    for value in loop, [float("inf")], [b"x"]:
        with pytest.raises(ArtifactSavingError, match="json cannot store this list"):
            codec_for(value, "json").encode(value)
    assert {"a": [1]} == codec_named("json", 1).decode(codec_for(None, "json").encode({"a": (1,)}))


def test_arrow_tables() -> None:
    """Tables are Arrow files, with schema, metadata and nulls."""
    table = pa.table(
        {"a": [1, None], "b": pa.array(["x", "y"]).dictionary_encode(), "c": [[1.5], []]}
    ).replace_schema_metadata({"who": "me"})
    data, back = there_and_back(table, "arrow")
    for read in pa.ipc.open_file(io.BytesIO(data)).read_all(), back:
        assert table.equals(read, check_metadata=True)
    with pytest.raises(ArtifactSavingError, match="Arrow tables, not list"):
        codec_for(table).encode([1])


def test_tables_that_point_elsewhere() -> None:
    """A table made to read memory beyond its bytes is refused before anybody reads it."""
    data = codec_for(pa.table({"a": [1]})).encode(pa.table({"a": pa.array(["a" * 32, "x"])}))
    ends = np.array([0, 32, 33], "<i4").tobytes()
    assert 1 == data.count(ends)
    hostile = data.replace(ends, np.array([0, 1 << 20, 1 << 20], "<i4").tobytes())
    with pytest.raises(pa.ArrowInvalid, match="1048576"):
        codec_named("arrow", 1).decode(hostile)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F", "I"])
def test_images(mode: str) -> None:
    """Every pixel of an image comes back in its mode, from Pillow's own reader too."""
    numbers = np.random.default_rng(1)
    if mode in ("I", "F"):
        pixels = numbers.integers(-(2**31), 2**31, (5, 7)).astype("i4" if mode == "I" else "f4")
        image = Image.fromarray(pixels)
    elif mode == "I;16":
        image = Image.fromarray(numbers.integers(0, 2**16, (5, 7)).astype("u2"))
    else:
        image = Image.fromarray(numbers.integers(0, 256, (5, 7, 4)).astype("u1")).convert(
            "RGB" if mode == "P" else mode
        )
        image = image.quantize(16) if mode == "P" else image
    assert mode == image.mode
    data, back = there_and_back(image, "image")
    for read in Image.open(io.BytesIO(data)), back:
        assert (mode, image.size) == (read.mode, read.size)
        assert image.tobytes() == read.tobytes()
        assert image.getpalette() == read.getpalette()


def test_what_images_carry() -> None:
    """EXIF is kept; several frames are not silently dropped."""
    image = Image.new("RGB", (3, 2), "red")
    image.getexif()[0x010E] = "a red one"
    assert "a red one" == there_and_back(image, "image")[1].getexif()[0x010E]
    file = io.BytesIO()
    image.save(file, "GIF", save_all=True, append_images=[Image.new("RGB", (3, 2), "blue")])
    frames = Image.open(file)
    with pytest.raises(ArtifactSavingError, match=r"one frame.*store the file's bytes"):
        codec_for(frames, "image").encode(frames)


def test_images_that_would_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PNG would change, or Pillow not open again, is pickled, and refused where the codec is asked for."""
    beyond = Image.new("P", (4, 1))
    beyond.putpalette([0, 0, 0, 255, 0, 0])
    beyond.putpixel((2, 0), 200)
    for image in beyond, Image.new("L", (0, 3)):
        back = there_and_back(image, "cloudpickle", code=True)[1]
        assert (image.mode, image.size, image.tobytes()) == (back.mode, back.size, back.tobytes())
        with pytest.raises(ArtifactSavingError, match="palette"):
            codec_for(image, "image").encode(image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    there_and_back(Image.new("L", (2, 5)), "image")
    there_and_back(Image.new("L", (2, 11)), "cloudpickle", code=True)


def test_estimators() -> None:
    """Estimators predict the same, and know which scikit-learn made them."""
    x, y = np.random.default_rng(1).normal(size=(50, 3)), np.arange(50) % 2
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    data, back = there_and_back(model, "sklearn", code=True)
    line, _, pickled = data.partition(b"\n")
    assert {"sklearn": sys.modules["sklearn"].__version__} == json.loads(line)
    for read in pickle.loads(pickled), back:
        np.testing.assert_array_equal(model.predict_proba(x), read.predict_proba(x))
    with pytest.raises(ArtifactError, match=r"made with scikit-learn 0\.1; here is 1"):
        codec_named("sklearn", 1).decode(b'{"sklearn": "0.1"}\ncsklearn.gone\nGone\n.')
    with pytest.raises(ArtifactSavingError, match="estimators, not int"):
        codec_for(model).encode(1)


def test_states() -> None:
    """States are plain safetensors files; tensors that are views or share memory come back equal."""
    base = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(a=base, shared=base, view=base.T, half=base.half(), scalar=torch.tensor(5), none=torch.empty(0))
    state["parameter"] = torch.nn.Parameter(base + 1)
    state["negative"] = torch.view_as_complex(torch.ones(3, 2)).conj().imag
    state["lazy"] = torch._neg_view(torch.ones(3))
    data, back = there_and_back(state, "safetensors")
    for read in safetensors.torch.load(data), back:
        assert state.keys() == read.keys()
        for name, tensor in state.items():
            assert tensor.dtype == read[name].dtype
            assert torch.equal(tensor.detach(), read[name])
    assert "cloudpickle" == codec_for({"a": base.to_sparse()}).name
    with pytest.raises(ArtifactSavingError, match="dense tensors"):
        codec_for(state).encode({"a": 1})


class Tied(torch.nn.Module):
    """A module whose head is its embedding, with a buffer that is not in its state, and things that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool), persistent=False)
        self.views = torch.arange(10)[2:8:2]
        self.names = ["ä", {"b": np.arange(3)}]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embedding(x)) * self.mask)  # type: ignore[no-any-return]


@pytest.mark.parametrize("from_file", [False, True])
def test_modules(from_file: bool, tmp_path: Path) -> None:
    """Modules give the same, ties are kept, and the weights are in the file under their names."""
    torch.manual_seed(1)
    model = Tied().eval()
    model.embedding.weight.requires_grad_(False)
    data, back = there_and_back(model, "torch-module", code=True)
    file = tmp_path / "it.safetensors"
    file.write_bytes(data)
    if from_file:
        codec = codec_named("torch-module", 1)
        assert isinstance(codec, FileCodec)
        back = codec.decode_file(data[: codec.head(data[:8])], file)
    plain = safetensors.torch.load_file(file)
    for name, tensor in model.state_dict().items():
        if name != "head.weight":
            assert torch.equal(tensor, plain[name]), name
    x = torch.tensor([[1], [6]]).squeeze(1)
    assert torch.equal(model(x), back(x))
    assert not back.training
    assert back.head.weight is back.embedding.weight
    assert not back.embedding.weight.requires_grad
    assert torch.equal(model.views, back.views)
    assert (model.names[0], [0, 1, 2]) == (back.names[0], back.names[1]["b"].tolist())
    before = file.read_bytes()
    with torch.no_grad():
        back.norm.weight += 1
    assert data == before == file.read_bytes()


def test_modules_of_scripts() -> None:
    """The class of a module goes with it where others cannot import it."""
    program = """
import sys, torch
from superorm.artifacts.codecs import codec_for
class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def forward(self, x):
        return self.layer(x) * 0 + 42
model = Mine()
sys.stdout.buffer.write(codec_for(model).encode(model))
"""
    data = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    model = codec_named("torch-module", 1).decode(data)
    assert 42 == model(torch.zeros(2)).item()


def test_modules_that_cannot_be_stored() -> None:
    """Errors say what it is about."""
    model = torch.nn.Linear(1, 1)
    model.file = sys.stdout  # type: ignore[assignment]
    with pytest.raises(ArtifactSavingError, match="a module Linear cannot be pickled"):
        codec_for(model).encode(model)
    with pytest.raises(ArtifactSavingError, match="torch modules, not int"):
        codec_for(model).encode(5)


class Upper:
    """A codec of somebody else."""

    name = "upper"
    version = 3
    carries_code = False

    def takes(self, value: Any) -> bool:
        return isinstance(value, bytearray)

    def encode(self, value: Any) -> bytes:
        return bytes(value).upper()

    def decode(self, data: bytes) -> Any:
        return bytearray(data)


class Custom:
    """No codec."""


class Fake(Upper):
    name = "cloudpickle"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Codecs that installed packages would offer, by what they are called."""

    def offer(**names: str) -> None:
        found = [EntryPoint(name, f"{__name__}:{value}", "superorm.codecs") for name, value in names.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "superorm.codecs" else [])
        registry._by_name.cache_clear()

    yield offer
    registry._by_name.cache_clear()


def test_codecs_of_others(others: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's codec is chosen by type and by name, and reads older versions; none replaces one of superorm's."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    others(upper="Upper", cloudpickle="Fake")
    assert "upper" == codec_for(bytearray(b"x")).name
    assert bytearray(b"X") == codec_named("upper", 2).decode(codec_for(b"", "upper").encode(bytearray(b"x")))
    assert codec_named("cloudpickle", 1).carries_code
    with pytest.raises(CorruptArtifactError, match="upper 3"):
        codec_named("upper", 4)
    with pytest.raises(ConfigurationError, match=r"no codec 'lower', but bytes, .*upper, cloudpickle"):
        codec_for(b"", "lower")


@pytest.mark.parametrize(("value", "words"), [("Upper", "calls itself 'upper'"), ("Custom", "has no name, version")])
def test_no_codecs_of_others(others: Any, value: str, words: str) -> None:
    """An entry point that is no codec is named."""
    others(other=value)
    with pytest.raises(ConfigurationError, match=f"entry point 'other'.*{words}"):
        codec_for(bytearray(b"x"))


def test_nothing_is_imported() -> None:
    """Choosing a codec imports no library."""
    program = (
        "import sys; from superorm.artifacts.codecs import codec_for; "
        "codec_for(print); codec_for([1]); codec_for({'a': b''}); "
        "print({'torch', 'sklearn', 'PIL', 'pyarrow', 'safetensors', 'cloudpickle'} & sys.modules.keys())"
    )
    assert (
        "set()\n"
        == subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
        ).stdout
    )
