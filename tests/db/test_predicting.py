"""Prediction with the objects of other libraries, checked against these libraries themselves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from superorm import Model, PredictionError, connect
from superorm.exc import ConfigurationError

ROWS = np.random.default_rng(5).standard_normal((7, 3))


def net() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def plainly(module: Any) -> np.ndarray[Any, Any]:
    """What the module gives for each row, by torch alone."""
    was = module.training
    module.eval()
    with torch.no_grad():
        outputs: np.ndarray[Any, Any] = module(torch.tensor(ROWS, dtype=torch.float32)).numpy()
    module.train(was)
    return outputs


# torch


@pytest.mark.parametrize(
    "items",
    [list(ROWS), ROWS.tolist(), [torch.tensor(row) for row in ROWS], list(ROWS.astype(np.float32)), ROWS],
    ids=["arrays", "lists", "tensors", "float32", "matrix"],
)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("batched", [None, False])
def test_modules(items: Any, batch_size: int, batched: bool | None) -> None:
    """Rows of any kind are collated; dropout is off meanwhile, and on again afterwards."""
    module = net()
    options: dict[str, Any] = {} if batched is None else {"batched": batched}
    model = Model("net", module, batch_size=batch_size, **options)
    outputs = model.predict(items)
    assert all(isinstance(output, np.ndarray) for output in outputs)
    np.testing.assert_allclose(np.array(outputs), plainly(module), rtol=1e-5)
    assert all(part.training for part in module.modules())
    assert not any(parameter.grad is not None for parameter in module.parameters())


class Parts(nn.Module):
    """Several inputs, several outputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
        return {"sum": a + b, "both": (a, b * 2)}


class Lengths(nn.Module):
    """Takes texts."""

    def forward(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


def test_parts() -> None:
    """Dicts are arguments by name, tuples by position; outputs of several parts are taken apart."""
    expected = [{"sum": 3.5, "both": (1, 5.0)}, {"sum": 7.0, "both": (3, 8.0)}]
    assert expected == Model("parts", Parts()).predict([{"a": 1, "b": 2.5}, {"a": 3, "b": 4.0}])
    assert expected == Model("parts", Parts()).predict([(1, 2.5), (3, 4.0)])
    assert [1, 2] == Model("texts", Lengths()).predict(["a", "bb"])


def test_numbers() -> None:
    """One number for each item comes as Python's own."""
    outputs = Model("sum", nn.Flatten(0)).predict([1.5, 2.5])
    assert [float, float] == [type(output) for output in outputs]
    assert [1.5, 2.5] == outputs


def test_read_only_arrays() -> None:
    """What came from bytes is taken too."""
    row = np.frombuffer(np.arange(3, dtype=np.float32).tobytes(), np.float32)
    assert not row.flags.writeable
    for batched in True, False:
        assert (2,) == Model("net", net(), batched=batched).predict([row])[0].shape


def test_dtypes() -> None:
    """The module is moved itself; bfloat16, which numpy lacks, comes as float32."""
    module = net()
    expected = plainly(module)
    (first, *_) = Model("net", module, device="cpu", dtype="bfloat16").predict(ROWS)
    assert np.float32 == first.dtype
    np.testing.assert_allclose(expected[0], first, rtol=0.05, atol=0.02)
    assert {torch.bfloat16} == {parameter.dtype for parameter in module.parameters()}


@pytest.mark.parametrize(
    ("options", "says"),
    [({"device": "gpu"}, "no device 'gpu'"), ({"dtype": "int8"}, "not 'int8'"), ({"dtype": "floaty"}, "not 'floaty'")],
)
def test_unknown_places(options: dict[str, Any], says: str) -> None:
    """What torch does not have is refused when the model is made."""
    with pytest.raises(ConfigurationError, match=says):
        Model("net", net(), **options)
    with pytest.raises(ConfigurationError, match="is for torch modules"):
        Model("plain", len, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_devices() -> None:
    """A model may be made for a device that this machine lacks; prediction names it."""
    model = Model("net", net(), device="cuda:0")
    with pytest.raises(ConfigurationError, match="Model 'net': it cannot be moved to cuda:0"):
        model.predict(ROWS)


def test_wrong_items() -> None:
    """The item at fault is named."""
    with pytest.raises(PredictionError, match="model 'net' failed") as caught:
        Model("net", net(), batch_size=2).predict([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0]])
    assert 3 == caught.value.position
    with pytest.raises(PredictionError, match="one number for the whole batch"):
        Model("loss", nn.MSELoss()).predict([(1.0, 2.0), (3.0, 4.0)])
    with pytest.raises(PredictionError, match=r"predict_one\(\) takes one"):
        Model("texts", Lengths()).predict("one text")


class Slow(nn.Module):
    """Says whether dropout was off all the time."""

    def __init__(self, meeting: threading.Barrier) -> None:
        super().__init__()
        self.meeting = meeting

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """True for each item that found the module in eval mode before and after it met the others."""
        before = self.training
        self.meeting.wait(10)
        if given[0] == 1:
            self.meeting.wait(10)
        return torch.full((len(given),), not before and not self.training)


def test_threads() -> None:
    """While one thread still predicts, another one that ends does not put dropout on again."""
    meeting = threading.Barrier(2)
    model = Model("slow", Slow(meeting))
    found: dict[int, list[bool]] = {}

    def predict(number: int) -> None:
        found[number] = model.predict([number])

    threads = [threading.Thread(target=predict, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    threads[0].join(10)
    meeting.wait(10)
    threads[1].join(10)
    assert {0: [True], 1: [True]} == found
    assert model.object.training


# scikit-learn


def test_estimators() -> None:
    """Rows of arrays, sparse matrices and classes come one by one, as by scikit-learn itself."""
    classes = ["a", "b", "a", "b", "a", "b", "b"]
    classifier = LogisticRegression().fit(ROWS, classes)
    assert classifier.predict(ROWS).tolist() == Model("classes", classifier, batch_size=2).predict(list(ROWS))
    projection = PCA(2).fit(ROWS)
    np.testing.assert_allclose(projection.transform(ROWS), Model("pca", projection, batch_size=3).predict(ROWS))
    texts = ["a good film", "a bad film", "good", "bad"]
    terms = TfidfVectorizer().fit(texts)
    found = Model("terms", terms).predict(texts)
    assert all(isinstance(row, np.ndarray) for row in found)
    np.testing.assert_allclose(terms.transform(texts).toarray(), np.array(found))
    labels = [1, 0, 1, 0]
    whole = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    assert labels == Model("whole", whole).predict(texts)
    tables = PCA(2).set_output(transform="default").fit(ROWS)
    assert (2,) == Model("pca", tables).predict_one(ROWS[0]).shape


# transformers, sentence-transformers

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a"]
TEXTS = ["a good film", "bad", "a bad film"]


@pytest.fixture
def tokenizer() -> Any:
    from transformers import BertTokenizerFast

    torch.manual_seed(7)
    made = BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)})
    assert [2, 8, 5, 7, 3] == made("a good film")["input_ids"]
    return made


