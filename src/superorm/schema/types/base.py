"""The types of fields: how a value is checked, stored and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from superorm.expr.literals import literal
from superorm.expr.reprs import typed_repr
from superorm.schema.compare import same

if TYPE_CHECKING:
    from superorm.schema.mapping import MappedField

__all__ = ["BsonType", "Misfit", "Missing", "Rejected", "Undeclared", "has_hash"]


class Misfit(Exception):
    """A value does not fit its type; the path to it grows as the exception climbs out of containers."""

    def __init__(self, value: Any, expected: str) -> None:
        super().__init__(value, expected)
        self.value = value
        self.expected = expected
        self.path: list[str] = []
        self.error: Exception | None = None

    def within(self, part: str | int) -> Misfit:
        """The same, seen from the container that holds it under `part`."""
        self.path.insert(0, str(part))
        return self

    @property
    def shown(self) -> str:
        """The value with its type, for messages."""
        return typed_repr(self.value)

    def describe(self) -> str:
        """What is wrong, without where."""
        return f"expected {self.expected}, got {self.shown}"


class Rejected(Misfit):
    """A value that the field's own converter or validator refuses, or a registered type's function `by`."""

    def __init__(self, value: Any, error: Exception, by: str = "") -> None:
        super().__init__(value, by)
        self.error = error

    def describe(self) -> str:
        error = f"{type(self.error).__name__}: {self.error}"
        return f"{self.expected} failed on {self.shown}: {error}" if self.expected else error


class Missing(Misfit):
    """A key is missing whose field has no default, or one that cannot be used."""

    def __init__(self, expected: str, why: str = "the field has no default", error: Exception | None = None) -> None:
        super().__init__(None, expected)
        self.why = why
        self.error = error

    def describe(self) -> str:
        return f"expected {self.expected}, but the key is missing and {self.why}"


class Undeclared(Misfit):
    """A key that the class or TypedDict `owner` does not have."""

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(key, owner)

    def describe(self) -> str:
        return f"{self.expected} has no key {self.value!r}"


class BsonType:
    """How values of one declared type are stored."""

    name: str
    """For messages: ``int``, ``list[str]``."""
    plain: bool = False
    """Whether the decoded BSON value is used as it is: such fields are loaded eagerly, others at first access."""
    same_value: bool = False
    """Whether a decoded BSON value that fits is read as an equal Python value (``str``, ``Literal["a"]``)."""
    reads: frozenset[type] = frozenset()
    """The types of decoded BSON values that it reads, but for widening; by them members of unions are told apart."""
    hashable: bool = True
    """Whether its values can be in a set."""

    def load_check(self, v: str) -> str:
        """A Python expression over the variable `v` that is true where a decoded value fits as it is (plain types)."""
        raise NotImplementedError

    def dump_check(self, v: str) -> str:
        """A Python expression over the variable `v` that is true where a value can be stored as it is (plain types)."""
        return self.load_check(v)

    def from_bson(self, value: Any) -> Any:
        """The Python value of a decoded BSON value. Raises `Misfit`."""
        raise NotImplementedError

    def read_all(self, values: list[Any], found: list[Any]) -> None:
        """Add the Python values of decoded BSON values to `found`, in order, up to the first that raises `Misfit`."""
        found.extend(map(self.from_bson, values))

    def to_bson(self, value: Any) -> Any:
        """The BSON value of a Python value. Raises `Misfit`."""
        raise NotImplementedError

    def unchanged(self, value: Any, raw: Any) -> bool:
        """Whether a Python value is what the stored BSON value reads as."""
        try:
            new = self.to_bson(value)
            return same(raw, new) or same(self.to_bson(self.from_bson(raw)), new)
        except Misfit:
            return False

    @property
    def comparison(self) -> Callable[[Any, Any], bool]:
        """`unchanged`, as the quickest function that there is once all types are known."""
        return self.unchanged

    def list_comparison(self, otherwise: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
        """The same for lists of such values: the function given, or one that calls it where it cannot tell quickly."""
        return otherwise

    @property
    def without_none(self) -> BsonType:
        """The one type that an optional field has beside None; otherwise the type itself."""
        return self

    @property
    def is_list(self) -> bool:
        """Whether the field holds a list, set or tuple."""
        return False

    @property
    def embedded(self) -> type | None:
        """The class of the embedded documents that it holds, as its value or in a list."""
        return None

    def holds(self, cls: object) -> bool:
        """Whether its embedded documents may be of a class, or of one that derives from it."""
        return False

    def beside(self, value: object) -> Any:
        """The BSON value of a value that a statement compares with one of this type, as a document would store it.

        Raises `Misfit`, `StatementError`.
        """
        return literal(value)

    def member(self, name: str) -> MappedField:
        """A field of that class, by its attribute's name. Raises `AttributeError`."""
        raise AttributeError(f"a field of type {self.name} has no part {name!r}")

    def __repr__(self) -> str:
        return f"<{self.name}>"


def has_hash(cls: Any) -> bool:
    """Whether objects of a class can be hashed."""
    return cls.__hash__ is not None
