"""Documents from BSON and back, by functions generated for each class.

The decoded dict that an object was loaded from is never changed: it is the snapshot that changes are found against.
It keeps the keys that the class does not map, their order, and 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define

from superorm.exc import ValidationError, VectorError
from superorm.schema.compare import diff_value
from superorm.schema.fast_dump import make_fast_dump
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.sourcegen import make_function
from superorm.schema.state import DEFAULTS, GONE, RAW, TOUCHED, mismatch, new_object, read_part
from superorm.schema.types.arrays import VectorType
from superorm.schema.types.base import Misfit
from superorm.schema.types.containers import UnionType
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = [
    "Change",
    "change_of",
    "dump",
    "has_changed",
    "key_of",
    "load",
    "possibly_changed",
    "restore",
    "stored_value",
    "written",
]


def load(mapping: ClassMap, documents: Iterable[dict[str, Any]]) -> list[Any]:
    """New objects of stored documents; the dicts become the objects' snapshots.

    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    function = mapping.functions.get("load")
    if function is None:
        function = mapping.functions["load"] = _make_load(mapping)
        _prime(mapping)
    loaded: list[Any] = function(documents)
    return loaded


def _make_load(mapping: ClassMap) -> Any:
    def slow(document: dict[str, Any]) -> object:
        return _load_slowly(mapping, document)

    namespace: dict[str, Any] = {
        **PLAIN_NAMES,
        "cls": mapping.cls,
        "slow": slow,
    }
    eager = [part for part in mapping.fields if not part.lazy]
    checks = [part.type.load_check(f"v{n}") for n, part in enumerate(eager)]
    if mapping.extra_forbidden:
        checks.append(f"len(d) == {len(mapping.fields)}")
    lines = ["def load(documents, new=cls.__new__, cls=cls):", "    out = []", "    append = out.append"]
    lines += ["    for d in documents:", "        try:"]
    lines += [f"            v{n} = d[{part.stored!r}]" for n, part in enumerate(eager)] or ["            pass"]
    lines += ["        except KeyError:", "            append(slow(d))", "            continue"]
    lines += [f"        if {' and '.join(checks) or 'True'}:", "            o = new(cls)"]
    lines += [f"            o.{part.attribute} = v{n}" for n, part in enumerate(eager)]
    lines += [f"            o.{RAW} = d", "            append(o)", "        else:", "            append(slow(d))"]
    lines += ["    return out"]
    return make_function("load", f"load {mapping.name}", lines, namespace)


def _prime(mapping: ClassMap) -> None:
    """Fill one instance, so that all later ones share its keys."""
    instance = new_object(mapping)
    for part in mapping.fields:
        setattr(instance, part.attribute, None)
    setattr(instance, RAW, None)
    setattr(instance, TOUCHED, 0)


def _load_slowly(mapping: ClassMap, document: dict[str, Any]) -> Any:
    """The same as the generated function, naming what does not fit and filling in what is missing."""
    instance = new_object(mapping)
    setattr(instance, RAW, document)
    restore(instance)
    if mapping.extra_forbidden:
        try:
            mapping.refuse_extra(document)
        except Misfit as misfit:
            raise mismatch(mapping, document.get("_id"), misfit) from None
    return instance


def restore(instance: object) -> None:
    """Make the object show its snapshot again, as if just loaded."""
    mapping = class_map(type(instance))
    state = vars(instance)
    document: dict[str, Any] = state[RAW]
    for name in (DEFAULTS, TOUCHED, *(part.attribute for part in mapping.lazy_fields)):
        state.pop(name, None)
    for part in mapping.fields:
        if not part.lazy:
            setattr(instance, part.attribute, read_part(mapping, part, instance, document))


def dump(mapping: ClassMap, instance: object) -> dict[str, Any]:
    """The whole document to store for a new object, or for one that was deleted.

    Raises `ValidationError` (`VectorError` for a vector) naming class, key, field and value.
    """
    function = mapping.functions.get("dump")
    if function is None:
        function = mapping.functions["dump"] = make_fast_dump(mapping, unless=GONE)
    found: dict[str, Any] | None = function(instance)
    return _dump_slowly(mapping, instance) if found is None else found


def _dump_slowly(mapping: ClassMap, instance: object) -> dict[str, Any]:
    """The same, naming what does not fit, and writing back what is normalised."""
    document: dict[str, Any] = {}
    for part in mapping.fields:
        try:
            value = getattr(instance, part.attribute)
        except AttributeError:
            continue  # deleted by the user
        document[part.stored] = stored_value(mapping, part, instance, value)
    gone: dict[str, Any] = vars(instance).get(GONE, {})
    return document | {key: value for key, value in gone.items() if key not in mapping.stored_names}


def written(mapping: ClassMap, instance: object, snapshot: dict[str, Any]) -> None:
    """The object was stored as `snapshot`."""
    state = vars(instance)
    state.pop(GONE, None)
    setattr(instance, RAW, snapshot)
    touched = sum(part.bit for part in mapping.lazy_fields if part.attribute in state)
    if touched:
        setattr(instance, TOUCHED, touched | state.get(TOUCHED, 0))


def stored_value(mapping: ClassMap, part: MappedField, instance: object, value: Any) -> Any:
    """The BSON value of a field. What a converter makes of it, or a plain value normalised, goes into the object.

    Raises `ValidationError`, `VectorError`.
    """
    try:
        return part.store(instance, value)
    except Misfit as misfit:
        raise _invalid(mapping, part, instance, misfit) from misfit.error


