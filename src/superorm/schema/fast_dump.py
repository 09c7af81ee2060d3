"""Objects to documents where all is plain, by functions generated for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from superorm.schema.mapping import ClassMap
from superorm.schema.sourcegen import make_function
from superorm.schema.types.base import Misfit
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = ["make_dump_all", "make_fast_dump", "make_flat_dump"]


def make_fast_dump(mapping: ClassMap, unless: str) -> Callable[[object], dict[str, Any] | None]:
    """A function that gives the document to store for an object. Raises `Misfit` with the attribute.

    It gives None where more has to be done: the attribute `unless` is there, another is not,
    or a plain value does not fit, or has to be written back to the object.
    """
    namespace: dict[str, Any] = {**PLAIN_NAMES, "Misfit": Misfit}
    body, document = _body(mapping, unless, ["return None"], ["raise misfit.within(k) from None"], namespace)
    lines = ["def dump(o):", *body, f"    return {document}"]
    return make_function("dump", f"dump {mapping.name}", lines, namespace)


def make_dump_all(
    mapping: ClassMap, unless: str, slow: Callable[[object], dict[str, Any]]
) -> Callable[[Iterable[object]], list[dict[str, Any]]]:
    """A function that gives the documents of objects; `slow` gives those that `make_fast_dump` does not."""
    namespace: dict[str, Any] = {**PLAIN_NAMES, "Misfit": Misfit, "slow": slow}
    leave = ["append(slow(o))", "continue"]
    body, document = _body(mapping, unless, leave, leave, namespace)
    lines = ["def dump_all(objects):", "    out = []", "    append = out.append", "    for o in objects:"]
    lines += [*(f"    {line}" for line in body), f"        append({document})", "    return out"]
    return make_function("dump_all", f"dump all {mapping.name}", lines, namespace)


def make_flat_dump(
    mapping: ClassMap, unless: str
) -> tuple[Callable[[Iterable[object]], list[Any] | None], Callable[[Sequence[Any]], Iterator[dict[str, Any]]]]:
    """A function that gives the stored values of all objects in one list, and one that makes the documents of these.

    The first gives None where `make_fast_dump` does so for an object, or raises.
    """
    namespace: dict[str, Any] = {**PLAIN_NAMES, "Misfit": Misfit}
    leave = ["return None"]
    body, document = _body(mapping, unless, leave, leave, namespace)
    values = "".join(f"v{n}, " for n in range(len(mapping.fields)))
    lines = ["def dump_flat(objects):", "    out = []", "    for o in objects:"]
    lines += [*(f"    {line}" for line in body), f"        out += {values}", "    return out"]
    dump = make_function("dump_flat", f"dump flat {mapping.name}", lines, namespace)
    lines = ["def documents(values):", f"    for {values}in zip(*[iter(values)] * {len(mapping.fields)}, strict=True):"]
    lines += [f"        yield {document}"]
    return dump, make_function("documents", f"documents {mapping.name}", lines, {})


def _body(
    mapping: ClassMap, unless: str, leave: list[str], refuse: list[str], namespace: dict[str, Any]
) -> tuple[list[str], str]:
    """The lines up to where all is ready, and the document as source.

    `leave` is done where more has to be done, `refuse` where there is a `Misfit`.
    """
    checks: list[str] = []
    steps: list[str] = []
    for n, part in enumerate(mapping.fields):
        if part.spec.version:
            checks.append(f"type(v{n}) is int and v{n} == 0")
        elif part.checked:
            namespace[f"store{n}"] = part.store
            steps.append(f"        k = {part.attribute!r}; v{n} = store{n}(o, v{n})")
        elif part.type.plain:
            checks.append(part.type.dump_check(f"v{n}"))
        else:
            namespace[f"to_bson{n}"] = part.type.to_bson
            steps.append(f"        k = {part.attribute!r}; v{n} = to_bson{n}(v{n})")
    items = [f"{part.stored!r}: {1 if part.spec.version else f'v{n}'}" for n, part in enumerate(mapping.fields)]
    if mapping.writes_type:
        items.insert(0 if mapping.collection is None else 1, f"{mapping.discriminator!r}: {mapping.name!r}")
    leave, refuse = ([f"        {line}" for line in lines] for lines in (leave, refuse))
    body = [f"    if o.{unless} is not None:", *leave, "    try:", "        pass"]
    body += [f"        v{n} = o.{part.attribute}" for n, part in enumerate(mapping.fields)]
    body += ["    except AttributeError:", *leave]
    if checks:
        body += [f"    if not ({' and '.join(checks)}):", *leave]
    if steps:
        body += ["    try:", *steps, "    except Misfit as misfit:", *refuse]
    return body, f"{{{', '.join(items)}}}"
