"""Unions of embedded classes, and embedded subclasses: told apart by the discriminator."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
from bson import ObjectId

from superorm import Document, Embedded, Mapped, MappingError, Registry, StatementError, ValidationError, field
from superorm.codec.documents import dump
from superorm.schema.mapping import class_map
from tests.schema.helpers import apply, change_of, document_class, load_one, store

KEY = ObjectId()


class Circle(Embedded):
    radius: Mapped[float] = field(name="r")
    name: Mapped[str] = field(default="")


class Square(Embedded):
    __extra__ = "forbid"

    radius: Mapped[float] = field(name="r")
    name: Mapped[str] = field(default="")


class Shape(Embedded):
    name: Mapped[str] = field(default="")


class Round(Shape):
    radius: Mapped[float] = field(default=1.0)


class Ellipse(Round):
    __extra__ = "forbid"

    other: Mapped[float] = field(default=2.0)


class Line(Shape):
    parts: Mapped[list[Shape]] = field(factory=list)
    name: Mapped[str] = field(default="line")


class Drawing(Document, registry=Registry()):
    one: Mapped[Circle | Square | None] = field(default=None)
    many: Mapped[list[Circle | Square]] = field(factory=list)
    mixed: Mapped[dict[str, Circle | int | Square | str]] = field(factory=dict)
    shape: Mapped[Shape | None] = field(default=None)
    shapes: Mapped[list[Shape]] = field(factory=list)
    circle: Mapped[Circle | None] = field(default=None)
    ring: Mapped[Round | None] = field(default=None)
    union: Mapped[Round | Circle | None] = field(default=None)


def stored_of(**values: Any) -> dict[str, Any]:
    """The named fields as they are stored."""
    stored = store(Drawing(**values))
    return {name: stored[name] for name in values}


def test_unions() -> None:
    """Members of a union are stored with their class's name, first, also where their fields are the same."""
    values = {
        "one": Square(radius=1.0),
        "many": [Circle(radius=2.0), Square(radius=3.0, name="x")],
        "mixed": {"a": Circle(radius=4.0), "b": 5, "c": "x"},
        "union": Ellipse(),
    }
    expected = {
        "one": {"_type": "Square", "r": 1.0, "name": ""},
        "many": [{"_type": "Circle", "r": 2.0, "name": ""}, {"_type": "Square", "r": 3.0, "name": "x"}],
        "mixed": {"a": {"_type": "Circle", "r": 4.0, "name": ""}, "b": 5, "c": "x"},
        "union": {"_type": "Ellipse", "name": "", "radius": 1.0, "other": 2.0},
    }
    stored = stored_of(**values)
    assert expected == stored
    assert "_type" == next(iter(stored["one"]))
    again = load_one(Drawing, stored)
    for name, value in values.items():
        assert value == getattr(again, name)
    assert change_of(class_map(Drawing), again) is None


def test_subclasses() -> None:
    """They are stored with their names; the class at the top is not."""
    values = {
        "shape": Ellipse(name="e", other=3.0),
        "shapes": [Shape(name="s"), Round(), Line(parts=[Shape(), Line()])],
        "ring": Round(radius=5.0),
    }
    inner = {"_type": "Line", "name": "line", "parts": []}
    expected = {
        "shape": {"_type": "Ellipse", "name": "e", "radius": 1.0, "other": 3.0},
        "shapes": [
            {"name": "s"},
            {"_type": "Round", "name": "", "radius": 1.0},
            {"_type": "Line", "name": "line", "parts": [{"name": ""}, inner]},
        ],
        "ring": {"_type": "Round", "name": "", "radius": 5.0},
    }
    stored = stored_of(**values)
    assert expected == stored
    again = load_one(Drawing, stored)
    for name, value in values.items():
        assert value == getattr(again, name)
    assert [Shape, Round, Line] == [type(shape) for shape in again.shapes]
    assert change_of(class_map(Drawing), again) is None
    assert isinstance(again.shape, Shape)


