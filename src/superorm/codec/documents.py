"""Objects to documents: whole ones, and what changed since they were stored, by functions generated for each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from attrs import Factory, define

from superorm.codec.loading import complete, expire, load, load_partial, recall, reload, renew, restore, unpack
from superorm.exc import NotLoadedError, ValidationError, VectorError
from superorm.expr.narrow import is_dict
from superorm.expr.reprs import short_repr
from superorm.schema.compare import diff_value, same
from superorm.schema.fast_dump import make_dump_all
from superorm.schema.fields import MISSING
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.parts import is_vector
from superorm.schema.sourcegen import make_function
from superorm.schema.state import (
    DEFAULTS,
    GONE,
    RAW,
    TOUCHED,
    UNLOADED,
    delete_part,
    has_getattr,
    is_unloaded,
    not_loaded,
)
from superorm.schema.types.base import Misfit, Missing
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = [
    "Changes",
    "Edit",
    "changes_of",
    "check_versions",
    "complete",
    "dump",
    "dump_all",
    "expire",
    "guard_of",
    "has_changed",
    "invalid",
    "is_changed",
    "key_of",
    "load",
    "load_partial",
    "possibly_changed",
    "recall",
    "refresh",
    "reload",
    "renew",
    "restore",
    "revert",
    "show_version",
    "stored_value",
    "unpack",
    "update_of",
    "written",
]


def dump(mapping: ClassMap, instance: object) -> dict[str, Any]:
    """The whole document to store for a new object, or for one that was deleted.

    Raises `ValidationError` (`VectorError` for a vector) naming class, key, field and value,
    and `NotLoadedError` for a partial object.
    """
    return dump_all(mapping, (instance,))[0]


def dump_all(mapping: ClassMap, instances: Iterable[object]) -> list[dict[str, Any]]:
    """The same of many objects of the class."""
    function = mapping.functions.get("dump_all")
    if function is None:
        function = mapping.functions["dump_all"] = make_dump_all(mapping, GONE, partial(_dump_slowly, mapping))
    dumped: list[dict[str, Any]] = function(instances)
    return dumped


def _dump_slowly(mapping: ClassMap, instance: object) -> dict[str, Any]:
    """The same, naming what does not fit, and writing back what is normalised."""
    state = vars(instance)
    gone: dict[str, Any] = state.get(GONE) or {}
    if UNLOADED in state:
        key = gone.get("_id")
        raise NotLoadedError(
            f"{mapping.name} {key!r} was loaded in part only, so it cannot be added again; "
            "load the whole document first",
            document_class=mapping.cls,
            key=key,
        )
    document: dict[str, Any] = {mapping.discriminator: mapping.name} if mapping.writes_type else {}
    for part in mapping.fields:
        if part is mapping.version:
            document[part.stored] = _next_version(mapping, part, instance, gone)
            continue
        try:
            value = getattr(instance, part.attribute)
        except AttributeError:
            _check_left_out(mapping, part, instance)
            continue
        if part.keep and part.stored in gone and same(gone[part.stored], value):
            document[part.stored] = gone[part.stored]
        elif part.keep and value is None and state.get(DEFAULTS, {}).get(part.stored, MISSING) is None:
            continue  # still missing
        else:
            document[part.stored] = stored_value(mapping, part, instance, value)
    return document | {key: value for key, value in gone.items() if key not in mapping.stored_names}


def _next_version(mapping: ClassMap, part: MappedField, instance: object, before: dict[str, Any]) -> int:
    """The version after that of the document `before`.

    Raises `ValidationError` where the object has another, `NotLoadedError` where it has expired.
    """
    version = before.get(part.stored, 0)
    value = vars(instance).get(part.attribute)
    if isinstance(value, bool) or value != version:
        if is_unloaded(part, vars(instance)):
            raise not_loaded(mapping, part, before)
        key = key_of(mapping, instance)
        raise ValidationError(
            f"{mapping.name} {key!r}: {part.attribute} was set to {short_repr(value)}; it is a version, "
            f"which superorm alone changes: leave it at {version!r}",
            document_class=mapping.cls,
            key=key,
            field=part.attribute,
        )
    return int(version) + 1


def show_version(mapping: ClassMap, instance: object, document: dict[str, Any]) -> None:
    """Let the object show the version that its document has."""
    part = mapping.version
    if part is not None:
        setattr(instance, part.attribute, int(document.get(part.stored, 0)))


def check_versions(mapping: ClassMap, instances: Iterable[object]) -> None:
    """Raise `NotLoadedError` where the version of a stored object, to be deleted only at that version, has expired."""
    part = mapping.version
    for instance in instances if part is not None else ():
        state = vars(instance)
        if part is not None and is_unloaded(part, state):
            raise not_loaded(mapping, part, state[RAW])


def guard_of(mapping: ClassMap, document: dict[str, Any]) -> dict[str, Any]:
    """The filter that a document still meets while its version is the same; empty without versions."""
    part = mapping.version
    if part is None:
        return {}
    return {part.stored: document.get(part.stored, {"$exists": False})}


def written(mapping: ClassMap, instances: Sequence[Any], snapshots: Sequence[dict[str, Any]]) -> None:
    """The objects were stored as their snapshots."""
    version, lazy = mapping.version, mapping.lazy_fields
    for instance, snapshot in zip(instances, snapshots, strict=True):
        if instance._superorm_gone is not None:
            delattr(instance, GONE)
        instance._superorm_raw = snapshot
        if version is not None:
            show_version(mapping, instance, snapshot)
        if lazy:
            state: dict[str, Any] = instance.__dict__
            touched = sum(part.bit for part in lazy if part.attribute in state)
            if touched:
                setattr(instance, TOUCHED, touched | state.get(TOUCHED, 0))


def stored_value(mapping: ClassMap, part: MappedField, instance: object, value: Any) -> Any:
    """The BSON value of a field. What a converter makes of it, or a plain value normalised, goes into the object.

    Raises `ValidationError`, `VectorError`.
    """
    try:
        return part.store(instance, value)
    except Misfit as misfit:
        raise invalid(mapping, part, instance, misfit) from misfit.error


def _check_left_out(mapping: ClassMap, part: MappedField, instance: object) -> None:
    """Raise `ValidationError` where an object lacks an attribute without which its document could not be read."""
    if not part.keep and not part.has_default:
        raise invalid(mapping, part, instance, Missing(part.type.name))


def invalid(mapping: ClassMap, part: MappedField, instance: object, misfit: Misfit) -> ValidationError | VectorError:
    """The error of a value of a document's field that cannot be stored."""
    key = key_of(mapping, instance)
    path = ".".join([part.attribute, *misfit.path])
    kind = VectorError if is_vector(part.type, misfit.path) else ValidationError
    return kind(
        f"{mapping.name} {short_repr(key)}: {path} cannot be stored: {misfit.describe()}",
        document_class=mapping.cls,
        key=key,
        field=path,
    )


