"""Names in annotations whose classes are declared later, and again."""

from __future__ import annotations

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from superorm import Document, Embedded, Mapped, Registry
from tests.schema.helpers import load_one, store

registry = Registry()

CELL = """
from typing import TypedDict
from superorm import Document, Embedded, Mapped

class Host(Document, registry=registry):
    x: Mapped["Later"]
    many: Mapped[list["Later"]]
    d: Mapped["Row"]

class Later(Embedded):
    v: Mapped[{kind}]

class Row(TypedDict):
    {key}: int
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("module", [__name__, "nowhere"])
def test_a_cell_that_runs_again(future: str, module: str) -> None:
    """A class is taken as it was declared last, be it mapped or a TypedDict."""
    names: dict[str, Any] = globals() if module == __name__ else {"__name__": module, "registry": registry}
    for kind, key, value in (("int", "a", 1), ("str", "b", "x"), ("str", "b", "y")):
        exec(compile(future + CELL.format(kind=kind, key=key), "cell", "exec", dont_inherit=True), names)
        Host, Later = names["Host"], names["Later"]
        raw = {"x": {"v": value}, "many": [{"v": value}], "d": {key: 1}}
        host = Host(x=Later(v=value), many=[Later(v=value)], d={key: 1})
        assert {"_id": host.id, **raw} == store(host)
        assert Later is type(load_one(Host, raw).x)


def test_a_cell_that_was_used_before() -> None:
    """What was stored before the cell ran again is still of the first classes."""
    names: dict[str, Any] = {"__name__": "nowhere", "registry": registry}
    cell = CELL.format(kind="int", key="a")
    exec(compile(cell, "cell", "exec", dont_inherit=True), names)
    Host, Later = names["Host"], names["Later"]
    store(Host(x=Later(v=1), many=[], d={"a": 1}))
    exec(compile(cell, "cell", "exec", dont_inherit=True), names)
    assert Later is type(load_one(Host, {"x": {"v": 1}, "many": [], "d": {"a": 1}}).x)


def make() -> tuple[Any, Any]:
    class Host(Document, registry=registry):
        x: Mapped[Later]

    class Later(Embedded):
        v: Mapped[int]

    return Host, Later


def test_a_function_that_is_called_again() -> None:
    """The classes of each call belong together, whenever they are used first."""
    for Host, Later in [make(), make()]:
        assert {"v": 1} == store(Host(x=Later(v=1)))["x"]
        assert Later is type(load_one(Host, {"x": {"v": 1}}).x)


def test_names_of_other_things_that_are_bound_again() -> None:
    """A class keeps the type that a name had where it was declared, unless the same class is declared again."""
    names: dict[str, Any] = {"__name__": "nowhere", "registry": registry, "Document": Document, "Mapped": Mapped}
    cell = (
        "from __future__ import annotations\n"
        "class Host(Document, registry=registry):\n    x: Mapped[T]\n    y: Mapped[list[T]]\n"
    )
    hosts: list[Any] = []
    for kind in (int, str):
        names["T"] = kind
        exec(compile(cell, "cell", "exec", dont_inherit=True), names)
        hosts.append(names["Host"])
    del names["T"]
    assert [[1], ["a"]] == [store(host(x=y[0], y=y))["y"] for host, y in zip(hosts, ([1], ["a"]), strict=True)]


def test_a_class_that_another_module_makes() -> None:
    """Names are looked up in the module that the class is of."""
    names: dict[str, Any] = {"__name__": "elsewhere", "Document": Document, "registry": registry}
    body = "{'__module__': module, '__qualname__': 'Made', '__annotations__': {'x': 'Mapped[list[Shared]]'}}"
    exec(f"def make(module): return type(Document)('Made', (Document,), {body}, registry=registry)", names)
    made = names["make"](__name__)
    assert [Shared(n=1)] == load_one(made, {"x": [{"n": 1}]}).x


class Shared(Embedded):
    n: Mapped[int]


def test_classes_of_a_function_are_let_go() -> None:
    """Keeping a class of one call keeps none of other calls."""

    def pair() -> type:
        class One(Embedded):
            other: Mapped[Other]

        class Other(Embedded):
            n: Mapped[int]

        assert Other is One.other._type.embedded
        return One

    kept = pair()
    others = [weakref.ref(pair()) for _ in range(5)]
    gc.collect()
    assert [None] * 5 == [other() for other in others]
    assert "One" == kept.__name__


def test_threads_that_declare_classes_at_once() -> None:
    """None sees the classes of its function change while it looks at them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: [make() for _ in range(50)], range(4)))
    finally:
        sys.setswitchinterval(before)
    assert [50] * 4 == list(map(len, made))