def test_as_others_write_them() -> None:
    """The class at the top may be named, and the declared class need not be, until it is changed."""
    expected = {"$set": {"shape.name": "b", "ring.name": "b", "ring._type": "Round"}}
    raw = {"shape": {"name": "a", "_type": "Shape"}, "ring": {"name": "a", "radius": 2.0}}
    drawing = load_one(Drawing, raw)
    assert (Shape(name="a"), Round(name="a", radius=2.0)) == (drawing.shape, drawing.ring)
    assert change_of(class_map(Drawing), drawing) is None
    drawing.shape.name = drawing.ring.name = "b"
    assert expected == change_of(class_map(Drawing), drawing).update  # type: ignore[union-attr]


def test_a_class_without_relatives_has_no_discriminator() -> None:
    """A key of that name is one of those that it does not map."""
    drawing = load_one(Drawing, {"circle": {"_type": "whatever", "r": 1.0, "name": ""}})
    assert Circle(radius=1.0) == drawing.circle
    drawing.circle.name = "x"
    assert {"$set": {"circle.name": "x"}} == change_of(class_map(Drawing), drawing).update  # type: ignore[union-attr]


def test_changes() -> None:
    """Another class with the same fields is a change; an equal value in another place is none."""
    raw = store(Drawing(one=Circle(radius=1.0), many=[Circle(radius=2.0)], shape=Round()))
    drawing, other = load_one(Drawing, raw), load_one(Drawing, raw)
    other.one, other.many, other.shape = Circle(radius=1.0), [copy.deepcopy(drawing.many[0])], Round()
    assert change_of(class_map(Drawing), other) is None
    drawing.one = Square(radius=1.0)
    drawing.many[0] = Square(radius=2.0)
    drawing.shape.radius = 3.0
    change = change_of(class_map(Drawing), drawing)
    assert change is not None
    assert {
        "$set": {
            "one._type": "Square",
            "many": [{"_type": "Square", "r": 2.0, "name": ""}],
            "shape.radius": 3.0,
        }
    } == change.update
    assert Square(radius=1.0) == load_one(Drawing, apply(raw, change.update)).one
    drawing = load_one(Drawing, raw)
    drawing.shape = Shape()
    assert {"$unset": {"shape._type": "", "shape.radius": ""}} == change_of(class_map(Drawing), drawing).update  # type: ignore[union-attr]