def key_of(mapping: ClassMap, instance: object) -> Any:
    """The key of an object, for messages: as stored, or else as the user gave it."""
    state = vars(instance)
    raw: dict[str, Any] | None = state.get(RAW)
    return state.get(mapping.key.attribute) if raw is None else raw["_id"]


Edit: TypeAlias = tuple[str, ...] | dict[str, Any]
"""The keys to set to what the document's new snapshot has, or else the whole update."""


@define
class Changes:
    """What a flush has to do for objects of a class that were stored before. In columns: there may be many."""

    objects: list[Any] = Factory(list[Any])
    edits: list[Edit] = Factory(list[Edit])
    before: list[dict[str, Any]] = Factory(list[dict[str, Any]])
    """The documents before it: the objects' snapshots."""
    snapshots: list[dict[str, Any]] = Factory(list[dict[str, Any]])
    """The documents after it."""

    @property
    def updates(self) -> list[dict[str, Any]]:
        """``$set`` and ``$unset`` of each, made anew; what is in both is new, to be added in the order of ``$set``."""
        return list(map(update_of, self.edits, self.snapshots))


def update_of(edit: Edit, snapshot: dict[str, Any]) -> dict[str, Any]:
    """``$set`` and ``$unset`` for a document that is to be like the snapshot."""
    if type(edit) is dict:
        return edit
    if len(edit) == 1:
        (name,) = edit
        return {"$set": {name: snapshot[name]}}
    return {"$set": {name: snapshot[name] for name in edit}}


