"""Declarations of relationships, and relationships of objects that no session knows."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from superorm import (
    Document,
    Embedded,
    Mapped,
    MappingError,
    NotLoadedError,
    ObjectId,
    Registry,
    Select,
    StatementError,
    field,
    joinedload,
    relationship,
    select,
    selectinload,
)
from superorm.codec import documents
from superorm.schema.json_schema import json_schema
from superorm.schema.mapping import class_map

registry = Registry()


class Base(Document, registry=registry):
    __abstract__ = True

    editor_id: Mapped[ObjectId | None] = field(default=None)
    editor: Mapped[Writer | None] = relationship("Writer", key="editor_id")


class Book(Base, registry=registry):
    title: Mapped[str] = field(default="")
    writer_id: Mapped[ObjectId | None] = field(default=None)
    writer: Mapped[Writer | None] = relationship("Writer", key="writer_id")


class Novel(Book, registry=registry):
    pass


class Writer(Document, registry=registry):
    books: Mapped[list[Book]] = relationship(list["Book"], remote_key="writer_id")
    rival_id: Mapped[ObjectId | None] = field(default=None)
    rival: Mapped[Writer | None] = relationship("Writer", key="rival_id")


def test_nothing_is_stored() -> None:
    """Neither in documents nor in the schema; the repr leaves it out, too."""
    writer = Writer()
    book = Book(title="x", writer=writer)
    writer.books.append(book)
    assert {"_id", "title", "writer_id", "editor_id"} == documents.dump(class_map(Book), book).keys()
    assert "'writer_id'" in repr(json_schema(class_map(Book)))
    assert "'writer'" not in repr(json_schema(class_map(Book)))
    assert "writer=" not in repr(book)


def test_new_objects() -> None:
    """A list is empty, a reference without a key is None, and one with a key is not loaded."""
    assert [] == Writer().books
    assert Writer().books is not Writer().books
    assert Book().writer is None
    writer = Writer()
    assert writer is Novel(writer=writer, editor=writer).editor
    with pytest.raises(NotLoadedError, match=r"selectinload\(Novel.writer\)"):
        _ = Novel(writer_id=writer.id).writer
    with pytest.raises(TypeError, match="nobody"):
        Book(nobody=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert {"title", "writer", "editor", "writer_id"} <= inspect.signature(Novel).parameters.keys()


def test_own_init() -> None:
    """A class with an ``__init__`` of its own has the lists all the same."""

    class Own(Document, registry=Registry()):
        other_id: Mapped[ObjectId | None] = field(default=None)
        others: Mapped[list[Own]] = relationship(list["Own"], remote_key="other_id")

        def __init__(self) -> None:
            self.id = ObjectId()
            self.other_id = None

    own = Own()
    assert own.others is own.others
    assert [] == own.others


def test_targets() -> None:
    """Names are found in either order, of the class itself, and of classes that were defined again."""
    relations = class_map(Novel).relationships
    assert {"editor", "writer"} == relations.keys()
    assert Writer is relations["editor"].target.cls
    assert Writer is class_map(Writer).relationships["rival"].target.cls
    mine = Registry()

    def define() -> type[Document]:
        class Other(Document, registry=mine):
            pass

        return Other

    first = define()

    class One(Document, registry=mine):
        other_id: Mapped[ObjectId]
        other: Mapped[Document] = relationship(first, key="other_id")
        named: Mapped[Document] = relationship("Other", key="other_id")

    assert [first, first] == [relation.target.cls for relation in class_map(One).relationships.values()]
    second = define()
    assert [second, second] == [relation.target.cls for relation in class_map(One).relationships.values()]


def declared(*wrong: object) -> Callable[[], object]:
    """A function that declares a class with a relationship of these arguments, and asks for its target."""
    target, keywords = wrong[0], dict(wrong[1:])  # type: ignore[arg-type]

    def declare() -> object:
        class Wrong(Document, registry=Registry()):
            key_id: Mapped[ObjectId | None] = field(default=None)
            uuid: Mapped[UUID | None] = field(default=None)
            keys: Mapped[list[ObjectId]] = field(factory=list)
            other: Mapped[Writer | None] = relationship(target, **keywords)  # type: ignore[arg-type]

        return class_map(Wrong).relationships["other"].target

    return declare


class Part(Embedded):
    size: Mapped[int]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (declared(Writer), "give key=, or remote_key= of a list"),
        (declared(Writer, ("key", "key_id"), ("remote_key", "x")), "give key=, or remote_key= of a list"),
        (declared(list[Writer], ("key", "key_id")), "a list needs remote_key="),
        (declared(Writer, ("remote_key", "rival_id")), "remote_key= is for lists"),
        (declared(3, ("key", "key_id")), "give a document class"),
        (declared(Writer, ("key", "none")), "Wrong.other: key='none' is no field of Wrong"),
        (declared(list[Writer], ("remote_key", "none")), "remote_key='none' is no field of Writer"),
        (declared(Writer, ("key", "uuid")), "Wrong.uuid is UUID | None, which does not hold the keys of Writer"),
        (declared(Writer, ("key", "keys")), "which does not hold the keys of Writer"),
        (declared(Part, ("key", "key_id")), "is an Embedded"),
        (declared(int, ("key", "key_id")), "is no document class"),
        (declared("Nobody", ("key", "key_id")), "no class of its registry has the name 'Nobody'"),
        (declared(Writer, ("key", "key_id"), ("cascade", "save")), "save is none of"),
        (declared(Writer, ("key", "key_id"), ("cascade", "delete-orphan")), "delete-orphan is for lists"),
    ],
)
def test_wrong_declarations(wrong: Callable[[], object], message: str) -> None:
    """Each is refused with what to do."""
    with pytest.raises(MappingError) as raised:
        wrong()
    assert message in str(raised.value)


def test_wrong_places() -> None:
    """Embedded documents have none, and a name stands for one thing."""
    with pytest.raises(MappingError, match="an Embedded has no relationships"):

        class Inner(Embedded):  # pyright: ignore[reportUnusedClass]
            other_id: Mapped[ObjectId]
            other: Mapped[Writer] = relationship(Writer, key="other_id")

    with pytest.raises(MappingError, match=r"Twice.writer is a relationship and something else"):

        class Twice(Book, registry=registry):  # pyright: ignore[reportUnusedClass]
            writer: Mapped[str] = field(default="")  # type: ignore[assignment]

    with pytest.raises(MappingError, match=r"Bare.writer has no annotation"):

        class Bare(Document, registry=Registry()):  # pyright: ignore[reportUnusedClass]
            writer = relationship(Writer, key="id")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Book.writer == Writer(),
        lambda: Book.writer.desc(),
        lambda: Book.writer.id,  # type: ignore[attr-defined]
        lambda: select(Book).where(Book.writer),  # type: ignore[arg-type]
        lambda: select(Book).order_by(Book.writer),
        lambda: select(Book.writer),
    ],
)
def test_statements_take_the_key(wrong: Callable[[], object]) -> None:
    """Conditions, orders and select lists refuse it, and name the key."""
    with pytest.raises(StatementError, match=r"Book\.writer_id"):
        wrong()


def test_wrong_options() -> None:
    """Fields, chains that do not fit, and documents that are not selected."""
    with pytest.raises(StatementError, match="takes a relationship such as"):
        selectinload(Book.title)  # type: ignore[call-overload]
    with pytest.raises(StatementError, match="cannot follow"):
        selectinload(Book.writer).joinedload(Book.writer)  # type: ignore[call-overload]
    with pytest.raises(StatementError, match="documents of Writer, which are not selected"):
        select(Book).options(selectinload(Writer.books)).pipeline()  # type: ignore[arg-type]
    with pytest.raises(StatementError, match="which are not selected"):
        select(Book.title).options(selectinload(Book.writer)).pipeline()


def test_pipelines_and_round_trips() -> None:
    """A joined one stands in the pipeline; both survive pickling and storing."""
    statement = (
        select(Book)
        .where(Book.title == "x")
        .options(joinedload(Book.writer).joinedload(Writer.books), selectinload(Book.editor))
    )
    lookup, keys, inner = statement.pipeline()[1:]
    assert {"from": "writer", "localField": "writer_id", "foreignField": "_id"}.items() <= lookup["$lookup"].items()
    assert {"from": "book", "foreignField": "writer_id"}.items() <= inner["$lookup"].items()
    assert [*keys["$set"]] == [inner["$lookup"]["localField"]]
    for again in (pickle.loads(pickle.dumps(statement)), Select.from_dict(statement.to_dict(), registry=registry)):
        assert statement.pipeline() == again.pipeline()
        assert statement.to_dict() == again.to_dict()


def test_joins() -> None:
    """A relationship stands for its class and the condition on the key."""
    by_hand = select(Book).join(Writer, Book.writer_id == Writer.id).columns(Book.title, Writer.id)
    assert by_hand.pipeline() == select(Book).join(Book.writer).columns(Book.title, Writer.id).pipeline()
    lists = select(Writer).join(Book, Book.writer_id == Writer.id, outer=True)
    assert lists.pipeline() == select(Writer).join(Writer.books, outer=True).pipeline()


@pytest.mark.parametrize("strategy", ["selectin", "joined"])
def test_long_options(strategy: str) -> None:
    """An option goes through a hundred relationships, and no further: else the pipeline would be too long."""
    data: dict[str, Any] = json.loads(json.dumps(select(Writer).options(joinedload(Writer.rival)).to_dict()))
    (node,) = [node for node in data["nodes"] if node["node"] == "Load"]
    ((_, related),) = node["hops"]
    node["hops"] = [[strategy, related]] * 100
    assert data == Select.from_dict(data, registry=registry).to_dict()
    for number in (101, 50_000):
        node["hops"] = [[strategy, related]] * number
        with pytest.raises(StatementError, match="100 relationships at most"):
            Select.from_dict(data, registry=registry)


def test_abstract_classes() -> None:
    """A relationship of one stands for that of the class that is selected; elsewhere it is refused."""
    by_class = select(Book).options(joinedload(Book.editor).joinedload(Writer.books))
    by_base = select(Book).options(joinedload(Base.editor).joinedload(Writer.books))
    assert by_class.pipeline() == by_base.pipeline()
    for again in (pickle.loads(pickle.dumps(by_base)), Select.from_dict(by_base.to_dict(), registry=registry)):
        assert by_base.pipeline() == again.pipeline()
    with pytest.raises(StatementError, match="abstract class"):
        select(Writer).options(selectinload(Base.editor)).pipeline()  # type: ignore[arg-type]
    with pytest.raises(StatementError, match=r"Base\.editor is of an abstract class"):
        select(Book).join(Base.editor)
    with pytest.raises(StatementError, match="editor_id"):
        _ = Base.editor == Writer()
    with pytest.raises(AttributeError, match="nothing"):
        Base.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_cascades() -> None:
    """The words of SQLAlchemy, and `all` for all but orphans."""
    spec: Any = relationship("Book", key="id")
    assert {"save-update", "merge"} == spec.cascade
    spec = relationship(list["Book"], remote_key="id", cascade="all, delete-orphan")
    assert {"save-update", "merge", "refresh-expire", "expunge", "delete", "delete-orphan"} == spec.cascade
    spec = relationship("Book", key="id", cascade="")
    assert not spec.cascade