def test_moved_values() -> None:
    """A value read in one field and put into another is stored as that one needs it."""
    drawing = load_one(Drawing, {"circle": {"r": 1.0, "name": "", "more": 1}, "many": [{"_type": "Circle", "r": 2.0}]})
    drawing.one, drawing.circle = drawing.circle, drawing.many[0]
    change = change_of(class_map(Drawing), drawing)
    assert change is not None
    updated = apply(drawing._superorm_raw, change.update)
    assert {"_type": "Circle", "r": 1.0, "name": "", "more": 1} == updated["one"]
    again = load_one(Drawing, updated)
    assert (Circle(radius=1.0), Circle(radius=2.0)) == (again.one, again.circle)


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        (
            {"one": {"r": 1.0}},
            "one",
            "expected Circle | Square, which the key '_type' has to tell, got dict {'r': 1.0}",
        ),
        ({"one": {"_type": "Oval"}}, "one._type", "expected the name of a class, Circle or Square, got str 'Oval'"),
        ({"many": [{"_type": "Circle", "r": 1.0}, {"_type": None}]}, "many.1._type", "got NoneType None"),
        ({"mixed": {"a": {"_type": ["Circle"]}}}, "mixed.a._type", "Circle or Square, got list ['Circle']"),
        ({"mixed": {"a": {"_type": "Circle", "r": "x"}}}, "mixed.a.r", "expected float, got str 'x'"),
        ({"shape": {"_type": "Circle"}}, "shape._type", "Shape or Round or Ellipse or Line, got str 'Circle'"),
        ({"shapes": [{"_type": 5}]}, "shapes.0._type", "Shape or Round or Ellipse or Line, got int 5"),
        ({"ring": {"_type": "Shape"}}, "ring._type", "expected the name of a class, Round or Ellipse, got str 'Shape'"),
        ({"shape": {"_type": "Ellipse", "new": 1}}, "shape.new", "Ellipse has no key 'new'"),
        ({"one": {"_type": "Square", "r": 1.0, "new": 1}}, "one.new", "Square has no key 'new'"),
        ({"union": {"_type": "Line"}}, "union._type", "a class, Round or Circle or Ellipse, got str 'Line'"),
    ],
)
def test_refused_at_reading(raw: dict[str, Any], path: str, message: str) -> None:
    """An unknown name is an error that names document, field and value."""
    with pytest.raises(ValidationError) as raised:
        getattr(load_one(Drawing, {"_id": KEY, **raw}), next(iter(raw)))
    assert f"Drawing {KEY!r}: the stored value of {path} does not fit: " in str(raised.value)
    assert message in str(raised.value)
    assert (Drawing, KEY, path) == (raised.value.document_class, raised.value.key, raised.value.field)


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"one": Shape()}, "one", "expected Circle | Square, got Shape"),
        ({"one": {"_type": "Circle", "r": 1.0}}, "one", "expected Circle | Square, got dict"),
        ({"many": [Circle(radius=1.0), None]}, "many.1", "expected Circle | Square, got NoneType None"),
        ({"many": [Circle(radius=1.0), Square(radius="x")]}, "many.1.radius", "expected float, got str 'x'"),  # type: ignore[arg-type]
        ({"shape": Circle(radius=1.0)}, "shape", "expected Shape, got Circle"),
        ({"ring": Shape()}, "ring", "expected Round, got Shape"),
        ({"shapes": [Line(parts=[Ellipse(other="x")])]}, "shapes.0.parts.0.other", "expected float, got str 'x'"),  # type: ignore[arg-type]
    ],
)
def test_refused_at_flush(values: dict[str, Any], path: str, message: str) -> None:
    """An object of another class is refused."""
    with pytest.raises(ValidationError) as raised:
        dump(class_map(Drawing), Drawing(**values))
    assert message in str(raised.value)
    assert path == raised.value.field


def test_another_key() -> None:
    """``__discriminator__`` changes the key, and is inherited."""

    class Animal(Embedded):
        __discriminator__ = "kind"

        name: Mapped[str]

    class Dog(Animal):
        tricks: Mapped[int] = field(default=0)

    class Cat(Embedded):
        __discriminator__ = "kind"

        name: Mapped[str]

    zoo = document_class("Zoo", animal=Animal, pets=list[Dog | Cat])
    stored = store(zoo(animal=Dog(name="a"), pets=[Dog(name="b"), Cat(name="c")]))
    assert {"kind": "Dog", "name": "a", "tricks": 0} == stored["animal"]
    assert [{"kind": "Dog", "name": "b", "tricks": 0}, {"kind": "Cat", "name": "c"}] == stored["pets"]
    again = load_one(zoo, stored)
    assert (Dog(name="a"), [Dog(name="b"), Cat(name="c")]) == (again.animal, again.pets)
    with pytest.raises(MappingError, match=r"Holder\.x: Cat and Circle have different keys in __discriminator__"):
        document_class(x=Cat | Circle)
    with pytest.raises(MappingError, match="Odd, a subclass of Animal: __discriminator__ must be the same, 'kind'"):

        class Odd(Animal):
            __discriminator__ = "other"


