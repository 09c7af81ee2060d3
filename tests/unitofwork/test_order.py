"""The order of writes by reference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superorm.unitofwork.order import referred_first


@given(st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 9) | st.none(), st.integers(0, 9) | st.none())))
def test_referred_first(edges: dict[int, tuple[int | None, int | None]]) -> None:
    """Each document once, after those that it names unless they name it, however far."""
    found = referred_first([{"_id": key, "a": a, "b": b} for key, (a, b) in edges.items()], ["a", "b"])
    place = {document["_id"]: number for number, document in enumerate(found)}
    assert edges.keys() == place.keys()
    assert len(edges) == len(found)

    def reaches(start: int, end: int) -> bool:
        seen, pending = {start}, [start]
        while pending:
            for other in edges.get(pending.pop(), ()):
                if other == end:
                    return True
                if other is not None and other not in seen:
                    seen.add(other)
                    pending.append(other)
        return False

    for key, others in edges.items():
        for other in others:
            if other is not None and other in edges and not reaches(other, key):
                assert place[other] < place[key]


def test_long_chains() -> None:
    """They need no stack."""
    documents = [{"_id": n, "next": n + 1} for n in range(5000)]
    assert documents[::-1] == referred_first(documents, ["next"])
