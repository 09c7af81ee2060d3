"""Indexes as classes declare them in ``__indexes__``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypeGuard, cast, get_args

from attrs import frozen

from superorm.exc import MappingError
from superorm.expr.base import Order
from superorm.expr.nodes import Field, Predicate
from superorm.schema.wildcards import WILDCARD

__all__ = [
    "KINDS",
    "WILDCARD",
    "Index",
    "IndexKey",
    "IndexKind",
    "Partial",
    "check_bool",
    "is_condition",
    "ttl_seconds",
]

IndexKind: TypeAlias = Literal["text", "hashed", "2dsphere"]
"""The kinds of indexes besides the ordered ones."""

Partial: TypeAlias = Predicate[Any] | Callable[[Any], Predicate[Any]]
"""A condition, or a function that makes it of the class."""

KINDS: tuple[str, ...] = get_args(IndexKind)
_MAX_WEIGHT = 99_999
_MAX_TTL = 2**31 - 1
_FORM = 'a field of an index is written "title", "-year", "imdb.rating", "plot:text" (:hashed, :2dsphere) or "$**"'


@frozen(eq=False)
class IndexKey:
    """One field of an index."""

    path: str
    """Attributes' names, dotted; it may end with ``$**``. Of a `field` the stored path."""
    kind: int | str
    """1 or -1 for the order, or one of `KINDS`."""
    field: Field[Any, Any] | None = None

    @property
    def wildcard(self) -> bool:
        return self.path.rpartition(".")[2] == WILDCARD

    @classmethod
    def parse(cls, given: object) -> IndexKey:
        """A field as it is given to `Index`. Raises `MappingError`."""
        if _is_order(given) and _is_field(given.expr):
            return cls(cast("Any", given.expr)._path, given.direction, given.expr)
        if _is_field(given):
            return cls(cast("Any", given)._path, 1, given)
        if isinstance(given, str):
            path, colon, word = given.removeprefix("-").partition(":")
            kind = word if colon else -1 if given.startswith("-") else 1
            *parents, _ = names = path.split(".")
            if all(names) and WILDCARD not in parents and not (colon and (word not in KINDS or given[0] == "-")):
                return cls(path, kind)
        raise MappingError(f"{_FORM}, not {given!r}")


