"""Types of fields made at random, each with values, what they are in BSON, and a way to change them.

What is expected is computed here, from the documentation of the types, with nothing of superorm's.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from copy import deepcopy
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

import numpy as np
from attrs import frozen
from bson import Binary, Decimal128, Int64, ObjectId
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from superorm import Document, Embedded, Mapped, Registry, field, vector
from tests.differential.values import key_of

__all__ = ["Draw", "Kind", "Made", "Unordered", "document_classes"]

Draw = Callable[[st.SearchStrategy[Any]], Any]
_numbers = itertools.count()


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mark(StrEnum):
    A = "a"
    B = "b"


class Unordered(list[Any]):
    """The array of a set, as it is stored: in the server's order."""


@frozen
class Kind:
    """A type of fields."""

    annotation: Any
    values: st.SearchStrategy[Any]
    bson: Callable[[Any], Any]
    """The BSON value of a value."""
    group: str = ""
    """Types of one group look alike in BSON, so no union has two of them; those without one are in no union."""
    classes: tuple[type, ...] = ()
    """The exact types of the values."""
    hashable: Kind | None = None
    """The same, or one with values for sets."""
    changed: Callable[[Draw, Any], Any] | None = None
    """A value made from another one, in place where that can be."""
    setting: Any = None
    """What else the field's declaration needs."""

    def __repr__(self) -> str:
        return str(self.annotation)

    def change(self, draw: Draw, value: Any) -> Any:
        """Another value: a new one, or the old one changed."""
        if self.changed is None or draw(st.integers(0, 3)) == 0:
            return draw(self.values)
        return self.changed(draw, value)


def _same(value: Any) -> Any:
    return value


def _scalar(
    annotation: Any, values: st.SearchStrategy[Any], bson: Callable[[Any], Any], group: str, *classes: type
) -> Kind:
    kind = Kind(annotation, values, bson, group, classes or (annotation,))
    return Kind(annotation, values, bson, group, classes or (annotation,), hashable=kind)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def _array_bson(array: Any) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


