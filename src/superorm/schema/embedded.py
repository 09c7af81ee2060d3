"""Embedded documents from BSON and back, by functions generated for each class.

An object remembers the dict it was read from, which is never changed:
from it come the keys that the class does not map, and which keys were missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import numpy as np

from superorm.schema.compare import same
from superorm.schema.fast_dump import make_fast_dump
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.sourcegen import make_function
from superorm.schema.state import DEFAULTS, SOURCE, new_object
from superorm.schema.types.base import BsonType, Misfit
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = ["equal", "install"]


def install(mapping: ClassMap) -> None:
    """Give the class its functions; they are generated at the first call, when all types are known."""

    def load(stored: dict[str, Any]) -> Any:
        mapping.load = _make_load(mapping)
        return mapping.load(stored)

    def dump(instance: object) -> dict[str, Any]:
        mapping.dump = _make_dump(mapping, codec)
        return mapping.dump(instance)

    def unchanged(instance: object, stored: dict[str, Any]) -> bool:
        mapping.unchanged = _make_unchanged(mapping, codec)
        return mapping.unchanged(instance, stored)

    codec = _Codec(mapping)
    mapping.load, mapping.dump, mapping.unchanged = load, dump, unchanged


def equal(one: Any, other: Any) -> bool:
    """Whether two values of a field are equal; arrays by all their elements."""
    if one is other:
        return True
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(cast("Any", one), cast("Any", other))
    return bool(one == other)


def _make_load(mapping: ClassMap) -> Any:
    def slow(stored: dict[str, Any]) -> Any:
        return _load_slowly(mapping, stored)

    namespace: dict[str, Any] = {**PLAIN_NAMES, "cls": mapping.cls, "slow": slow, "Misfit": Misfit}
    lines = ["def load(d, new=cls.__new__, cls=cls):", "    try:", "        o = new(cls)"]
    for number, part in enumerate(mapping.fields):
        namespace[f"f{number}"] = part.type.from_bson
        lines.append(f"        v = d[{part.stored!r}]")
        convert = f"f{number}(v)"
        if part.type.plain:
            convert = f"v if {part.type.load_check('v')} else {convert}"
        lines.append(f"        o.{part.attribute} = {convert}")
    lines += ["    except (KeyError, Misfit):", "        return slow(d)", f"    o.{SOURCE} = d", "    return o"]
    if mapping.extra_forbidden:
        lines[1:1] = [f"    if len(d) != {len(mapping.fields)}: return slow(d)"]
    return make_function("load", f"load {mapping.name}", lines, namespace)


def _load_slowly(mapping: ClassMap, stored: dict[str, Any]) -> Any:
    """The same as the generated function, naming what is wrong and filling in what is missing."""
    instance = new_object(mapping)
    defaults: dict[str, Any] = {}
    for part in mapping.fields:
        try:
            if part.stored in stored:
                value = part.type.from_bson(stored[part.stored])
            else:
                value, defaults[part.stored] = part.missing()
        except Misfit as misfit:
            raise misfit.within(part.stored) from None
        setattr(instance, part.attribute, value)
    if mapping.extra_forbidden:
        mapping.refuse_extra(stored)
    setattr(instance, SOURCE, stored)
    if defaults:
        setattr(instance, DEFAULTS, defaults)
    return instance


def _make_dump(mapping: ClassMap, codec: _Codec) -> Callable[[object], dict[str, Any]]:
    fast = make_fast_dump(mapping, unless=SOURCE)

    def dump(instance: object) -> dict[str, Any]:
        document = fast(instance)
        return codec.dump(instance) if document is None else document

    return dump


def _make_unchanged(mapping: ClassMap, codec: _Codec) -> Any:
    namespace: dict[str, Any] = {"slow": codec.unchanged}
    tests: list[str] = []
    for n, part in enumerate(mapping.fields):
        namespace[f"unchanged{n}"] = part.type.unchanged
        value, raw = f"o.{part.attribute}", f"d[{part.stored!r}]"
        tests.append(f"({value} is {raw} or unchanged{n}({value}, {raw}))")
    lines = ["def unchanged(o, d):", f"    if o.{SOURCE} is d:", "        try:"]
    lines += [f"            return {' and '.join(tests) or 'True'}", "        except (AttributeError, KeyError):"]
    lines += ["            pass", "    return slow(o, d)"]
    return make_function("unchanged", f"unchanged {mapping.name}", lines, namespace)


class _Codec:
    """The way back to BSON."""

    def __init__(self, mapping: ClassMap) -> None:
        self._mapping = mapping

    @cached_property
    def _parts(self) -> list[tuple[MappedField, str, str, BsonType, bool]]:
        return [(part, part.attribute, part.stored, part.type, part.checked) for part in self._mapping.fields]

    def dump(self, instance: object) -> dict[str, Any]:
        """The document to store: what did not change as it stood, in the order in which it stood."""
        state = vars(instance)
        source: dict[str, Any] = state.get(SOURCE) or {}
        defaults: dict[str, Any] = state.get(DEFAULTS, {})
        result: dict[str, Any] = {}
        for part, attribute, stored, kind, checked in self._parts:
            if attribute not in state:
                continue  # deleted
            value = state[attribute]
            if stored in source and (value is source[stored] or kind.unchanged(value, source[stored])):
                result[stored] = source[stored]
                continue
            try:
                new = part.store(instance, value) if checked or kind.plain else kind.to_bson(value)
            except Misfit as misfit:
                raise misfit.within(attribute) from None
            if stored in defaults:
                if same(defaults[stored], new):
                    continue  # still missing
                state[DEFAULTS] = defaults = {key: value for key, value in defaults.items() if key != stored}
            result[stored] = new
        if not source or list(source) == list(result):
            return result
        ordered = {
            key: result.pop(key) if key in result else value
            for key, value in source.items()
            if key in result or key not in self._mapping.stored_names
        }
        return ordered | result

    def unchanged(self, instance: object, stored: dict[str, Any]) -> bool:
        """Whether `dump` would give the stored document, or one that reads the same."""
        state = vars(instance)
        defaults: dict[str, Any] = state.get(DEFAULTS, {})
        for _, attribute, key, kind, _ in self._parts:
            there = stored if key in stored else defaults
            if attribute not in state:
                if key in stored:
                    return False  # deleted
                continue
            value, before = state[attribute], there.get(key, MISSING)
            if value is not before and (before is MISSING or not kind.unchanged(value, before)):
                return False
        source: dict[str, Any] = state.get(SOURCE) or {}
        return stored is source or same(self._extra(source), self._extra(stored))

    def _extra(self, document: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key not in self._mapping.stored_names}