def test_classes_that_cannot_be_told_apart() -> None:
    """Two of one name, and fields stored under the discriminator."""

    class Typed(Embedded):
        kind: Mapped[str] = field(name="_type")

    with pytest.raises(MappingError, match=r"Holder\.x: Typed has a field stored under '_type', the key that names"):
        document_class(x=Typed | Circle)
    with pytest.raises(MappingError, match=r"Sub, a subclass of Typed: Sub has a field stored under '_type'"):

        class Sub(Typed):
            pass

    with pytest.raises(MappingError, match=r"Named, a subclass of Shape: Named has a field stored under '_type'"):

        class Named(Shape):
            kind: Mapped[str] = field(name="_type")

    mine = Circle

    def other() -> Any:
        class Circle(Embedded):
            pass

        return mine | Circle

    with pytest.raises(MappingError, match=r"Holder\.x: two classes of Circle \| Circle have the same name"):
        document_class(x=other())
    with pytest.raises(
        MappingError, match=r"Round, a subclass of Shape: another class of that name is there, .*Round;"
    ):
        type(Shape)("Round", (Shape,), {"__module__": __name__, "__qualname__": "elsewhere.Round"})
    for key in ("", "$x", "a.b", 5):
        with pytest.raises(MappingError, match="cannot be a stored key"):
            type(Embedded)("Base", (Embedded,), {"__module__": __name__, "__discriminator__": key})


def test_a_subclass_defined_again_replaces_the_old_one() -> None:
    """So that notebooks work."""

    class Base(Embedded):
        pass

    def define(default: int) -> Any:
        class Again(Base):
            n: Mapped[int] = field(default=default)

        return Again

    old, new = define(1), define(2)
    holder = document_class(x=Base)
    again = load_one(holder, store(holder(x=new()))).x
    assert (new, 2) == (type(again), again.n)
    with pytest.raises(ValidationError, match="expected Base, got Again"):
        store(holder(x=old()))


def test_inherited_fields() -> None:
    """Base fields come first, own ones may replace them; abstract classes in between count."""

    class Middle(Shape):
        __abstract__ = True

        m: Mapped[int] = field(default=0)

    class Leaf(Middle):
        name: Mapped[str] = field(default="leaf", name="n")

    class Deep(Leaf):
        pass

    assert ["name", "m"] == [part.attribute for part in class_map(Leaf).fields]
    assert repr(Leaf()).endswith("Leaf(name='leaf', m=0)")
    assert {"_type": "Deep", "n": "leaf", "m": 0} == stored_of(shape=Deep())["shape"]
    assert Leaf() != Deep()


def test_members_in_statements() -> None:
    """Fields of all members can be reached; where their keys differ, the class has to be named."""

    class Cube(Embedded):
        radius: Mapped[float] = field(name="rr")
        edge: Mapped[float]

    class Solid(Shape):
        volume: Mapped[float] = field(name="v")

    world = document_class("World", shape=Circle | Cube | None, shapes=list[Shape], named=dict[str, Shape])
    assert ("shape.edge", "shapes.v") == (world.shape.edge._path, world.shapes.volume._path)
    assert ("shape.r", "shape.rr") == (world.shape[Circle.radius]._path, world.shape[Cube.radius]._path)
    assert ("shapes.v", "shapes.name") == (world.shapes[Solid.volume]._path, world.shapes[Shape.name]._path)
    for field_of_another in (Square.radius, Solid.volume, Drawing.one):
        with pytest.raises(StatementError, match=r"World\.shape has no"):
            world.shape[field_of_another]
    with pytest.raises(
        StatementError,
        match=r"Circle\.radius is stored under 'r' and Cube\.radius under 'rr'; write \[Circle\.radius\]",
    ):
        world.shape.radius  # noqa: B018
    with pytest.raises(AttributeError, match="has no field 'nothing'; it has radius, name, edge"):
        world.shape.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="Shape has no field 'nothing'; it has name"):
        world.shapes.nothing  # noqa: B018


