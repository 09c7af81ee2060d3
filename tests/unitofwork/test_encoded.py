"""What a unit of work remembers of its models' answers."""

from __future__ import annotations

import numpy as np

from superorm.unitofwork.encoded import Encoded, RecordedModel


def test_outputs_are_remembered_by_version() -> None:
    """Another version of the model has given nothing yet."""
    encoded = Encoded()
    encoded.remember("m", 0, {"a": 1, "b": 2}, 4)
    encoded.remember("m", 0, {"c": 3}, 4)
    assert {"a": 1, "b": 2, "c": 3} == encoded.outputs("m", 0)
    assert {} == encoded.outputs("m", 1)
    assert {} == encoded.outputs("n", 0)


def test_there_is_so_much_room() -> None:
    """What does not fit is left out, and that is known; a text takes its characters and its vector's numbers."""
    encoded = Encoded(room=2 * (1000 + 4 * 100 + 200) + 50)
    texts = [letter * 1000 for letter in "abc"]
    assert texts[:2] == encoded.fitting(texts, 100)
    assert encoded.full
    encoded.remember("m", 0, dict.fromkeys(texts, 1.0), 100)
    assert texts[:2] == list(encoded.outputs("m", 0))
    assert 50 == encoded.room


def test_vectors_take_four_bytes_a_number() -> None:
    """Whatever a model gives them as; each is apart from its batch, and what is no vector stays as it is."""
    encoded = Encoded()
    batch = np.arange(6.0).reshape(2, 3)
    encoded.remember("m", 0, {"list": [1.0, 2.0, 3.0], "row": batch[1], "other": {"no": "vector"}}, 3)
    given = encoded.outputs("m", 0)
    assert [1.0, 2.0, 3.0] == given["list"].tolist()
    assert [3.0, 4.0, 5.0] == given["row"].tolist()
    assert (np.float32, np.float32) == (given["list"].dtype, given["row"].dtype)
    assert given["row"].base is None
    assert {"no": "vector"} == given["other"]


def test_clear() -> None:
    """All is forgotten, and there is room again."""
    encoded = Encoded(room=10)
    encoded.remember("m", 0, {"a": 1}, 4)
    assert encoded.full
    encoded.made["i"] = RecordedModel("m", 0, 0.0)
    encoded.clear()
    assert not encoded.full
    assert {} == encoded.made
    encoded.remember("m", 0, {"a": 1}, 4)
    assert {"a": 1} == encoded.outputs("m", 0)
