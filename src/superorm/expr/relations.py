"""Relationships in statements, where they stand in options only: which to load, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol, TypeAlias, overload

from attrs import frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr

if TYPE_CHECKING:
    from superorm.schema.document import Document

__all__ = ["Hop", "Load", "Related", "RelationPart", "Strategy", "joinedload", "selectinload"]

_HOPS = 100
"""Of so many levels the pipeline still has fewer stages than the server takes."""

M = TypeVar("M")
D = TypeVar("D", bound="Document")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

Strategy: TypeAlias = Literal["selectin", "joined"]


class RelationPart(Protocol):
    """What expressions know of a relationship."""

    attribute: str

    @property
    def key_name(self) -> str: ...
    @property
    def target_class(self) -> type: ...
    @property
    def condition(self) -> Any: ...


class Related:
    """A relationship on its class, for `selectinload` and `joinedload`; conditions and orders take its key."""

    __slots__ = ("cls", "part")

    def __init__(self, cls: type, part: Any) -> None:
        self.cls = cls
        self.part: RelationPart = part

    def _refuse(self, *_: object) -> NoReturn:
        raise StatementError(
            f"{self.cls.__name__}.{self.part.attribute} is a relationship, which is not stored; "
            f"use its key, {self.part.key_name}, or options(selectinload(...))"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = _refuse
    __and__ = __or__ = __rand__ = __ror__ = __invert__ = __bool__ = __iter__ = _refuse
    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        return getattr, (self.cls, self.part.attribute)

    def __repr__(self) -> str:
        return f"<{self.cls.__name__}.{self.part.attribute}, a relationship; use its key {self.part.key_name}>"


Hop: TypeAlias = tuple[Strategy, Related]


@frozen(eq=False)
class Load(Generic[M_contra, T_co]):
    """An option: relationships to load with the documents of a select, each of the documents that the last one gave."""

    hops: tuple[Hop, ...]

    @overload
    def selectinload(self: Load[M, T_co], relation: Expr[T_co, list[D]]) -> Load[M, D]: ...
    @overload
    def selectinload(self: Load[M, T_co], relation: Expr[T_co, D | None]) -> Load[M, D]: ...
    def selectinload(self, relation: Any) -> Load[Any, Any]:
        """Load a relationship of these documents too, with one more find. Raises `StatementError`, `MappingError`."""
        return self._then("selectin", relation)

    @overload
    def joinedload(self: Load[M, T_co], relation: Expr[T_co, list[D]]) -> Load[M, D]: ...
    @overload
    def joinedload(self: Load[M, T_co], relation: Expr[T_co, D | None]) -> Load[M, D]: ...
    def joinedload(self, relation: Any) -> Load[Any, Any]:
        """Load a relationship of these documents too, by a ``$lookup``. Raises `StatementError`, `MappingError`."""
        return self._then("joined", relation)

    def _then(self, strategy: Strategy, relation: object) -> Load[Any, Any]:
        hop = _hop(strategy, relation)
        if len(self.hops) == _HOPS:
            raise StatementError(f"{strategy}load({hop[1]!r}): an option names {_HOPS} relationships at most in a row")
        last = self.hops[-1][1]
        target, cls = last.part.target_class, hop[1].cls
        if not (issubclass(cls, target) or issubclass(target, cls)):
            raise StatementError(f"{strategy}load({hop[1]!r}) cannot follow {last!r}, which gives {target.__name__}")
        return Load((*self.hops, hop))


@overload
def selectinload(relation: Expr[M, list[D]]) -> Load[M, D]: ...
@overload
def selectinload(relation: Expr[M, D | None]) -> Load[M, D]: ...
def selectinload(relation: Any) -> Load[Any, Any]:
    """For ``.options(...)``: load a relationship of the documents that are found, with one more find for all of them.

    ``selectinload(Author.movies).selectinload(Movie.studio)`` goes on from there.
    Raises `StatementError` for anything but a relationship.
    """
    return Load((_hop("selectin", relation),))


@overload
def joinedload(relation: Expr[M, list[D]]) -> Load[M, D]: ...
@overload
def joinedload(relation: Expr[M, D | None]) -> Load[M, D]: ...
def joinedload(relation: Any) -> Load[Any, Any]:
    """For ``.options(...)``: load a relationship in the same pipeline, by a ``$lookup``.

    What a document is joined with must fit into 16 MiB together with it:
    else the server ends the query with an error, or closes the connection.
    Raises `StatementError` for anything but a relationship.
    """
    return Load((_hop("joined", relation),))


def _hop(strategy: Strategy, relation: object) -> Hop:
    if not isinstance(relation, Related):
        raise StatementError(f"{strategy}load() takes a relationship such as Movie.author, not {relation!r}")
    return strategy, relation