texts = st.text(max_size=6)
ints = st.integers(-(2**63), 2**63 - 1)
moments = st.datetimes(timezones=st.just(dt.UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
keys = st.text(st.characters(exclude_characters=".$\0", codec="utf-8"), max_size=4)
arrays = hnp.arrays(
    st.sampled_from(["<f4", ">f8", "i2", "u1", "?", "c16", "M8[ms]", "U3"]),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
anything = st.recursive(
    st.none() | st.booleans() | ints | st.floats() | texts | moments | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=4,
)
_float = Kind(
    float,
    st.floats(),
    _same,
    "number",
    (float,),
    hashable=Kind(float, st.floats(allow_nan=False).filter(bool), _same, "number", (float,)),
)

SCALARS = [
    _scalar(str, texts, _same, "text"),
    _scalar(Color, st.sampled_from(Color), lambda color: color.value, "text"),
    _scalar(Mark, st.sampled_from(Mark), lambda mark: mark.value, "text"),
    _scalar(int, ints, _same, "number", int, Int64),
    _scalar(Level, st.sampled_from(Level), int, "number"),
    _float,
    _scalar(int | float, ints | st.floats(allow_nan=False).filter(bool), _same, "number", int, Int64, float),
    _scalar(bool, st.booleans(), _same, "bool"),
    _scalar(bytes, st.binary(max_size=5), _same, "bytes"),
    _scalar(dt.datetime, moments, _same, "date"),
    _scalar(dt.date, st.dates(), _midnight, "date"),
    _scalar(Decimal, decimals, Decimal128, "decimal"),
    _scalar(UUID, st.uuids(), lambda uuid: Binary(uuid.bytes, 4), "uuid"),
    _scalar(ObjectId, st.binary(min_size=12, max_size=12).map(ObjectId), _same, "object id"),
    _scalar(Literal["a", 1, True], st.sampled_from(["a", 1, True]), _same, ""),
    Kind(np.ndarray, arrays, _array_bson, "document", (np.ndarray,)),
    Kind(Any, anything, _same),
]


def _optional(kind: Kind) -> Kind:
    def changed(draw: Draw, value: Any) -> Any:
        return draw(kind.values) if value is None else kind.change(draw, value)

    return Kind(
        kind.annotation | None,
        st.none() | kind.values,
        lambda value: None if value is None else kind.bson(value),
        changed=changed,
    )


def _list(element: Kind) -> Kind:
    def changed(draw: Draw, value: list[Any]) -> Any:
        if value and draw(st.booleans()):
            place = draw(st.integers(0, len(value) - 1))
            value[place] = element.change(draw, value[place])
        elif value and draw(st.booleans()):
            value.pop(draw(st.integers(0, len(value) - 1)))
        else:
            value.insert(draw(st.integers(0, len(value))), draw(element.values))
        return value

    return Kind(
        list[element.annotation],  # type: ignore[name-defined]
        st.lists(element.values, max_size=3),
        lambda value: [element.bson(item) for item in value],
        "list",
        (list,),
        changed=changed,
    )


def _set(element: Kind, frozen: bool) -> Kind:
    container: Any = frozenset if frozen else set

    def changed(draw: Draw, value: set[Any]) -> Any:
        value.symmetric_difference_update(draw(st.sets(element.values, max_size=2)))
        return value

    return Kind(
        container[element.annotation],
        st.sets(element.values, max_size=3).map(container),
        lambda value: Unordered(sorted(map(element.bson, value), key=key_of)),
        "list",
        (container,),
        changed=None if frozen else changed,
    )


def _tuple(elements: list[Kind]) -> Kind:
    return Kind(
        tuple[tuple(element.annotation for element in elements)],  # type: ignore[misc]
        st.tuples(*(element.values for element in elements)),
        lambda value: [element.bson(item) for element, item in zip(elements, value, strict=True)],
        "list",
        (tuple,),
    )


def _long_tuple(element: Kind) -> Kind:
    return Kind(
        tuple[element.annotation, ...],  # type: ignore[name-defined]
        st.lists(element.values, max_size=3).map(tuple),
        lambda value: [element.bson(item) for item in value],
        "list",
        (tuple,),
    )


def _dict(element: Kind) -> Kind:
    def changed(draw: Draw, value: dict[str, Any]) -> Any:
        if value and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(value)))
            value[key] = element.change(draw, value[key])
        elif value and draw(st.booleans()):
            del value[draw(st.sampled_from(sorted(value)))]
        else:
            value[draw(keys)] = draw(element.values)
        return value

    return Kind(
        dict[str, element.annotation],  # type: ignore[name-defined]
        st.dictionaries(keys, element.values, max_size=3),
        lambda value: {key: element.bson(item) for key, item in value.items()},
        "document",
        (dict,),
        changed=changed,
    )


def _typed_dict(required: dict[str, Kind], others: dict[str, Kind]) -> Kind:
    kinds = {**required, **others}
    annotations = {name: kind.annotation for name, kind in required.items()}
    annotations |= {name: NotRequired[kind.annotation] for name, kind in others.items()}

    def changed(draw: Draw, value: dict[str, Any]) -> Any:
        name = draw(st.sampled_from(sorted(kinds)))
        if name not in value:
            value[name] = draw(kinds[name].values)
        elif name in others and draw(st.booleans()):
            del value[name]
        else:
            value[name] = kinds[name].change(draw, value[name])
        return value

    return Kind(
        TypedDict(f"Typed{next(_numbers)}", annotations),  # type: ignore[misc, operator]
        st.fixed_dictionaries(
            {name: kind.values for name, kind in required.items()},
            optional={name: kind.values for name, kind in others.items()},
        ),
        lambda value: {name: kinds[name].bson(item) for name, item in value.items()},
        "document",
        (dict,),
        changed=changed,
    )


@frozen
class Made:
    """A class made at random."""

    cls: Any
    kinds: dict[str, Kind]
    """The types of its fields by attribute."""
    stored: dict[str, str]
    """The keys that they are stored under."""
    values: st.SearchStrategy[Any]
    tag: dict[str, str]
    """The discriminator of its documents, where there is one."""

    def __repr__(self) -> str:
        return f"{self.cls.__name__}({', '.join(f'{self.stored[name]}: {kind}' for name, kind in self.kinds.items())})"

    def bson(self, instance: Any, *, tagged: bool = False) -> dict[str, Any]:
        """The document to store."""
        fields = {self.stored[name]: kind.bson(getattr(instance, name)) for name, kind in self.kinds.items()}
        return {**(self.tag if tagged else {}), **fields}

    def change(self, draw: Draw, instance: Any) -> None:
        """Change one field, other than the key."""
        names = [name for name, key in self.stored.items() if key != "_id"]
        if names:
            name = draw(st.sampled_from(names))
            setattr(instance, name, self.kinds[name].change(draw, getattr(instance, name)))


@st.composite
def _classes(draw: Draw, depth: int, base: Any, prefix: str, kinds: dict[str, Kind] | None = None) -> Made:
    """A class with up to five fields, some of them stored under other keys, some with defaults."""
    name = f"{prefix}{next(_numbers)}"
    root = Document if issubclass(base, Document) else Embedded
    inherited: Made | None = getattr(base, "made", None)
    kinds = kinds or {}
    count = draw(st.integers(1, 5))
    kinds |= {f"{prefix.lower()}_{n}": draw(_kinds(depth)) for n in range(count)}
    own = {"__module__": __name__, "__qualname__": name, "__annotations__": {}}
    stored = dict(inherited.stored) if inherited else {}
    defaulted: set[str] = set()
    for attribute, kind in kinds.items():
        settings: dict[str, Any] = {}
        stored[attribute] = attribute
        if attribute == "key":
            settings["primary_key"] = True
            stored[attribute] = "_id"
        elif draw(st.booleans()):
            settings["name"] = stored[attribute] = f"{attribute} ~{draw(st.sampled_from('äß€_'))}"
        if attribute != "key" and draw(st.booleans()):
            default = draw(kind.values)
            settings["factory"] = lambda default=default: deepcopy(default)
            defaulted.add(attribute)
        own["__annotations__"][attribute] = Mapped[kind.annotation]
        own[attribute] = field(**settings) if kind.setting is None else kind.setting(settings.get("name"))
    registry = {"registry": Registry()} if root is Document else {}
    cls = type(base)(name, (base,), own, **registry)
    all_kinds = {**(inherited.kinds if inherited else {}), **kinds}
    required = {name: kind.values for name, kind in all_kinds.items() if name not in defaulted}
    optional = {name: kind.values for name, kind in all_kinds.items() if name in defaulted}
    values = st.fixed_dictionaries(required, optional=optional).map(lambda arguments: cls(**arguments))
    made = Made(cls, all_kinds, stored, values, {"_type": name})
    cls.made = made
    return made


def _embedded(members: list[Made], untagged: Made | None, declared: Any = None) -> Kind:
    """One of some classes; `untagged` is the one whose documents do not name it.

    `declared` is the annotation, if it is neither that class nor a union of all.
    """

    def bson(value: Any) -> Any:
        return type(value).made.bson(value, tagged=untagged is None or type(value) is not untagged.cls)

    def changed(draw: Draw, value: Any) -> Any:
        type(value).made.change(draw, value)
        return value

    annotation = declared or (_any_of(made.cls for made in members) if untagged is None else untagged.cls)
    values = st.one_of([made.values for made in members])
    return Kind(annotation, values, bson, "document", tuple(made.cls for made in members), changed=changed)


def _any_of(annotations: Iterable[Any]) -> Any:
    return functools.reduce(operator.or_, annotations)


def _union(members: list[Kind], with_none: bool) -> Kind:
    def member(value: Any) -> Kind:
        return next(kind for kind in members if type(value) in kind.classes)

    def bson(value: Any) -> Any:
        return None if value is None else member(value).bson(value)

    def changed(draw: Draw, value: Any) -> Any:
        return draw(members[0].values) if value is None else member(value).change(draw, value)

    annotations = [kind.annotation for kind in members] + [None] * with_none
    values = [kind.values for kind in members] + [st.none()] * with_none
    return Kind(_any_of(annotations), st.one_of(values), bson, changed=changed)


@st.composite
def _kinds(draw: Draw, depth: int) -> Kind:
    """Any type, nested so deep at most."""
    if depth == 0:
        return draw(st.sampled_from(SCALARS))  # type: ignore[no-any-return]
    inner = _kinds(depth - 1)
    shape = draw(st.sampled_from(["scalar", "optional", "list", "set", "tuple", "dict", "typed", "embedded", "union"]))
    if shape == "scalar":
        return draw(st.sampled_from(SCALARS))  # type: ignore[no-any-return]
    if shape == "optional":
        return _optional(draw(inner))
    if shape == "list":
        return _list(draw(inner))
    if shape == "set":
        element = draw(st.sampled_from([kind.hashable for kind in SCALARS if kind.hashable]))
        return _set(element, draw(st.booleans()))
    if shape == "tuple":
        elements = draw(st.lists(inner, min_size=1, max_size=3))
        return _long_tuple(elements[0]) if draw(st.booleans()) else _tuple(elements)
    if shape == "dict":
        return _dict(draw(inner))
    if shape == "typed":
        required = {f"r{n}": kind for n, kind in enumerate(draw(st.lists(inner, max_size=2)))}
        others = {f"o {n}": kind for n, kind in enumerate(draw(st.lists(inner, min_size=1, max_size=2)))}
        return _typed_dict(required, others)
    if shape == "embedded":
        return draw(_embedded_kinds(depth))  # type: ignore[no-any-return]
    members: dict[str, Kind] = {}
    for kind in draw(st.lists(inner, min_size=2, max_size=4)):
        if kind.group:
            members.setdefault(kind.group, kind)
    if not members:
        return draw(inner)  # type: ignore[no-any-return]
    return _union(list(members.values()), draw(st.booleans()))


@st.composite
def _embedded_kinds(draw: Draw, depth: int) -> Kind:
    first = draw(_classes(depth - 1, Embedded, "Part"))
    shape = draw(st.sampled_from(["one", "union", "family", "below"]))
    if shape == "one":
        return _embedded([first], first)
    if shape == "union":
        return _embedded([first, draw(_classes(depth - 1, Embedded, "Part"))], None)
    second = draw(_classes(depth - 1, first.cls, "Sub"))
    third = draw(_classes(0, second.cls, "Below"))
    return (
        _embedded([first, second, third], first) if shape == "family" else _embedded([second, third], None, second.cls)
    )


def _vector(dim: int) -> Kind:
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return Kind(
        np.ndarray | None,
        st.none() | hnp.arrays(np.float32, dim, elements=numbers),
        lambda value: None if value is None else Binary(b"\x27\x00" + value.astype("<f4").tobytes(), 9),
        setting=lambda name: vector(dim, name=name),
    )


@st.composite
def document_classes(draw: Draw) -> Made:
    """A document class with a key of some type, a vector at times, and fields nested up to three deep."""
    kinds: dict[str, Kind] = {}
    compound = {"a": _scalar(int, ints, _same, ""), "b": _scalar(dt.date, st.dates(), _midnight, "")}
    scalars = [kind for kind in SCALARS if kind.annotation in (ObjectId, str, int, UUID, dt.date, bytes, Decimal)]
    if draw(st.booleans()):
        kinds["key"] = draw(st.sampled_from(scalars) | st.just(_typed_dict(compound, {"c": compound["a"]})))
    if draw(st.booleans()):
        kinds["vector"] = _vector(draw(st.integers(1, 4)))
    made: Made = draw(_classes(3, Document, "Root", kinds))
    if "key" not in kinds:
        made.kinds["id"], made.stored["id"] = SCALARS[13], "_id"
    return made
