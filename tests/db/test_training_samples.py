"""What a model is given of the documents that it is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import Document, Mapped, Trainer, field, select
from superorm.components.fitting.samples import Collecting, arrayed


class Sampled(Document):
    """A document whose fields are of several kinds."""

    __collection__ = "sampled_of_trainings"

    id: Mapped[int] = field(primary_key=True)
    sizes: Mapped[list[float]] = field(factory=list)
    name: Mapped[str] = field(default="")


@pytest.mark.parametrize(
    ("values", "dtype", "shape"),
    [
        ([1, 2, 3], np.int64, (3,)),
        ([1, 2.5], np.float64, (2,)),
        ([True, False], np.bool_, (2,)),
        ([[1.0, 2.0], [3.0, 4.0]], np.float64, (2, 2)),
        ([np.zeros((2, 3), np.float32)] * 4, np.float32, (4, 2, 3)),
    ],
)
def test_numbers_are_one_array(values: list[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    """With each value at its place."""
    array = arrayed(values)
    assert isinstance(array, np.ndarray)
    assert (np.dtype(dtype), shape) == (array.dtype, array.shape)
    assert all(np.array_equal(one, value) for one, value in zip(array, values, strict=True))


@pytest.mark.parametrize(
    "values",
    [["a", "b"], [[1.0], [1.0, 2.0]], [["a"], ["b"]], [np.zeros(2), np.zeros(3)], [{"a": 1}], [2**70, 1], []],
    ids=repr,
)
def test_all_else_stays_as_it_is(values: list[Any]) -> None:
    """Texts, lists and arrays of different lengths, numbers beyond 64 bits, and nothing at all."""
    assert arrayed(values) is values


def test_batches_are_put_together() -> None:
    """Lists that are of one length in each batch, but not in all, stay lists; the hash is that of the documents."""

    def collected(*batches: list[list[float]], name: str = "", start: int = 0) -> Any:
        collecting = Collecting(Trainer(select=select(Sampled), key=Sampled.sizes, target=Sampled.id))
        key = start
        for batch in batches:
            collecting.take([{"_id": key + n, "sizes": sizes, "name": name} for n, sizes in enumerate(batch)])
            key += len(batch)
        return collecting.samples("a test")

    whole = collected([[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]])
    assert [[1, 2], [3, 4], [5, 6]] == whole.inputs.tolist()
    assert [0, 1, 2] == whole.targets.tolist() == list(whole.plain)
    assert [[1.0, 2.0], [3.0]] == [list(one) for one in collected([[1.0, 2.0]], [[3.0]]).inputs]
    assert whole.data == collected([[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], name="not used").data
    assert whole.data != collected([[1.0, 2.0], [3.0, 4.0]], [[5.0, 7.0]]).data
    assert whole.data != collected([[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], start=1).data