def possibly_changed(mapping: ClassMap, objects: Iterable[Any]) -> list[Any]:
    """Those of the stored objects that may differ from their snapshots: a quick scan, by identity where that can be."""
    function = mapping.functions.get("scan")
    if function is None:
        function = mapping.functions["scan"] = _make_scan(mapping)
    found: list[Any] = function(objects)
    return found


def _make_scan(mapping: ClassMap) -> Any:
    namespace: dict[str, Any] = {}
    tests = [f"d[{part.stored!r}] is o.{part.attribute}" for part in mapping.fields if not part.lazy]
    by_name = not has_getattr(mapping.cls)  # else by __dict__, which takes time and memory to make
    if mapping.lazy_fields:
        touched = f"(t := o.{TOUCHED})" if by_name else f"(t := (s := o.__dict__).get({TOUCHED!r}, 0))"
        tests.append(f"({touched} is not None)")
    for n, part in enumerate(mapping.lazy_fields):
        namespace[f"unchanged{n}"] = part.unchanged
        raw, name = f"(r := d[{part.stored!r}])", part.attribute
        if by_name:
            same = f"{raw} is (v := o.{name}) or unchanged{n}(v, r)"
            tests.append(f"(({same}) if t & {part.bit} or {name!r} in o.__dict__ else True)")
        else:
            same = f"{raw} is (v := s[{name!r}]) or unchanged{n}(v, r)"
            tests.append(f"(({same}) if {name!r} in s else not t & {part.bit})")
    lines = ["def scan(objects):", "    out = []", "    append = out.append"]
    lines += ["    for o in objects:", f"        d = o.{RAW}", "        try:"]
    lines += [f"            if {' and '.join(tests)}:", "                continue"]
    lines += ["        except (KeyError, AttributeError):", "            pass", "        append(o)", "    return out"]
    return make_function("scan", f"scan {mapping.name}", lines, namespace)


def changes_of(mapping: ClassMap, objects: Iterable[Any]) -> Changes:
    """The objects that have changed since their snapshots, and what has.

    Raises `ValidationError`, also where the key was changed.
    """
    function = mapping.functions.get("changes")
    if function is None:
        function = mapping.functions["changes"] = _make_changes(mapping)
    found = Changes()
    function(objects, found, found.objects, found.edits, found.before, found.snapshots)
    return found


def _change(mapping: ClassMap, instance: object, found: Changes) -> None:
    """Add what has changed in an object, if anything."""
    changed = [part for part in mapping.fields if has_changed(part, instance)]
    if not changed:
        return
    state = vars(instance)
    old: dict[str, Any] = state[RAW]
    version = mapping.version
    next_version = None if version is None else _next_version(mapping, version, instance, old)
    new = dict(old)
    sets: dict[str, Any] = {}
    unsets: dict[str, Any] = {}
    for part in changed:
        stored = part.stored
        if part.attribute not in state:
            _check_left_out(mapping, part, instance)
            del new[stored]
            unsets[stored] = ""
            continue
        new[stored] = value = stored_value(mapping, part, instance, state[part.attribute])
        if stored not in old:
            sets[stored] = value
            if is_dict(value) and _reads_as_document(part, state):  # others may have changed other parts of it
                unsets[stored] = ""
            continue
        sent = diff_value(stored, old[stored], value, sets, unsets, exact=version is not None)
        if not part.type.plain:
            new[stored] = sent
        elif stored in sets:  # so that the next scan by identity finds nothing
            new[stored] = sent
            setattr(instance, part.attribute, sent)
    if not sets and not unsets:
        return
    if mapping.key in changed:
        raise ValidationError(
            f"{mapping.name} {old['_id']!r}: the key of a stored document cannot change; "
            "delete it and add a new one instead",
            document_class=mapping.cls,
            key=old["_id"],
            field=mapping.key.attribute,
        )
    if version is not None:
        sets[version.stored] = new[version.stored] = next_version
    update: dict[str, Any] = {}
    if sets:
        update["$set"] = sets
    if unsets:
        update["$unset"] = unsets
    found.objects.append(instance)
    found.edits.append(update)
    found.before.append(old)
    found.snapshots.append(new)


