"""What listeners listen to: the documents of a select, or the outputs of another listener."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import bson
from attrs import define, frozen

from superorm.codec.outputs import output_of
from superorm.compile.plan import Find
from superorm.components.base import Named
from superorm.components.outputs import OUTPUTS, all_outputs, among
from superorm.exc import ConfigurationError, StatementError, UnsupportedError
from superorm.expr.kinds import is_field
from superorm.expr.narrow import is_dict, is_list
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Select, select
from superorm.schema.mapping import ClassMap, class_map
from superorm.schema.vector_fields import vector_fields
from superorm.schema.vector_spec import meet
from superorm.unitofwork.encode import CODEC_OPTIONS

if TYPE_CHECKING:
    from superorm.compile.compiler import CompiledSelect

__all__ = ["Documents", "Listened", "Outputs", "Source"]

_JOINED = frozenset({"$and", "$or", "$nor"})


@frozen
class Source:
    """What is read for one document: its stored key, what the model is given, and the hash of what is stored."""

    key: Any
    value: Any
    hash: bytes


class Listened(Protocol):
    """Where the sources of a listener are found."""

    @property
    def mapping(self) -> ClassMap:
        """The class of the documents whose keys the outputs have."""
        ...

    @property
    def collection(self) -> str:
        """What is read."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The stored names at the top of what is read that the outputs depend on."""
        ...

    def find(self, backend: str) -> Find:
        """The read of all."""
        ...

    def find_among(self, keys: Sequence[Any]) -> Find:
        """The same for the documents with these stored keys."""
        ...

    def key_of(self, found: Mapping[str, Any]) -> Any:
        """The stored key of the document that what was read belongs to."""
        ...

    def sources(self, found: Sequence[Mapping[str, Any]]) -> list[Source]:
        """What was read, without None.

        Raises `ValidationError` where a stored value does not fit.
        """
        ...


@frozen
class Outputs:
    """The outputs of another listener."""

    named: Named
    """That listener, with its version."""
    mapping: ClassMap
    collection = OUTPUTS
    fields = ("output", "form")

    def find(self, backend: str) -> Find:
        return Find(OUTPUTS, all_outputs(self.named, backend), {"output": 1, "form": 1})

    def find_among(self, keys: Sequence[Any]) -> Find:
        return Find(OUTPUTS, among(self.named, keys), {"output": 1, "form": 1})

    def key_of(self, found: Mapping[str, Any]) -> Any:
        return found["_id"]["key"]

    def sources(self, found: Sequence[Mapping[str, Any]]) -> list[Source]:
        return [Source(self.key_of(one), output_of(one), _hash(one)) for one in found if one.get("output") is not None]


@define(eq=False, slots=False)
class Documents:
    """A field of the documents that a select finds.

    Raises `ConfigurationError` for a select, or a key, that cannot be told from one document alone.
    """

    select: Select[Any, Any]
    key: Any
    where: str
    """The listener, for messages."""

    def __attrs_post_init__(self) -> None:
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        owner = self.key._owner if is_field(self.key) else None  # pyright: ignore[reportPrivateUsage]
        if not (isinstance(owner, type) and issubclass(cls, owner)):
            self._refuse(f"its key is a field of {cls.__name__}, such as {cls.__name__}.id, not {short_repr(self.key)}")
        try:
            read = self.compiled.read
            Select.from_dict(self.select.to_dict())
            select(self.key).to_dict()
        except (StatementError, UnsupportedError) as error:
            raise ConfigurationError(f"{self.where}: {error}") from error
        if not isinstance(read, Find) or read.sort or read.skip or read.limit:
            self._refuse(
                "whether a document is listened to, and its key, must be told from that document alone: its select may "
                "have conditions, which find() can answer, and neither order nor limit; its key is no element of a list"
            )
        for path in _paths_of(read.filter):
            if path.startswith("$"):
                self._refuse(f"conditions with {path} are not followed")
        computed = [one for one in vector_fields(self.mapping) if one.source is not None]
        for one in computed:
            if any(meet(one.spec.path, path) for path in (self.path, *_paths_of(read.filter))):
                self._refuse(f"{one.attribute} is computed itself; listen to its source")

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigurationError(f"{self.where}: {why}")

    @property
    def mapping(self) -> ClassMap:
        """The class of the documents."""
        cls: Any = self.select._entities[0]  # pyright: ignore[reportPrivateUsage]
        return class_map(cls)

    @property
    def collection(self) -> str:
        """The collection of the documents."""
        return str(self.mapping.collection)

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
            self._refuse("its select has conditions only: no joins, groups, distinct, like() or stages")
        chosen: Any = select(self.key)
        statement: Any = chosen.select_from(self.mapping.cls)  # which may inherit its key
        ordered = self.select._order_by or self.select._offset or self.select._limit  # pyright: ignore[reportPrivateUsage]
        if ordered:
            self._refuse("its select has conditions only: neither order nor limit")
        statement = statement.where(*where) if where else statement
        return compile_select(statement)

    @cached_property
    def _find(self) -> Find:
        plain = self.compiled.find
        shown = {} if self._is_key else plain.projection or {}
        return Find(plain.collection, plain.filter, {**shown, "_id": 1})

    def find(self, backend: str) -> Find:
        """The read of the documents' keys and sources."""
        return self._find

    def find_among(self, keys: Sequence[Any]) -> Find:
        """The same of the documents with these stored keys."""
        among = {"_id": {"$in": list(keys)}}
        filter = {"$and": [among, self._find.filter]} if self._find.filter else among
        return Find(self._find.collection, filter, self._find.projection)

    @property
    def fields(self) -> tuple[str, ...]:
        """The stored names at the top of documents that the outputs depend on."""
        paths = (self.path, *_paths_of(self._find.filter))
        return tuple(sorted({path.partition(".")[0] for path in paths}))

    def key_of(self, found: Mapping[str, Any]) -> Any:
        """The document's own."""
        return found["_id"]

    def sources(self, found: Sequence[Mapping[str, Any]]) -> list[Source]:
        """What the read gave; without documents whose key field is None.

        Raises `ValidationError` where a stored value does not fit.
        """
        from superorm.unitofwork.rows import rows_of

        documents: Any = found
        rows = rows_of(self.compiled, documents, None, _no_documents)
        return [
            Source(document["_id"], row[0], _hash(document, of_key=self._is_key))
            for document, row in zip(found, rows, strict=True)
            if row[0] is not None
        ]

    @property
    def _is_key(self) -> bool:
        """Whether the model is given the documents' primary key, or a part of it."""
        return self.path.partition(".")[0] == "_id"


def _no_documents(*_: object) -> NoReturn:
    raise AssertionError("only fields are read")


def _hash(document: Mapping[str, Any], *, of_key: bool = False) -> bytes:
    stored = {**document}
    if not of_key:
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
            if expression.startswith(("$$ROOT", "$$CURRENT", "$$NOW", "$$CLUSTER_TIME", "$$USER_ROLES")):
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
