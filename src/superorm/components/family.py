"""A component with all that is added with it."""

from __future__ import annotations

from superorm.components.base import Component
from superorm.components.kinds import KINDS
from superorm.exc import ComponentError, UnsupportedError
from superorm.expr.reprs import short_repr

__all__ = ["family"]


def family(root: object) -> list[Component]:
    """The component and those given as its children, theirs too: each once, children first.

    Raises `UnsupportedError` for what is no component of a known kind, `ComponentError` for two of one name,
    and for one that is among its own children.
    """
    found: dict[int, Component] = {}
    _collect(root, found, [])
    names: dict[tuple[str, str], Component] = {}
    for component in found.values():
        if names.setdefault((component.kind, component.name), component) is not component:
            raise ComponentError(
                f"{short_repr(root)} holds two {component.kind}s called {component.name!r}: "
                "give one of them another name, or use one object in both places",
                component=component.name,
            )
    return list(found.values())


def _collect(component: object, found: dict[int, Component], above: list[int]) -> None:
    if not isinstance(component, Component) or KINDS.get(component.kind) is not type(component):
        kinds = ", ".join(cls.__name__ for cls in KINDS.values())
        raise UnsupportedError(f"a {type(component).__name__} cannot be added; only components can: {kinds}")
    if id(component) in above:
        raise ComponentError(f"{component!r} is among its own children", component=component.name)
    if id(component) in found:
        return
    for child in component.children:
        if isinstance(child, Component):
            _collect(child, found, [*above, id(component)])
    found[id(component)] = component
