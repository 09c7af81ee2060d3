"""What all components have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

from attrs import Attribute, define, field, frozen, validators

from superorm.artifacts.codecs import codec_for
from superorm.exc import ConfigurationError
from superorm.expr.reprs import short_repr

__all__ = ["Child", "Component", "Named", "ObjectComponent", "check_text"]


@frozen
class Named:
    """A component by its kind and name: the newest version of it, where none is given."""

    kind: str
    name: str
    version: int | None = None

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.kind} {self.name!r}{version}"


def check_text(kind: str, name: object) -> None:
    """Raise `ConfigurationError` for what cannot name a component. Any text can, but for lone surrogates."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a {kind} needs a name, not {short_repr(name)}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"a {kind} cannot be called {name!a}: the character at position {error.start} is half of a surrogate pair, "
            "which no database stores"
        ) from None


def _check_name(component: Component, _: Attribute[str], name: str) -> None:
    check_text(type(component).__name__, name)


def _check_fingerprint(component: Component, _: Attribute[str], fingerprint: object) -> None:
    if not isinstance(fingerprint, str):
        raise ConfigurationError(f"{component!r}: a fingerprint is text, not {short_repr(fingerprint)}")


def _check_codec(component: Component, _: Attribute[str], codec: object) -> None:
    if not isinstance(codec, str):
        raise ConfigurationError(f"{component!r}: a codec is given by its name, not {short_repr(codec)}")
    try:
        codec_for(None, codec)
    except ConfigurationError as error:
        raise ConfigurationError(f"{component!r}: {error}") from None


@define(eq=False, slots=False, repr=False)
class Component(ABC):
    """Something with a name and versions that a DB stores.

    What it is made of is its `params`, its `children` and the object that is its artifact, where it has one.
    A class of components has a `kind`, and says these.
    """

    kind: ClassVar[str]

    name: str = field(validator=_check_name)
    """Any text: with dots, slashes and spaces too. Two texts are one name if their characters are the same."""
    version: int | None = field(default=None, kw_only=True)
    """Given by `DB.add`."""

    def __repr__(self) -> str:
        version = "" if self.version is None else f", version={self.version}"
        return f"{type(self).__name__}({self.name!r}{version})"

    @property
    def identity(self) -> str | None:
        """What says that the content is the same; None where that is the hash of all that is stored."""
        return None

    @property
    def params(self) -> dict[str, Any]:
        """What is stored beside the artifact: values that BSON has."""
        return {}

    @property
    def children(self) -> Sequence[Child]:
        """The components that it needs: themselves, or their names."""
        return ()

    @property
    def stored(self) -> Any:
        """The object that is stored as its artifact; None where it has none."""
        return None

    @classmethod
    @abstractmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The component of what was stored."""


@define(eq=False, slots=False, repr=False)
class ObjectComponent(Component):
    """A component whose artifact is an object of the user's."""

    fingerprint: str | None = field(default=None, kw_only=True, validator=validators.optional(_check_fingerprint))
    """Says what the content is: pickles of one object may differ between processes."""

    codec: str | None = field(default=None, kw_only=True, validator=validators.optional(_check_codec))
    """The name of the codec that stores the object; chosen by its type where none is given."""

    @property
    def identity(self) -> str | None:
        """The fingerprint."""
        return self.fingerprint

    @property
    def params(self) -> dict[str, Any]:
        """The codec, where one was given."""
        return {} if self.codec is None else {"codec": self.codec}


Child: TypeAlias = Component | Named
