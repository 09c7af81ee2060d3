"""A metric: how well outputs meet what they should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

from attrs import Attribute, define, field

from superorm.components.base import Component, ObjectComponent
from superorm.exc import ConfigurationError, PredictionError

__all__ = ["Metric"]


def _check_function(metric: Metric, _: Attribute[Any], function: object) -> None:
    if not callable(function):
        raise ConfigurationError(f"Metric {metric.name!r}: a {type(function).__name__} cannot be called")


@define(eq=False, slots=False, repr=False)
class Metric(ObjectComponent):
    """A named, versioned function of a model's outputs and the targets that gives one number.

    `fingerprint` says what the content is; without one it is known by the hash of what is stored.
    `codec` names the one that stores the object, in the place of the one that its type has.
    `version` is given by `DB.add`.
    """

    kind: ClassVar[str] = "metric"

    object: Callable[[Sequence[Any], Sequence[Any]], Any] = field(validator=_check_function)

    @property
    def stored(self) -> Any:
        """The function."""
        return self.object

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        """The metric of what was stored."""
        return cls(name, stored, **params)

    def __call__(self, outputs: Sequence[Any], targets: Sequence[Any]) -> float:
        """The number for outputs and the targets in the same order.

        Raises `PredictionError` where these are not as many, and where the function fails or gives no number.
        """
        if len(outputs) != len(targets):
            raise PredictionError(
                f"metric {self.name!r} compares {len(outputs)} outputs with {len(targets)} targets",
                component=self.name,
            )
        try:
            value = self.object([*outputs], [*targets])  # others are given the same
            number = float(value) if isinstance(value, Real) else None
        except Exception as error:
            raise PredictionError(
                f"metric {self.name!r} failed: {type(error).__name__}: {error}", component=self.name
            ) from error
        if number is None:
            raise PredictionError(
                f"metric {self.name!r} gave a {type(value).__name__}, not a number", component=self.name
            )
        return number
