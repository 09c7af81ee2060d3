"""A listener: a model's outputs for the documents of a select, kept equal to these."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import bson
from attrs import Attribute, define, field, frozen

from superorm.compile.plan import Find
from superorm.components.base import Child, Component, Named, check_text
from superorm.components.model import Model
from superorm.exc import ConfigurationError, StatementError, UnsupportedError
from superorm.expr.kinds import is_field, is_select
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Select, select
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.vector_fields import vector_fields
from superorm.schema.vector_spec import meet
from superorm.unitofwork.encode import CODEC_OPTIONS

if TYPE_CHECKING:
    from superorm.compile.compiler import CompiledSelect

__all__ = ["Listener", "Source"]

_JOINED = frozenset({"$and", "$or", "$nor"})


@frozen
class Source:
    """What is read of one document: its stored key, what the model is given, and the hash of what is stored."""

    key: Any
    value: Any
    hash: bytes


def _check_model(listener: Listener, _: Attribute[Any], model: object) -> None:
    if not isinstance(model, Model):
        check_text("model", model)


def _check_select(listener: Listener, _: Attribute[Any], given: object) -> None:
    if not is_select(given):
        raise ConfigurationError(f"{listener!r} listens to a select, not to {short_repr(given)}")
    entities = given._entities  # pyright: ignore[reportPrivateUsage]
    options = given._options  # pyright: ignore[reportPrivateUsage]
    if len(entities) != 1 or not isinstance(entities[0], type) or options:
        listener.refuse(f"{given!r} does not give whole documents of one class; write select(Movie), with any where()")


@define(eq=False, slots=False, repr=False)
class Listener(Component):
    """The outputs of a model for one field of each document that a select finds, kept equal to the documents.

    `model` is the name of one that was added, or a `Model`, which is added with it;
    the version that is the newest then is the listener's.
    `select` is of one class, with conditions on the documents' own fields; `key` is a field of that class.
    A document in which that is None has no output.

    Raises `ConfigurationError` for a select, or a key, that cannot be told from one document alone.
    """

    kind: ClassVar[str] = "listener"

    model: Model | str = field(kw_only=True, validator=_check_model)
    select: Select[Any, Any] = field(kw_only=True, validator=_check_select)
    key: Any = field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._check()

    def refuse(self, why: str) -> NoReturn:
        """Raise `ConfigurationError`."""
        raise ConfigurationError(f"{self!r}: {why}")

    def _check(self) -> None:
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        owner = self.key._owner if is_field(self.key) else None  # pyright: ignore[reportPrivateUsage]
        if not (isinstance(owner, type) and issubclass(cls, owner)):
            self.refuse(f"its key is a field of {cls.__name__}, such as {cls.__name__}.id, not {short_repr(self.key)}")
        try:
            read = self.compiled.read
            Select.from_dict(self.select.to_dict())
            select(self.key).to_dict()
        except (StatementError, UnsupportedError) as error:
            raise ConfigurationError(f"{self!r}: {error}") from error
        if not isinstance(read, Find) or read.sort or read.skip or read.limit:
            self.refuse(
                "whether a document is listened to, and its key, must be told from that document alone: its select may "
                "have conditions, which find() can answer, and neither order nor limit; its key is no element of a list"
            )
        for path in _paths_of(read.filter):
            if path.startswith("$"):
                self.refuse(f"conditions with {path} are not followed")
        computed = [one for one in vector_fields(self.mapping) if one.source is not None]
        for one in computed:
            if any(meet(one.spec.path, path) for path in (self.path, *_paths_of(read.filter))):
                self.refuse(f"{one.attribute} is computed itself; listen to its source")

    @property
    def mapping(self) -> ClassMap:
        """The class of the documents."""
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        return class_map(cls)

    @property
    def path(self) -> str:
        """The stored path of the key."""
        return str(self.key._path)

    @cached_property
    def compiled(self) -> CompiledSelect:
        """What the model is given."""
        from superorm.compile.compiler import compile_select  # which programs without listeners load later

        where = self.select._where  # pyright: ignore[reportPrivateUsage]
        rest = [self.select._joins, self.select._group_by, self.select._having, self.select._closed]  # pyright: ignore[reportPrivateUsage]
        if any(rest) or self.select._distinct:  # pyright: ignore[reportPrivateUsage]
            self.refuse("its select has conditions only: no joins, groups, distinct, like() or stages")
        chosen: Any = select(self.key)
        statement: Any = chosen.select_from(self.mapping.cls)  # which may inherit its key
        ordered = self.select._order_by or self.select._offset or self.select._limit  # pyright: ignore[reportPrivateUsage]
        if ordered:
            self.refuse("its select has conditions only: neither order nor limit")
        statement = statement.where(*where) if where else statement
        return compile_select(statement)

    @cached_property
    def find(self) -> Find:
        """The read of the documents' keys and sources."""
        plain = self.compiled.find
        return Find(plain.collection, plain.filter, {**(plain.projection or {}), "_id": 1})

    def find_among(self, keys: Sequence[Any]) -> Find:
        """The same of the documents with these stored keys."""
        among = {"_id": {"$in": list(keys)}}
        filter = {"$and": [among, self.find.filter]} if self.find.filter else among
        return Find(self.find.collection, filter, self.find.projection)

    @property
    def fields(self) -> tuple[str, ...]:
        """The stored names at the top of documents that the outputs depend on."""
        paths = (self.path, *_paths_of(self.find.filter))
        return tuple(sorted({path.partition(".")[0] for path in paths}))

    def sources(self, found: Sequence[Mapping[str, Any]]) -> list[Source]:
        """What the read gave; without documents whose key field is None.

        Raises `ValidationError` where a stored value does not fit.
        """
        from superorm.unitofwork.rows import rows_of

        documents: Any = found
        rows = rows_of(self.compiled, documents, None, _no_documents)
        return [
            Source(document["_id"], row[0], _hash(document))
            for document, row in zip(found, rows, strict=True)
            if row[0] is not None
        ]

    @property
    def named_model(self) -> Named:
        """The model."""
        if isinstance(self.model, Model):
            return Named(Model.kind, self.model.name, self.model.version)
        return Named(Model.kind, self.model)

    @property
    def children(self) -> Sequence[Child]:
        """The model."""
        return (self.model if isinstance(self.model, Model) else self.named_model,)

    @property
    def params(self) -> dict[str, Any]:
        """The select and the key, as data."""
        return {"select": self.select.to_dict(), "key": select(self.key).to_dict()}

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The listener of what was stored. Raises `StatementError` where its class is not declared in this process."""
        (model,) = children
        assert isinstance(model, Model)
        key: Any = Select.from_dict(params["key"])._entities[0]  # pyright: ignore[reportPrivateUsage]
        return cls(name, model=model, select=Select.from_dict(params["select"]), key=key)


def _no_documents(*_: object) -> NoReturn:
    raise AssertionError("only fields are read")


def _hash(document: Mapping[str, Any]) -> bytes:
    stored = {**document}
    del stored["_id"]
    return hashlib.sha256(bson.encode(stored, codec_options=CODEC_OPTIONS)).digest()[:16]


def _paths_of(filter: Any) -> Iterator[str]:
    """The stored paths that a filter looks at; operators beside them that are not known, as they are."""
    for name, condition in filter.items():
        if name in _JOINED:
            for part in condition:
                yield from _paths_of(part)
        elif name == "$expr":
            yield from _paths_in(condition)
        else:
            yield name


def _paths_in(expression: Any) -> Iterator[str]:
    if isinstance(expression, str):
        if expression.startswith("$$"):
            if expression.startswith(("$$ROOT", "$$CURRENT", "$$NOW")):
                yield expression
        elif expression.startswith("$"):
            yield expression[1:]
    elif is_dict(expression):
        for operator, value in expression.items():
            if operator == "$rand":
                yield operator
            elif operator != "$literal":
                yield from _paths_in(value)
    elif is_list(expression):
        for value in expression:
            yield from _paths_in(value)
