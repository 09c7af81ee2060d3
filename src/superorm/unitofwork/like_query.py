"""What `like` is given to search for."""

from __future__ import annotations

from typing import Any

import numpy as np

from superorm.codec.vectors import Matrix, real_float32
from superorm.exc import VectorError

__all__ = ["check_words", "is_vector", "query_numbers"]


def is_vector(query: object) -> bool:
    """Whether the query is meant as a vector: a list, a tuple or an array."""
    return isinstance(query, (list, tuple, np.ndarray)) or hasattr(query, "__array__")


def query_numbers(given: Any, whence: str) -> Matrix:
    """The same in float32, infinite where that is too small for it. Raises `VectorError`."""
    numbers = real_float32(given)
    if numbers is None:
        raise VectorError(f"{whence} {given!r:.80}, which is no vector of real numbers")
    return numbers


def check_words(query: object) -> None:
    """Raise `VectorError` for a text without any."""
    if isinstance(query, str) and not query.strip():
        raise VectorError(f"like() got the text {query!r:.80}, which is blank and near to nothing; give some words")
