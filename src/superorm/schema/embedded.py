"""Embedded documents from BSON and back, by functions generated for each class.

An object remembers the dict it was read from, which is never changed:
from it come the keys that the class does not map, and which keys were missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from superorm.exc import MappingError
from superorm.schema.compare import same
from superorm.schema.fast_dump import make_fast_dump
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.sourcegen import make_function
from superorm.schema.state import DEFAULTS, SOURCE, kept, new_object
from superorm.schema.types.base import BsonType, Misfit, Missing
from superorm.schema.types.scalars import PLAIN_NAMES
from superorm.schema.vector_fields import declared

__all__ = ["equal", "generate", "install", "join_families"]


def install(mapping: ClassMap) -> None:
    """Give the class its functions.

    A subclass of mapped classes joins their families; its documents name it.
    Raises `MappingError` where they cannot tell it from another one.
    """
    if hasattr(mapping.cls, "__discriminator__"):
        mapping.discriminator = cast("Any", mapping.cls).__discriminator__
        mapping.check_discriminator(mapping.name)
    mapping.parent = next(iter(join_families(mapping)), None)
    generate(mapping)


def generate(mapping: ClassMap) -> None:
    """Functions that are generated at the first call, when all types are known."""

    def load(stored: dict[str, Any]) -> Any:
        mapping.load = _make_load(mapping)
        return mapping.load(stored)

    def load_all(values: list[Any], found: list[Any]) -> None:
        mapping.load_all = _make_load_all(mapping)
        mapping.load_all(values, found)

    def dump(instance: object) -> dict[str, Any]:
        mapping.dump = _make_dump(mapping, codec)
        return mapping.dump(instance)

    def unchanged(instance: object, stored: dict[str, Any]) -> bool:
        mapping.unchanged = _make_unchanged(mapping, codec)
        return mapping.unchanged(instance, stored)

    declared(mapping)
    codec = _Codec(mapping)
    mapping.load, mapping.load_all, mapping.dump = load, load_all, dump
    mapping.unchanged = unchanged
    mapping.comparison = partial(_make_comparison, mapping)
    mapping.list_comparison = partial(_make_list_comparison, mapping)


def join_families(mapping: ClassMap) -> list[ClassMap]:
    """Let the mapped bases of a class know it; gives them, the nearest first.

    Raises `MappingError` where their documents cannot tell it from another one.
    """
    bases = [class_map(base) for base in mapping.cls.__mro__[1:] if "__superorm__" in base.__dict__]
    for base in bases:
        where = f"{mapping.name}, a subclass of {base.name}"
        if mapping.discriminator != base.discriminator:
            raise MappingError(f"{where}: __discriminator__ must be the same, {base.discriminator!r}")
        mapping.check_discriminator(where)
        base.check_discriminator(where)
        other = {base.name: base, **base.family}.get(mapping.name)
        if other is not None and _place(other.cls) != _place(mapping.cls):
            raise MappingError(
                f"{where}: another class of that name is there, {_place(other.cls)}; choose another name"
            )
    for base in bases:
        base.family = {base.name: base, **base.family, mapping.name: mapping}
        mapping.family = {mapping.name: mapping, **mapping.family}
    return bases


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def equal(one: Any, other: Any) -> bool:
    """Whether two values of a field are equal; arrays by all their elements."""
    if one is other:
        return True
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(cast("Any", one), cast("Any", other))
    return bool(one == other)


def _make_load(mapping: ClassMap) -> Any:
    body, namespace = _load_body(mapping, slowly=("return slow(d)",))
    lines = ["def load(d, new=cls.__new__, cls=cls):", *(f"    {line}" for line in body), "    return o"]
    return make_function("load", f"load {mapping.name}", lines, namespace)


def _make_load_all(mapping: ClassMap) -> Any:
    body, namespace = _load_body(mapping, slowly=("append(slow(d))", "continue"))
    lines = [
        "def load_all(values, found, new=cls.__new__, cls=cls):",
        "    append = found.append",
        "    for d in values:",
    ]
    lines += ["        if type(d) is not dict:", f"            raise Misfit(d, {mapping.name!r})"]
    lines += [*(f"        {line}" for line in body), "        append(o)"]
    return make_function("load_all", f"load all {mapping.name}", lines, namespace)


def _load_body(mapping: ClassMap, slowly: tuple[str, ...]) -> tuple[list[str], dict[str, Any]]:
    """Lines that make the object `o` of the stored document `d`, or do what `slowly` says; and what they name."""

    def slow(stored: dict[str, Any]) -> Any:
        return _load_slowly(mapping, stored)

    stored = [part.stored for part in mapping.fields]
    namespace: dict[str, Any] = {**PLAIN_NAMES, "cls": mapping.cls, "slow": slow, "Misfit": Misfit, "stored": stored}
    otherwise = [f"    {line}" for line in slowly]
    lines = [f"if len(d) != {len(mapping.fields)}:", *otherwise] if mapping.extra_forbidden else []
    lines += ["try:", "    pass", *(f"    v{n} = d[{name!r}]" for n, name in enumerate(stored))]
    lines += ["except KeyError:", *otherwise, "o = new(cls)", "try:", "    pass"]
    for n, part in enumerate(mapping.fields):
        namespace[f"f{n}"] = part.type.from_bson
        convert = f"f{n}(v{n})"
        if part.type.plain:
            convert = f"v{n} if {part.type.load_check(f'v{n}')} else {convert}"
        lines.append(f"    o.{part.attribute} = {convert}")
    if any(part.keep for part in mapping.fields):
        lines += ["except Misfit:", *otherwise]
    else:
        lines += ["except Misfit as misfit:", "    raise misfit.within(stored[len(o.__dict__)]) from None"]
    return [*lines, f"o.{SOURCE} = d"], namespace


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
            if not part.keep:
                raise misfit.within(part.stored) from None
            value = kept(part, stored, defaults)
        setattr(instance, part.attribute, value)
    if mapping.extra_forbidden:
        mapping.refuse_extra(_without_name(mapping, stored))
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
    names: list[str] = []
    tests: list[str] = []
    for n, part in enumerate(mapping.fields):
        namespace[f"unchanged{n}"] = part.unchanged
        names.append(f"            v{n} = o.{part.attribute}; r{n} = d[{part.stored!r}]")
        tests.append(f"(v{n} is r{n} or unchanged{n}(v{n}, r{n}))")
    # all are looked up before any is compared: else a tree that lacks keys would be compared twice at every level
    lines = ["def unchanged(o, d):", f"    if o.{SOURCE} is d:", "        try:", "            pass", *names]
    lines += ["        except (AttributeError, KeyError):", "            return slow(o, d)"]
    lines += [f"        return {' and '.join(tests) or 'True'}", "    return slow(o, d)"]
    return make_function("unchanged", f"unchanged {mapping.name}", lines, namespace)


def _make_comparison(mapping: ClassMap, otherwise: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A function: whether a value is an object of the class as it was read, or else what another function says."""
    if not _is_flat(mapping):
        return otherwise
    namespace: dict[str, Any] = {"cls": mapping.cls, "otherwise": otherwise}
    lines = ["def unchanged(o, d):", "    try:", f"        if type(o) is cls and {_is_as_read(mapping)}:"]
    lines += ["            return True", f"    except {_NOT_AS_READ}:", "        pass", "    return otherwise(o, d)"]
    return make_function("unchanged", f"compare {mapping.name}", lines, namespace)