def config() -> Any:
    from transformers import BertConfig

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)


def test_pipelines(tokenizer: Any) -> None:
    """A Hugging Face pipeline takes batches, and comes back from the artifact store whole."""
    from transformers import BertForSequenceClassification, pipeline

    classify: Any = pipeline(
        "text-classification", model=BertForSequenceClassification(config()).eval(), tokenizer=tokenizer
    )
    expected = [classify(text)[0] for text in TEXTS]
    with connect("mongomock://pipelines", trust="all") as db:
        db.add(Model("classify", classify, batch_size=2))
        for model in Model("classify", classify, batch_size=2), again(db, "classify"):
            found = model.predict(TEXTS)
            assert [one["label"] for one in expected] == [one["label"] for one in found]
            np.testing.assert_allclose([one["score"] for one in expected], [one["score"] for one in found], rtol=1e-4)


def test_transformers(tokenizer: Any) -> None:
    """A model of transformers is a torch module: tokens go in by their names, each text's parts come out."""
    from transformers import BertModel

    bert = BertModel(config()).eval()
    tokens = [dict(tokenizer(text, padding="max_length", max_length=8)) for text in TEXTS]
    with torch.no_grad():
        expected = bert(**tokenizer(TEXTS, padding="max_length", max_length=8, return_tensors="pt"))
    with connect("mongomock://transformers", trust="all") as db:
        db.add(Model("bert", bert))
        found = again(db, "bert").predict(tokens)
    for number, output in enumerate(found):
        for name in "last_hidden_state", "pooler_output":
            np.testing.assert_allclose(expected[name][number].numpy(), output[name], rtol=1e-4, atol=1e-6)


