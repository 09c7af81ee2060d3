"""Conditions and orders: what expressions become when they are compared and sorted by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Literal, NoReturn, TypeAlias

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError

__all__ = ["NO_BOOL", "Compare", "CompareOp", "ElemMatch", "Logical", "Order", "Predicate", "check_owners"]

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)

CompareOp: TypeAlias = Literal[
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$regex", "$all", "$elemMatch"
]

NO_BOOL = "an expression has no truth value: combine conditions with & | ~, and write .between(low, high) for a range"


@frozen(eq=False)
class Predicate(Generic[M_contra]):
    """A condition on documents of a class."""

    def owners(self) -> Iterator[type]:
        """The classes whose fields stand in the condition."""
        raise NotImplementedError

    def __and__(self, other: Predicate[M]) -> Predicate[M]:
        return _joined("$and", self, other)

    def __or__(self, other: Predicate[M]) -> Predicate[M]:
        return _joined("$or", self, other)

    def __invert__(self) -> Predicate[M_contra]:
        return Logical("$nor", (self,))

    def __bool__(self) -> NoReturn:
        raise TypeError(NO_BOOL)


@frozen(eq=False)
class Compare(Predicate[M_contra]):
    """A field's path compared with a literal, in the sense of MongoDB's match language."""

    owner: type
    path: str
    op: CompareOp
    value: Any

    def owners(self) -> Iterator[type]:
        yield self.owner


@frozen(eq=False)
class Logical(Predicate[M_contra]):
    """Conditions joined."""

    op: Literal["$and", "$or", "$nor"]
    items: tuple[Predicate[Any], ...]

    def owners(self) -> Iterator[type]:
        for item in self.items:
            yield from item.owners()


def _joined(op: Literal["$and", "$or"], one: Predicate[Any], other: Predicate[Any]) -> Predicate[Any]:
    if not isinstance(other, Predicate):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a condition can be combined with conditions only, not with {type(other).__name__} {other!r}")
    return Logical(op, (one, other))


@frozen(eq=False)
class ElemMatch(Predicate[M_contra]):
    """One embedded document of a list meets all the conditions."""

    owner: type
    path: str
    items: tuple[Predicate[Any], ...]

    def owners(self) -> Iterator[type]:
        yield self.owner


@frozen(eq=False)
class Order(Generic[M_contra]):
    """A place in an order: a path of the class `owner`, or the score where both are None."""

    owner: type | None
    path: str | None
    direction: Literal[1, -1]


def check_owners(condition: Predicate[Any], root: type, where: str) -> None:
    """Raise `StatementError` unless it is a condition, and one on fields of `root` or of its base classes only."""
    if not isinstance(condition, Predicate):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StatementError(
            f"{where} takes conditions such as Movie.year > 1990, not {type(condition).__name__} {condition!r}"
        )
    for owner in condition.owners():
        if not issubclass(root, owner):
            raise StatementError(f"{where} got a condition on {owner.__name__}, but is about {root.__name__}")