def _invalid(mapping: ClassMap, part: MappedField, instance: object, misfit: Misfit) -> ValidationError | VectorError:
    key = key_of(mapping, instance)
    path = ".".join([part.attribute, *misfit.path])
    members = part.type.members if isinstance(part.type, UnionType) else (part.type,)
    kind = VectorError if any(isinstance(member, VectorType) for member in members) else ValidationError
    return kind(
        f"{mapping.name} {key!r}: {path} cannot be stored: {misfit.describe()}",
        document_class=mapping.cls,
        key=key,
        field=path,
    )


def key_of(mapping: ClassMap, instance: object) -> Any:
    """The key of an object, for messages: as stored, or else as the user gave it."""
    state = vars(instance)
    raw: dict[str, Any] | None = state.get(RAW)
    return state.get(mapping.key.attribute) if raw is None else raw["_id"]


@define
class Change:
    """What a flush has to do for an object that was stored before."""

    update: dict[str, Any]
    """``$set`` and ``$unset``."""
    snapshot: dict[str, Any]
    """The document after it."""
    fields: frozenset[str]
    """The stored names of the top-level fields that change."""


def possibly_changed(mapping: ClassMap, objects: Iterable[Any]) -> list[Any]:
    """Those of the stored objects that may differ from their snapshots: a quick scan by identity."""
    function = mapping.functions.get("scan")
    if function is None:
        function = mapping.functions["scan"] = _make_scan(mapping)
    found: list[Any] = function(objects)
    return found


def _make_scan(mapping: ClassMap) -> Any:
    tests = [f"o.{part.attribute} is d[{part.stored!r}]" for part in mapping.fields if not part.lazy]
    lazy = [part.attribute for part in mapping.lazy_fields]
    if lazy:
        tests.append("lazy.isdisjoint(o.__dict__)")
    lines = ["def scan(objects):", "    out = []", "    append = out.append"]
    lines += ["    for o in objects:", f"        d = o.{RAW}", "        try:"]
    lines += [f"            if {' and '.join(tests)}:", "                continue"]
    lines += ["        except (KeyError, AttributeError):", "            pass", "        append(o)", "    return out"]
    return make_function("scan", f"scan {mapping.name}", lines, {"lazy": frozenset([*lazy, TOUCHED])})


def change_of(mapping: ClassMap, instance: object) -> Change | None:
    """What has changed since the snapshot; None where nothing has.

    Raises `ValidationError`, also where the key was changed.
    """
    function = mapping.functions.get("changed")
    if function is None:
        function = mapping.functions["changed"] = _make_changed(mapping)
    changed: list[MappedField] = function(instance)
    if not changed:
        return None
    state = vars(instance)
    old: dict[str, Any] = state[RAW]
    new = dict(old)
    sets: dict[str, Any] = {}
    unsets: dict[str, Any] = {}
    for part in changed:
        stored = part.stored
        if part.attribute not in state:
            del new[stored]
            unsets[stored] = ""
            continue
        new[stored] = value = stored_value(mapping, part, instance, state[part.attribute])
        if stored not in old:
            sets[stored] = value
        else:
            diff_value(stored, old[stored], value, sets, unsets)
            if part.type.plain and stored in sets:  # what is sent, so that the next scan by identity finds nothing
                new[stored] = sets[stored]
                setattr(instance, part.attribute, sets[stored])
    if not sets and not unsets:
        return None
    if mapping.key in changed:
        raise ValidationError(
            f"{mapping.name} {old['_id']!r}: the key of a stored document cannot change; "
            "delete it and add a new one instead",
            document_class=mapping.cls,
            key=old["_id"],
            field=mapping.key.attribute,
        )
    update: dict[str, Any] = {}
    if sets:
        update["$set"] = sets
    if unsets:
        update["$unset"] = unsets
    return Change(update, new, frozenset([part.stored for part in changed]))


def _make_changed(mapping: ClassMap) -> Any:
    """A function that gives the fields of a stored object that are not what its snapshot reads as."""
    namespace: dict[str, Any] = {"has_changed": has_changed, "fields": mapping.fields}
    lines = ["def changed(o):", f"    d = o.{RAW}", "    s = o.__dict__", f"    t = {TOUCHED!r} in s"]
    lines += ["    out = []", "    try:"]
    for n, part in enumerate(mapping.fields):
        namespace |= {f"p{n}": part, f"unchanged{n}": part.type.unchanged}
        value, raw = f"s[{part.attribute!r}]", f"d[{part.stored!r}]"
        differs = f"{value} is not {raw} and not unchanged{n}({value}, {raw})"
        if part.lazy:
            differs = f"({differs} if {part.attribute!r} in s else t and has_changed(p{n}, o))"
        lines += [f"        if {differs}:", f"            out.append(p{n})"]
    lines += [
        "    except KeyError:",
        "        return [part for part in fields if has_changed(part, o)]",
        "    return out",
    ]
    return make_function("changed", f"changed {mapping.name}", lines, namespace)


def has_changed(part: MappedField, instance: object) -> bool:
    """Whether a field of a stored object is not what its snapshot reads as."""
    state = vars(instance)
    old: dict[str, Any] = state[RAW]
    if part.attribute not in state:  # never read, or deleted
        return part.stored in old and bool(not part.lazy or state.get(TOUCHED, 0) & part.bit)
    there = old if part.stored in old else state.get(DEFAULTS, {})
    if part.stored not in there:
        return True
    value, before = state[part.attribute], there[part.stored]
    return value is not before and not part.type.unchanged(value, before)
