"""A component with children, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from attrs import define, field

from superorm import Component
from superorm.components.base import Child

__all__ = ["Team"]


@define(eq=False, slots=False, repr=False)
class Team(Component):
    """A component that is nothing but its members."""

    kind: ClassVar[str] = "team"

    members: Sequence[Child] = field(factory=list[Child])

    @property
    def children(self) -> Sequence[Child]:
        return self.members

    @classmethod
    def restore(cls, name: str, stored: Any, params: Mapping[str, Any], children: Sequence[Component]) -> Self:
        return cls(name, children)
