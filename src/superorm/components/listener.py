"""A listener: a model's outputs for the documents of a select, kept equal to these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NoReturn, Self

from attrs import Attribute, define, field

from superorm.components.base import Child, Component, Named, check_text
from superorm.components.listened import Documents, Listened, Outputs
from superorm.components.model import Model
from superorm.exc import ConfigurationError
from superorm.expr.kinds import is_select
from superorm.expr.reprs import short_repr
from superorm.expr.statements import Select, select

__all__ = ["Listener"]


def _check_model(listener: Listener, _: Attribute[Any], model: object) -> None:
    if not isinstance(model, Model):
        check_text("model", model)


def _check_select(listener: Listener, _: Attribute[Any], given: object) -> None:
    if given is None:
        return
    if not is_select(given):
        raise ConfigurationError(f"{listener!r} listens to a select, not to {short_repr(given)}")
    entities = given._entities  # pyright: ignore[reportPrivateUsage]
    options = given._options  # pyright: ignore[reportPrivateUsage]
    if len(entities) != 1 or not isinstance(entities[0], type) or options:
        listener.refuse(f"{given!r} does not give whole documents of one class; write select(Movie), with any where()")


def _check_listener(listener: Listener, _: Attribute[Any], given: object) -> None:
    if given is not None and not isinstance(given, Listener):
        check_text("listener", given)


@define(eq=False, slots=False, repr=False)
class Listener(Component):
    """The outputs of a model for one field of each document that a select finds, kept equal to the documents.

    `model` is the name of one that was added, or a `Model`, which is added with it;
    the version that is the newest then is the listener's.
    `select` is of one class, with conditions on the documents' own fields; `key` is a field of that class.
    A document in which that is None has no output.

    In the place of these two, `listener` is another listener, or the name of one that was added:
    the model is given that one's outputs, where they are not None. The documents' keys stay.

    Raises `ConfigurationError` for a select, or a key, that cannot be told from one document alone.
    """

    kind: ClassVar[str] = "listener"

    model: Model | str = field(kw_only=True, validator=_check_model)
    select: Select[Any, Any] | None = field(default=None, kw_only=True, validator=_check_select)
    key: Any = field(default=None, kw_only=True)
    listener: Listener | str | None = field(default=None, kw_only=True, validator=_check_listener)

    def __attrs_post_init__(self) -> None:
        given = [one is not None for one in (self.select, self.key, self.listener)]
        if given not in ([True, True, False], [False, False, True]):
            self.refuse("it listens to a select and a key, such as select(Movie) and Movie.plot, or to a listener")
        if self.listener == self.name:  # each time that it is added again there would be another version
            self.refuse("it cannot listen to a listener of its own name: give it another one")
        if self.select is not None:
            assert self.documents is not None

    def refuse(self, why: str) -> NoReturn:
        """Raise `ConfigurationError`."""
        raise ConfigurationError(f"{self!r}: {why}")

    @cached_property
    def documents(self) -> Documents | None:
        """The documents that it listens to; None where it listens to another listener."""
        return None if self.select is None else Documents(self.select, self.key, repr(self))

    @cached_property
    def listened(self) -> Listened:
        """What it listens to, of one that was loaded, with the listeners that it needs."""
        if self.documents is not None:
            return self.documents
        assert isinstance(self.listener, Listener)
        return Outputs(self._named(self.listener), self.listener.listened.mapping)

    @staticmethod
    def _named(one: Model | Listener) -> Named:
        return Named(one.kind, one.name, one.version)

    @property
    def named_listener(self) -> Named | None:
        """The listener that it listens to."""
        if isinstance(self.listener, str):
            return Named(Listener.kind, self.listener)
        return None if self.listener is None else self._named(self.listener)

    @property
    def children(self) -> Sequence[Child]:
        """The model, and the listener that it listens to."""
        model = self.model if isinstance(self.model, Model) else Named(Model.kind, self.model)
        if self.listener is None:
            return (model,)
        return (model, Named(Listener.kind, self.listener) if isinstance(self.listener, str) else self.listener)

    @property
    def params(self) -> dict[str, Any]:
        """The select and the key, as data."""
        if self.select is None:
            return {}
        return {"select": self.select.to_dict(), "key": select(self.key).to_dict()}

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The listener of what was stored. Raises `StatementError` where its class is not declared in this process."""
        model, *others = children
        assert isinstance(model, Model)
        if others:
            (other,) = others
            assert isinstance(other, Listener)
            return cls(name, model=model, listener=other)
        key: Any = Select.from_dict(params["key"])._entities[0]  # pyright: ignore[reportPrivateUsage]
        return cls(name, model=model, select=Select.from_dict(params["select"]), key=key)
