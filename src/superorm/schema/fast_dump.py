"""Objects to documents where all is plain, by functions generated for each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.schema.sourcegen import make_function
from superorm.schema.types.base import Misfit
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = ["make_fast_dump"]


def make_fast_dump(mapping: ClassMap, unless: str) -> Callable[[object], dict[str, Any] | None]:
    """A function that gives the document to store for an object.

    It gives None where more has to be done: the attribute `unless` is there, another is not,
    a value does not fit, or has to be written back to the object.
    """
    namespace: dict[str, Any] = {**PLAIN_NAMES, "Misfit": Misfit}
    checks: list[str] = []
    items: list[str] = []
    for n, part in enumerate(mapping.fields):
        item = f"v{n}"
        if part.checked:
            namespace[f"store{n}"] = part.store
            item = f"store{n}(o, v{n})"
        elif part.type.plain:
            checks.append(part.type.dump_check(item))
        else:
            namespace[f"to_bson{n}"] = part.type.to_bson
            item = f"to_bson{n}(v{n})"
        items.append(f"{part.stored!r}: {item}")
    lines = ["def dump(o):", f"    if o.{unless} is not None:", "        return None", "    try:"]
    lines += [f"        v{n} = o.{part.attribute}" for n, part in enumerate(mapping.fields)]
    lines += [f"        if {' and '.join(checks) or 'True'}:", f"            return {{{', '.join(items)}}}"]
    lines += ["    except (AttributeError, Misfit):", "        pass", "    return None"]
    return make_function("dump", f"dump {mapping.name}", lines, namespace)