@frozen(init=False, eq=False)
class Index:
    """An index for ``__indexes__``: ``Index("title", "-year", unique=True, partial=lambda Movie: Movie.year > 2000)``.

    `fields` are names of attributes, dotted into embedded documents and lists of them.
    ``"-year"`` is descending; ``"plot:text"``, ``"key:hashed"`` and ``"place:2dsphere"`` are indexes of these kinds;
    ``"$**"`` is a wildcard index over everything, ``"meta.$**"`` over what is in ``meta``.
    After the class, fields can be given as well:
    ``Movie.__indexes__ = [Index(Movie.title, Movie.year.desc(), partial=Movie.year > 2000)]``.

    `partial` keeps documents out that do not meet a condition;
    inside the class it is written as a function of the class.
    `ttl`, a timedelta or seconds, lets the server delete documents that long after the time in the index's only field.
    `sparse` keeps documents out that have none of the fields, `hidden` the index from the server's planner.
    `collation` is the server's document, such as ``{"locale": "en", "strength": 2}``.
    `weights` (by field), `default_language` and `language_override` belong to text indexes,
    `include` or `exclude` (fields) to ``"$**"``: one of them is needed where the index has other fields,
    which have to be excluded then, or not to be included. The primary key is never in it but where it is included.
    `name` is needed only where two indexes have the same fields.

    Raises `MappingError` for settings that contradict one another.
    """

    keys: tuple[IndexKey, ...]
    unique: bool
    sparse: bool
    hidden: bool
    partial: Partial | None
    ttl: int | None
    collation: Mapping[str, Any] | None
    weights: Mapping[str, int]
    default_language: str | None
    language_override: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    name: str | None

    def __init__(
        self,
        *fields: str | Field[Any, Any] | Order[Any],
        unique: bool = False,
        sparse: bool = False,
        hidden: bool = False,
        partial: Partial | None = None,
        ttl: timedelta | int | None = None,
        collation: Mapping[str, Any] | None = None,
        weights: Mapping[str, int] | None = None,
        default_language: str | None = None,
        language_override: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        where = f"Index({', '.join(map(repr, fields))})"
        for setting, value in (("unique", unique), ("sparse", sparse), ("hidden", hidden)):
            check_bool(where, setting, value)
        if not (weights is None or _is_document(weights)):
            raise MappingError(f"{where}: weights={weights!r} is no mapping of fields to numbers")
        for setting, paths in (("include", include), ("exclude", exclude)):
            if isinstance(paths, str):
                raise MappingError(f"{where}: {setting}={paths!r} is no list of fields")
        try:
            keys = tuple(map(IndexKey.parse, fields))
            seconds = None if ttl is None else ttl_seconds(ttl)
        except MappingError as error:
            raise MappingError(f"{where}: {error}") from None
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            keys=keys,
            unique=unique,
            sparse=sparse,
            hidden=hidden,
            partial=partial,
            ttl=seconds,
            collation=collation,
            weights=weights or {},
            default_language=default_language,
            language_override=language_override,
            include=tuple(include),
            exclude=tuple(exclude),
            name=name,
        )
        if problem := self._problem():
            raise MappingError(f"{where}: {problem}")

    def _problem(self) -> str | None:
        """What is wrong with the settings."""
        paths = [key.path for key in self.keys]
        text, hashed, wild = self._having("text"), self._having("hashed"), [key for key in self.keys if key.wildcard]
        everything = any(key.path == WILDCARD and key.kind == 1 for key in wild)
        problems = {
            "it needs a field": not paths,
            "a field stands in it twice": len(set(paths)) < len(paths),
            "a wildcard is ascending, and there is one in an index": any(key.kind not in (1, "text") for key in wild)
            or len(wild) > 1,
            "a wildcard over everything beside other fields needs include= or exclude=, "
            'or name what it is over, such as "meta.$**"': len(paths) > 1
            and everything
            and not (self.include or self.exclude),
            'only "$**" can be a wildcard for text': any(key.kind == "text" and key.path != WILDCARD for key in wild),
            "a wildcard index cannot be unique, sparse or have a ttl": any(key.kind == 1 for key in wild)
            and (self.unique or self.sparse or self.ttl is not None),
            'include= and exclude= are for "$**", one of them at a time': (self.include or self.exclude)
            and (not everything or (len(self.include) > 1 and len(self.exclude) > 1)),
            "only one of its fields can be hashed": len(hashed) > 1,
            'a text or hashed index is not unique; add another one for that, such as Index("title", unique=True)': (
                self.unique and (text or hashed)
            ),
            "weights=, default_language= and language_override= are for text": not text
            and (self.weights or self.default_language or self.language_override),
            "weights= are whole numbers from 1 to 99,999, by fields of the index": any(
                path not in text or type(weight) is not int or not 1 <= weight <= _MAX_WEIGHT
                for path, weight in self.weights.items()
            ),
            "a text index has no collation": text and self.collation is not None,
            "a ttl needs a single field, ascending or descending": self.ttl is not None
            and (len(paths) != 1 or isinstance(self.keys[0].kind, str)),
            "sparse= and partial= exclude one another": self.sparse and self.partial is not None,
            "partial= takes a condition such as Movie.year > 2000, or a function from the class to one": not (
                self.partial is None or callable(self.partial) or is_condition(self.partial)
            ),
            'collation= takes a document with a locale, such as {"locale": "en", "strength": 2}': self.collation
            is not None
            and not (_is_document(self.collation) and "locale" in self.collation),
            f"name={self.name!r} cannot be an index's": not _is_name(self.name),
        }
        return next((problem for problem, there in problems.items() if there), None)

    def _having(self, kind: str) -> list[str]:
        return [key.path for key in self.keys if key.kind == kind]


def _is_field(value: object) -> TypeGuard[Field[Any, Any]]:
    return isinstance(value, Field)


def _is_order(value: object) -> TypeGuard[Order[Any]]:
    return isinstance(value, Order)


def _is_document(value: object) -> bool:
    return isinstance(value, Mapping)


def check_bool(where: str, setting: str, value: object) -> None:
    """Raise `MappingError` for a setting that is neither on nor off."""
    if type(value) is not bool:
        raise MappingError(f"{where}: {setting}={value!r} is neither True nor False")


def _is_name(name: object) -> bool:
    """Whether an index can be called so; None leaves the name to the server."""
    return name is None or (isinstance(name, str) and name not in ("", "*", "_id_") and "\0" not in name)


def is_condition(value: object) -> TypeGuard[Predicate[Any]]:
    """Whether it is a condition such as ``Movie.year > 2000``."""
    return isinstance(value, Predicate)


def ttl_seconds(ttl: object) -> int:
    """Whole seconds from 0 to 2,147,483,647. Raises `MappingError`."""
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if type(seconds) in (int, float) and 0 <= cast("float", seconds) <= _MAX_TTL and cast("float", seconds) % 1 == 0:
        return int(cast("float", seconds))
    raise MappingError(f"ttl= takes a timedelta or whole seconds, from 0 to {_MAX_TTL:,} seconds, not {ttl!r}")
