"""What fields are fields of: classes, other names for classes, and variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from attrs import frozen

from superorm.exc import StatementError
from superorm.expr.typed import types

if TYPE_CHECKING:
    from superorm.schema.document import Document

__all__ = ["Alias", "FieldType", "Source", "Variable", "aliased", "class_of", "is_document"]

D = TypeVar("D", bound="Document")


class FieldType(Protocol):
    """What an expression asks of a declared field, or of a part of its value."""

    @property
    def attribute(self) -> str:
        """The attribute's name; of a part ``[0]``, ``['key']`` or ``item()``."""
        ...

    @property
    def stored(self) -> str | None:
        """The key that it is stored under; None for the item of a list that was unwound, which takes its place."""
        ...

    @property
    def step(self) -> tuple[str, Any]:
        """How it is reached: ``("field", name)``, ``("key", key)`` or ``("element", position)``."""
        ...

    @property
    def is_list(self) -> bool:
        """Whether the field holds a list, set or tuple."""
        ...

    @property
    def may_be_list(self) -> bool:
        """Whether the database may hold a list there, as far as the declared type tells."""
        ...

    @property
    def embedded(self) -> type | None:
        """The class of the embedded documents that the field holds, as its value or in a list."""
        ...

    def holds(self, cls: object) -> bool:
        """Whether the field's embedded documents may be of a class, or of one that derives from it."""
        ...

    def beside(self, value: object) -> Any:
        """The BSON value of a value that is compared with the field, as the field would store it.

        Raises `StatementError`.
        """
        ...

    def member(self, name: str) -> FieldType:
        """A field of that class, by its attribute's name. Raises `AttributeError` listing the known names."""
        ...

    def element(self, position: int | None) -> FieldType:
        """An element of a list; without a position any of them. Raises `StatementError`."""
        ...

    def item(self) -> FieldType:
        """What `unwind` leaves in the place of a list. Raises `StatementError`."""
        ...

    def value(self, key: str) -> FieldType:
        """A value of a dict. Raises `StatementError`."""
        ...

    def stored_value(self, value: object, where: str, holder: type | None = None) -> Any:
        """The BSON value to store for a value of a statement; `where` names the field.

        With `holder`, the class that has the field, its converter and validator see the value.
        Raises `ValidationError`, `VectorError`.
        """
        ...


@frozen(repr=False)
class Alias:
    """A document class under another name, so that it can stand twice in a statement. Make one with `aliased`.

    Its own attributes begin with an underscore, as all other names are those of the class's fields.
    """

    _cls: type
    _name: str

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(self._cls, attribute)._of(self)

    def __repr__(self) -> str:
        return self._name


@frozen(eq=False)
class Variable:
    """What stands for each item of a list in `func.filter` and its like."""

    name: str
    list: Any
    """The expression that gives the list."""

    @property
    def kind(self) -> FieldType | None:
        """What is known of the items."""
        return None if self.list is None else types().items(self.list)

    def __repr__(self) -> str:
        return self.name


Source: TypeAlias = "type | Alias | Variable"


def class_of(source: Any) -> Any:
    """The class that an alias stands for; anything else as it is."""
    return source._cls if isinstance(source, Alias) else source  # pyright: ignore[reportPrivateUsage]


def is_document(entity: object) -> bool:
    """Whether it is a document class, or another name for one."""
    return hasattr(entity, "__collection__") if isinstance(entity, type) else isinstance(entity, Alias)


def aliased(cls: type[D], name: str) -> type[D]:
    """A document class under another name, for joins of a class with itself.

    Raises `StatementError` for what is no document class, or no name.
    """
    if not hasattr(cls, "__collection__") or not name.isidentifier() or name.startswith("_"):
        raise StatementError(f"aliased() takes a document class and a name for it, not {cls!r}, {name!r}")
    return cast("type[D]", Alias(cls, name))