def test_sentences(tokenizer: Any, tmp_path: Path) -> None:
    """A sentence-transformer encodes batches of texts, and comes back from the artifact store whole."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertModel

    folder = str(tmp_path / "bert")
    BertModel(config()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder: Any = SentenceTransformer(modules=[Transformer(folder), Pooling(8)], device="cpu")
    expected = encoder.encode(TEXTS)
    with connect("mongomock://sentences", trust="all") as db:
        db.add(Model("sentences", encoder, batch_size=2))
        for model in Model("sentences", encoder, batch_size=2), again(db, "sentences"):
            np.testing.assert_allclose(expected, np.array(model.predict(TEXTS)), rtol=1e-4, atol=1e-6)


def again(db: Any, name: str) -> Model:
    """The model as another program loads it."""
    with connect("mongomock://other", trust="all") as other:
        other.components = type(db.components)(db.parts.metadata, db.blobs)
        model: Model = other.load("model", name)
    return model


# As they come


def test_batches() -> None:
    """Items are taken as they come, a batch ahead at most; how far it is is told."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(7):
            taken.append(number)
            yield number

    told: list[tuple[int, int, str]] = []
    model = Model("twice", lambda number: number * 2, batch_size=3)  # type: ignore[misc]
    outputs = model.predict_batches(numbers(), progress=lambda *what: told.append(what))
    assert [0, 2, 4] == next(outputs)
    assert [0, 1, 2] == taken
    assert [[6, 8, 10], [12]] == list(outputs)
    assert [(3, 3, "model twice"), (6, 6, "model twice"), (7, 7, "model twice")] == told
    told.clear()
    assert 8 == model.predict_one(4)
    assert [0, 2, 4, 6] == model.predict(range(4), progress=lambda *what: told.append(what))
    assert [(3, 4, "model twice"), (4, 4, "model twice")] == told


def test_bars(capfd: pytest.CaptureFixture[str]) -> None:
    """True shows a bar."""
    assert [0, 1, 2] == Model("same", lambda number: number).predict(range(3), progress=True)  # type: ignore[misc]
    assert "model same: 100%" in capfd.readouterr().err


async def test_async() -> None:
    """The event loop goes on meanwhile; items may come asynchronously."""
    go_on = threading.Event()

    def wait(number: int) -> int:
        assert go_on.wait(10)
        return -number

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    model = Model("wait", wait, batch_size=2)
    running = asyncio.ensure_future(model.predict_async(range(3)))
    await asyncio.sleep(0.05)
    assert not running.done()
    go_on.set()
    assert [0, -1, -2] == await running
    assert [[0, -1], [-2]] == [outputs async for outputs in model.predict_batches_async(numbers())]


async def test_cancelled() -> None:
    """A cancellation takes effect after the batch that is computed: the next one is not begun."""
    begun: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def wait(number: int) -> int:
        begun.append(number)
        started.set()
        assert go_on.wait(10)
        return number

    running = asyncio.ensure_future(Model("wait", wait, batch_size=1).predict_async(range(3)))
    await asyncio.to_thread(started.wait, 10)
    running.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [0] == begun


def test_nothing_is_imported() -> None:
    """Plain functions bring in no library."""
    program = (
        "import sys\nfrom superorm import Model\n"
        "assert Model('same', lambda item: item).predict([1]) == [1]\n"
        "print(sorted({'torch', 'sklearn', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize("given", [{"a": 1, "b": 2}, {1, 2}, "ab", b"ab"], ids=repr)
def test_what_is_no_list_of_outputs_is_refused(given: Any) -> None:
    """Though it has as many parts as there are items."""
    with pytest.raises(PredictionError, match=f"a {type(given).__name__} for a batch is not one output for each item"):
        Model("odd", lambda batch: given, batched=True).predict(["x", "y"])


@pytest.mark.parametrize("items", [None, 3, "text", b"text"], ids=repr)
def test_what_is_no_list_of_inputs_is_refused(items: Any) -> None:
    with pytest.raises(PredictionError, match=r"takes a list of inputs; predict_one\(\) takes one"):
        Model("plain", lambda item: item).predict(items)


def test_dicts_of_a_batch_have_the_same_keys() -> None:
    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
            return x * 2

    model = Model("doubling", Doubling())
    assert model.predict([{"x": 1.0}, {"x": 2.0}]) == [2.0, 4.0]
    with pytest.raises(PredictionError, match="different keys"):
        model.predict([{"x": 1.0}, {"x": 2.0, "y": 3.0}])