def test_objects_in_statements() -> None:
    """An embedded object stands in a statement as its field stores it."""
    circle = {"r": 1.0, "name": ""}
    named = {"_type": "Circle", **circle}
    conditions: list[tuple[Any, Any]] = [
        (Drawing.one == Circle(radius=1.0), named),
        (Drawing.one.in_([Circle(radius=1.0), None]), [named, None]),
        (Drawing.many.contains(Circle(radius=1.0)), named),  # type: ignore[arg-type]
        (Drawing.mixed["a"] == Circle(radius=1.0), named),
        (Drawing.circle == Circle(radius=1.0), circle),
        (Drawing.shape == Round(), {"_type": "Round", "name": "", "radius": 1.0}),
        (Drawing.ring == Round(), {"_type": "Round", "name": "", "radius": 1.0}),
        (Drawing.shape == Shape(), {"name": ""}),
        (Drawing.one == {"r": 1.0, "name": ""}, circle),
    ]
    for condition, value in conditions:
        assert value == condition.right
        if isinstance(value, dict):
            assert list(value) == list(condition.right)
    assert named == Drawing.one.to(Circle(radius=1.0)).value
    assert [named] == Drawing.many.push(Circle(radius=1.0)).value


def test_pickles_and_copies() -> None:
    """Objects of subclasses pickle and copy."""
    drawing = load_one(Drawing, store(Drawing(shape=Ellipse(name="e"), many=[Square(radius=1.0)])))
    assert drawing.shape == pickle.loads(pickle.dumps(drawing.shape)) == copy.deepcopy(drawing.shape)
    again = pickle.loads(pickle.dumps(drawing))
    assert (Ellipse(name="e"), [Square(radius=1.0)]) == (again.shape, again.many)
    assert change_of(class_map(Drawing), again) is None


class Tree(Embedded):
    n: Mapped[int]
    child: Mapped[Tree | None] = field(default=None)
    children: Mapped[list[Tree]] = field(factory=list)
    later: Mapped[int] = field(default=0)


class Forest(Document, registry=Registry()):
    tree: Mapped[Tree]


def deep(depth: int, leaf: Any = 1) -> Tree:
    """A tree of so many levels, turn by turn by child and children."""
    tree = Tree(n=leaf)
    for level in range(depth - 1):
        tree = Tree(n=level, children=[tree]) if level % 2 else Tree(n=level, child=tree)
    return tree


def test_deep_trees_take_no_longer_than_they_are_deep() -> None:
    """Converting, comparing and refusing are linear, also where keys are missing."""
    path = ["tree"]
    for level in reversed(range(49)):
        path += ["children", "0"] if level % 2 else ["child"]
    with pytest.raises(ValidationError) as raised:
        dump(class_map(Forest), Forest(tree=deep(50, leaf="x")))
    assert ".".join([*path, "n"]) == raised.value.field

    raw: dict[str, Any] = {"n": 1}
    for level in range(49):
        raw = {"n": level, "children": [raw]} if level % 2 else {"n": level, "child": raw}
    forest = load_one(Forest, {"tree": raw})
    assert deep(50) == forest.tree
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        assert change_of(class_map(Forest), forest) is None
    finally:
        sys.setprofile(None)
    assert calls < 50 * 20
    tree = forest.tree
    while tree.child or tree.children:
        tree = tree.child or tree.children[0]
    tree.n = 7
    assert change_of(class_map(Forest), forest).update["$set"].keys() <= {"tree.child", "tree.child.children"}  # type: ignore[union-attr]
    tree.n = "x"
    with pytest.raises(ValidationError) as raised:
        change_of(class_map(Forest), forest)
    assert ".".join([*path, "n"]) == raised.value.field

    bad: dict[str, Any] = {"n": "x"}
    for level in range(49):
        bad = {"n": level, "children": [bad]} if level % 2 else {"n": level, "child": bad}
    with pytest.raises(ValidationError) as raised:
        load_one(Forest, {"tree": bad}).tree  # noqa: B018
    assert ".".join([*path, "n"]) == raised.value.field