def _make_list_comparison(mapping: ClassMap, otherwise: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """The same of a list of such objects."""
    if not _is_flat(mapping):
        return otherwise
    namespace: dict[str, Any] = {"mapping": mapping, "otherwise": otherwise}
    lines = ["def unchanged(values, raws):"]  # subclasses, whose objects have more fields, may come later
    lines += ["    if type(values) is type(raws) is list and len(values) == len(raws) and not mapping.family:"]
    lines += ["        try:", "            for o, d in zip(values, raws):"]
    lines += [f"                if not ({_is_as_read(mapping)}):", "                    break"]
    lines += ["            else:", "                return True", f"        except {_NOT_AS_READ}:", "            pass"]
    lines += ["    return otherwise(values, raws)"]
    return make_function("unchanged", f"compare list of {mapping.name}", lines, namespace)


def _is_flat(mapping: ClassMap) -> bool:
    """Whether the values of an object are those of the document that it was read from."""
    return all(part.type.plain for part in mapping.fields)


def _is_as_read(mapping: ClassMap) -> str:
    """Source: whether an object `o` was read from the document `d`, and all its values are the very ones there."""
    same = [f"o.{part.attribute} is d[{part.stored!r}]" for part in mapping.fields]
    return " and ".join([f"o.{SOURCE} is d", *same])


_NOT_AS_READ = "(AttributeError, KeyError, TypeError)"
"""What that raises where a value is not there, or the document is none."""


def _without_name(mapping: ClassMap, document: dict[str, Any]) -> dict[str, Any]:
    """The document without the discriminator that names its class."""
    key = mapping.discriminator
    if key in mapping.stored_names or document.get(key) != mapping.name:
        return document
    return {name: value for name, value in document.items() if name != key}


def _check_left_out(part: MappedField) -> None:
    """Raise `Misfit` where the document could not be read without the field."""
    if not part.has_default:
        raise Missing(part.type.name).within(part.attribute)


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
            if attribute not in state:  # deleted, or never set
                if not part.keep:
                    _check_left_out(part)
                continue
            value = state[attribute]
            if stored in source and (value is source[stored] or part.unchanged(value, source[stored])):
                result[stored] = source[stored]
                continue
            if part.keep and value is None and stored in defaults and defaults[stored] is None:
                continue  # still missing
            try:
                new = part.store(instance, value) if checked or kind.plain else kind.to_bson(value)
            except Misfit as misfit:
                raise misfit.within(attribute) from None
            if stored in defaults:
                if same(defaults[stored], new):
                    continue  # still missing
                state[DEFAULTS] = defaults = {key: value for key, value in defaults.items() if key != stored}
            result[stored] = new
        if self._mapping.writes_type and self._mapping.discriminator not in source:
            result = {self._mapping.discriminator: self._mapping.name, **result}
        if not source or list(source) == list(result):
            return result
        ordered = {
            key: result.pop(key) if key in result else value
            for key, value in source.items()
            if key in result or key not in self._mapping.stored_names
        }
        return ordered | dict(sorted(result.items()))  # as the server adds them one by one

    def unchanged(self, instance: object, stored: dict[str, Any]) -> bool:
        """Whether `dump` would give the stored document, or one that reads the same."""
        state = vars(instance)
        defaults: dict[str, Any] = state.get(DEFAULTS, {})
        for part, attribute, key, _, _ in self._parts:
            there = stored if key in stored else defaults
            if attribute not in state:
                if key in stored:
                    return False  # deleted
                continue
            value, before = state[attribute], there.get(key, MISSING)
            if value is not before and (before is MISSING or not part.unchanged(value, before)):
                return False
        source: dict[str, Any] = state.get(SOURCE) or {}
        return stored is source or same(self._extra(source), self._extra(stored))

    def _extra(self, document: dict[str, Any]) -> dict[str, Any]:
        named = _without_name(self._mapping, document)
        return {key: value for key, value in named.items() if key not in self._mapping.stored_names}