def _reads_as_document(part: MappedField, state: dict[str, Any]) -> bool:
    """Whether a field whose key is missing shows a document, its default, of which parts may be changed."""
    if is_unloaded(part, state):
        return False
    defaults = state.get(DEFAULTS, {})
    try:
        return is_dict(defaults[part.stored] if part.stored in defaults else part.missing()[1])
    except Misfit:
        return False


def _make_changes(mapping: ClassMap) -> Any:
    """A function that adds the changes of objects to `Changes`, given with its columns.

    It sees itself to objects in which only plain fields differ; `_change` does the rest.
    """
    namespace: dict[str, Any] = {**PLAIN_NAMES, "has_changed": has_changed, "same": same}
    namespace["change"] = partial(_change, mapping)
    lines = ["def changes(objects, found, changed, edits, before, snapshots):", "    for o in objects:"]
    lines += [f"        d = o.{RAW}", "        edit = None", "        other = False", "        try:"]
    by_name = not mapping.lazy_fields and not has_getattr(mapping.cls)  # else by __dict__, which takes time to make
    if not by_name:
        lines += ["            s = o.__dict__", f"            t = {TOUCHED!r} in s"]
    for n, part in enumerate(mapping.fields):
        namespace |= {f"p{n}": part, f"unchanged{n}": part.unchanged}
        value, raw = f"o.{part.attribute}" if by_name else f"s[{part.attribute!r}]", f"d[{part.stored!r}]"
        if part.type.plain and not part.checked and part is not mapping.key and mapping.version is None:
            lines += [f"            if {raw} is not {value}:", f"                r = {raw}; v = {value}"]
            lines.append(f"                if type(v) is type(r) and {part.type.dump_check('v')}:")
            lines.append("                    if not same(r, v) if type(v) is float else v != r:")
            lines.append(f"                        if edit is None: edit = {(part.stored,)!r}; new = d.copy()")
            lines.append(f"                        else: edit += {(part.stored,)!r}")
            lines.append(f"                        new[{part.stored!r}] = v")
            lines += [f"                elif not unchanged{n}(v, r):", "                    other = True"]
            continue
        differs = f"{raw} is not {value} and not unchanged{n}({value}, {raw})"
        if part.lazy:
            differs = f"({differs} if {part.attribute!r} in s else t and has_changed(p{n}, o))"
        lines += [f"            if {differs}:", "                other = True"]
    lines += ["        except (AttributeError, KeyError):", "            other = True"]
    lines += ["        if other:", "            change(o, found)"]
    lines += ["        elif edit is not None:", "            changed.append(o)", "            edits.append(edit)"]
    lines += ["            before.append(d)", "            snapshots.append(new)"]
    return make_function("changes", f"changes {mapping.name}", lines, namespace)


def refresh(instance: object, document: dict[str, Any]) -> None:
    """Make the object show another, whole state of its document; attributes that the user changed stay as they are."""
    mapping = class_map(type(instance))
    state = vars(instance)
    kept = [(part, state.get(part.attribute, MISSING)) for part in mapping.fields if has_changed(part, instance)]
    renew(instance, document)
    for part, value in kept:
        if value is MISSING:
            delete_part(part, instance)
            continue
        setattr(instance, part.attribute, value)
        if part.lazy:  # so that a deletion is noticed
            setattr(instance, TOUCHED, state.get(TOUCHED, 0) | part.bit)


def revert(instance: object) -> None:
    """Make the object show its snapshot again; lists, embedded objects and the like that are as there stay the same."""
    mapping = class_map(type(instance))
    state = vars(instance)
    there = [part for part in mapping.lazy_fields if part.attribute in state and not is_unloaded(part, state)]
    parts = [part for part in there if not has_changed(part, instance)]
    values = {part.attribute: state[part.attribute] for part in parts}
    before: dict[str, Any] = state.get(DEFAULTS, {})
    restore(instance)
    defaults = {part.stored: before[part.stored] for part in parts if part.stored in before}
    state.update(values)
    if defaults:
        state[DEFAULTS] = {**state.get(DEFAULTS, {}), **defaults}
    if parts:
        setattr(instance, TOUCHED, sum(part.bit for part in parts))


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
    return value is not before and not part.unchanged(value, before)


def is_changed(mapping: ClassMap, instance: object) -> bool:
    """Whether any field of a stored object is not what its snapshot reads as."""
    return any(has_changed(part, instance) for part in mapping.fields)
