"""The outputs of listeners as values of selects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from attrs import evolve, frozen
from typing_extensions import TypeVar

from superorm.exc import StatementError
from superorm.expr.base import Expr
from superorm.expr.sources import is_document

if TYPE_CHECKING:
    from superorm.schema.document import Document

__all__ = ["OutputOf", "outputs"]

D = TypeVar("D", bound="Document")
M_contra = TypeVar("M_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


@frozen(eq=False)
class OutputOf(Expr[M_contra, T_co]):
    """A listener's output for each document (``$lookup``). Make one with `outputs`."""

    name: str
    of: Any = None
    """The class or alias of the documents; None: that of the statement."""
    keys: tuple[str, ...] = ()
    """What leads to the part of a dict."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The class, where it is named."""
        return () if self.of is None else (self.of,)

    def __getitem__(self, key: str) -> OutputOf[M_contra, Any]:
        """A value of an output that is a dict."""
        if type(key) is not str or not key or key.startswith("$") or "." in key or "\0" in key:
            raise StatementError(f"{self!r}[{key!r}]: a key is text without dots and NUL that begins with no $")
        return evolve(self, keys=(*self.keys, key))

    def __repr__(self) -> str:
        of = "" if self.of is None else f", of={self.of.__name__ if isinstance(self.of, type) else self.of!r}"
        return f"outputs({self.name!r}{of}){''.join(f'[{key!r}]' for key in self.keys)}"


@overload
def outputs(name: str) -> OutputOf[object, Any]: ...
@overload
def outputs(name: str, of: type[D]) -> OutputOf[D, Any]: ...
def outputs(name: str, of: type[Document] | None = None) -> OutputOf[Any, Any]:
    """The output of a listener for each document of a select: ``select(Movie, outputs("plots"))``.

    It may stand wherever a value does: in conditions, orders, groups; ``outputs("facts")["label"]`` is a part of dicts.
    A document without an output has None. `of` names a joined class, or an alias, for whose documents it is.
    It is of the newest version of the listener whose outputs were all computed, and what is recorded as changed is
    computed before; in a transaction it is as it was when that began.
    Raises `StatementError` for what is no name, or no class; the select raises `ComponentNotFoundError` when it runs.
    """
    if type(name) is not str or not name:
        raise StatementError(f"outputs() takes the name of a listener, not {name!r}")
    if of is not None and not is_document(of):
        raise StatementError(f"outputs(of=...) takes a document class, not {of!r}")
    return OutputOf(name, of)
