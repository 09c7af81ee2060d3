"""Stored documents to objects, by functions generated for each class.

The decoded dict that an object was loaded from is never changed: it is the snapshot that changes are found against.
It keeps the keys that the class does not map, their order, and 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat, starmap
from types import NoneType
from typing import Any

from superorm.exc import ValidationError
from superorm.schema.dates import EPOCH, NAIVE_EPOCH, is_datetime, make_aware
from superorm.schema.mapping import ClassMap, MappedField, class_map
from superorm.schema.partial import make_partial, make_whole, partial_class
from superorm.schema.relationships import forget_relationships
from superorm.schema.sourcegen import make_function
from superorm.schema.state import (
    DEFAULTS,
    GONE,
    RAW,
    TOUCHED,
    UNLOADED,
    is_unloaded,
    kept,
    mismatch,
    new_object,
    read_part,
)
from superorm.schema.types.artifacts import ArtifactType, Unread
from superorm.schema.types.base import Misfit
from superorm.schema.types.scalars import PLAIN_NAMES

__all__ = ["complete", "expire", "load", "load_partial", "recall", "reload", "renew", "restore", "unpack"]


def load(mapping: ClassMap, documents: Iterable[dict[str, Any]]) -> list[Any]:
    """New objects of stored documents, each of the class that its discriminator names.

    The dicts become the objects' snapshots.
    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    function = mapping.functions.get("load")
    if function is None:
        function = mapping.functions["load"] = _load_function(mapping, None)
    loaded: list[Any] = function(documents)
    return loaded


def load_partial(mapping: ClassMap, documents: Iterable[dict[str, Any]], attributes: frozenset[str]) -> list[Any]:
    """The same of documents that hold `ClassMap.stored_for` these attributes.

    Touching another attribute raises `NotLoadedError`.
    """
    loaded: list[Any] = _load_function(mapping, attributes)(documents)
    return loaded


def _load_function(mapping: ClassMap, attributes: frozenset[str] | None) -> Any:
    if not mapping.family:
        return _loader(mapping, attributes)

    def load_by_type(documents: Iterable[dict[str, Any]]) -> list[Any]:
        return _load_by_type(mapping, list(documents), attributes)

    return load_by_type


def _load_by_type(mapping: ClassMap, documents: list[dict[str, Any]], attributes: frozenset[str] | None) -> list[Any]:
    """Load each document as its own class, in order."""
    classes = _classes(mapping, documents)
    kinds = set(classes)
    if len(kinds) == 1:
        whole: list[Any] = _loader(kinds.pop(), attributes)(documents)
        return whole
    groups: dict[ClassMap, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for kind, document in zip(classes, documents, strict=True):
        groups[kind].append(document)
    loaded = {kind: iter(_loader(kind, attributes)(group)) for kind, group in groups.items()}
    return [next(loaded[kind]) for kind in classes]


def _classes(mapping: ClassMap, documents: list[dict[str, Any]]) -> list[ClassMap]:
    """The class of each document. Raises `ValidationError` for a discriminator that no class of the hierarchy has."""
    key, family = mapping.discriminator, mapping.family
    table: dict[Any, ClassMap] = {None: mapping, **family} if mapping.parent is None else {**family}
    try:
        return [table[document.get(key)] for document in documents]
    except (KeyError, TypeError):  # not known, or not even hashable
        if mapping.key.keep:
            names = [document.get(key) for document in documents]
            return [table.get(name, mapping) if isinstance(name, str | None) else mapping for name in names]
    for document in documents:
        name = document.get(key)
        if not isinstance(name, str | None) or name not in table:
            expected = f"the name of a known class ({', '.join(family)})"
            raise mismatch(mapping, document.get("_id"), Misfit(name, expected).within(key))
    raise AssertionError


def _loader(mapping: ClassMap, attributes: frozenset[str] | None) -> Any:
    """A function that loads documents as objects of this class itself, generated at the first call."""
    name = "load own" if attributes is None else f"load {' '.join(sorted(attributes))}"
    function = mapping.functions.get(name)
    if function is None:
        function = mapping.functions[name] = _make_load(mapping, attributes)
        _prime(mapping)
    return function


def _make_load(mapping: ClassMap, attributes: frozenset[str] | None) -> Any:
    unloaded = None if attributes is None else _others(mapping, attributes)

    def slow(instance: object, document: dict[str, Any]) -> None:
        _load_slowly(mapping, instance, document, unloaded)

    cls = mapping.cls if unloaded is None else partial_class(mapping)
    eager = [part for part in mapping.fields if not part.lazy and part.attribute not in (unloaded or ())]
    dates = {n: part for n, part in enumerate(eager) if is_datetime(part.type)}
    namespace: dict[str, Any] = {**PLAIN_NAMES, "cls": cls, "slow": slow, "unloaded": unloaded}
    namespace |= {"epoch": EPOCH, "naive_epoch": NAIVE_EPOCH, "repeat": repeat, "starmap": starmap}
    checks = [part.type.load_check(f"v{n}") for n, part in enumerate(eager)]
    if mapping.extra_forbidden and unloaded is None:
        checks.append(f"len(d) == {len(mapping.fields) + mapping.writes_type}")
    lines = ["def load(documents, new=cls.__new__, cls=cls):", "    documents = list(documents)"]
    lines += [  # all objects while they are empty, which the garbage collector looks through in no time
        "    out = list(starmap(new, repeat((cls,), len(documents))))",
        "    for d, o in zip(documents, out):",
        "        try:",
    ]
    lines += [f"            v{n} = d[{part.stored!r}]" for n, part in enumerate(eager)] or ["            pass"]
    lines += ["        except KeyError:", "            slow(o, d)", "            continue"]
    lines += [f"        if {' and '.join(checks) or 'True'}:"]
    for n, part in dates.items():
        there = "" if NoneType not in part.type.reads else f"v{n} is not None and "
        lines.append(f"            if {there}v{n}.tzinfo is None:")
        lines.append(f"                d[{part.stored!r}] = v{n} = epoch + (v{n} - naive_epoch)")
    lines += [f"            o.{part.attribute} = v{n}" for n, part in enumerate(eager)]
    if unloaded is not None:
        lines.append(f"            o.{UNLOADED} = unloaded")
    lines += [f"            o.{RAW} = d", "        else:", "            slow(o, d)", "    return out"]
    return make_function("load", f"load {mapping.name}", lines, namespace)


def _others(mapping: ClassMap, attributes: frozenset[str]) -> frozenset[str]:
    """The attributes that are not loaded with these: key and version always are."""
    always = (mapping.key, mapping.version)
    return frozenset(
        part.attribute for part in mapping.fields if part.attribute not in attributes and part not in always
    )


def _prime(mapping: ClassMap) -> None:
    """Fill one instance, so that all later ones share its keys."""
    instance = new_object(mapping)
    for part in mapping.fields:
        setattr(instance, part.attribute, None)
    setattr(instance, RAW, None)
    setattr(instance, TOUCHED, 0)


def _load_slowly(
    mapping: ClassMap, instance: object, document: dict[str, Any], unloaded: frozenset[str] | None
) -> None:
    """The same as the generated function, naming what does not fit and filling in what is missing."""
    make_aware(mapping, document)
    setattr(instance, RAW, document)
    if unloaded is not None:
        make_partial(mapping, instance, unloaded)
    restore(instance)
    _check_extra(mapping, document)


def _check_extra(mapping: ClassMap, document: dict[str, Any]) -> None:
    """Raise `ValidationError` for a key that the class does not map, where it forbids such."""
    if not mapping.extra_forbidden:
        return
    try:
        named = mapping.discriminator if mapping.family else None
        mapping.refuse_extra({key: value for key, value in document.items() if key != named})
    except Misfit as misfit:
        raise mismatch(mapping, document.get("_id"), misfit) from None


def restore(instance: object) -> None:
    """Make the object show its snapshot again, as if just loaded."""
    mapping = class_map(type(instance))
    state = vars(instance)
    for name in (DEFAULTS, TOUCHED, *(part.attribute for part in mapping.lazy_fields)):
        state.pop(name, None)
    _read_eagerly(mapping, instance, [part for part in mapping.fields if not part.lazy])


def unpack(instance: object) -> None:
    """Read the attributes that were not touched yet, before the object loses the document that they are read from.

    Those whose stored values do not fit become a copy of these, which is refused when the object is added again.
    """
    mapping = class_map(type(instance))
    state = vars(instance)
    document: dict[str, Any] = state.get(RAW) or state[GONE]
    for part in mapping.lazy_fields:
        if part.attribute in state or state.get(TOUCHED, 0) & part.bit or is_unloaded(part, state):
            continue
        if isinstance(part.type, ArtifactType) and document.get(part.stored) is not None:
            state[part.attribute] = Unread()
            continue
        try:
            state[part.attribute] = read_part(mapping, part, instance, document)
        except ValidationError:
            state[part.attribute] = kept(part, document, {})


def _read_eagerly(mapping: ClassMap, instance: object, parts: Iterable[MappedField]) -> None:
    state = vars(instance)
    document: dict[str, Any] = state[RAW]
    for part in parts:
        if is_unloaded(part, state):
            state.pop(part.attribute, None)
        else:
            setattr(instance, part.attribute, read_part(mapping, part, instance, document))


def renew(instance: object, document: dict[str, Any]) -> None:
    """Make the object show another, whole state of its document, which becomes its snapshot; changes are lost.

    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    make_whole(class_map(type(instance)), instance)
    setattr(instance, RAW, document)
    restore(instance)


def complete(instance: object, document: dict[str, Any], attributes: frozenset[str] | None = None) -> None:
    """Give a partial object what it lacks, of a whole document, or of one with only these attributes.

    What it has stays as it is, changed or not; where that is nothing, the version is the document's, too.
    Raises `ValidationError` naming document, field and value where a stored value does not fit.
    """
    mapping = class_map(type(instance))
    state = vars(instance)
    make_aware(mapping, document)
    if attributes is None:
        _check_extra(mapping, document)
    lacking = [
        part
        for part in mapping.fields
        if is_unloaded(part, state) and (attributes is None or part.attribute in attributes)
    ]
    stored = {part.stored for part in lacking}
    found = {
        key: value
        for key, value in document.items()
        if key in stored or (attributes is None and key not in mapping.stored_names)
    }
    have: dict[str, Any] = state[RAW]
    version = mapping.version
    anew = version is not None and have.keys() <= {"_id", mapping.discriminator, version.stored}
    if version is not None and anew:
        have = {key: value for key, value in {**have, **document}.items() if key in have or key == version.stored}
    shown = new_object(mapping)  # so that the object stays as it is where a value does not fit
    setattr(shown, RAW, {**found, **have})
    _read_eagerly(mapping, shown, [part for part in lacking if not part.lazy and part.attribute not in state])
    if version is not None and anew:
        _read_eagerly(mapping, shown, [version])
    defaults = {**state.get(DEFAULTS, {}), **vars(shown).get(DEFAULTS, {})}
    _untouch(instance, [part for part in lacking if part.attribute not in state])
    state.update(vars(shown))
    if defaults:
        state[DEFAULTS] = defaults
    if attributes is None:
        make_whole(mapping, instance)
    else:
        state[UNLOADED] = state[UNLOADED].difference(part.attribute for part in lacking)


def expire(instance: object, attributes: Iterable[str] | None = None, *, version: bool = False) -> None:
    """Forget the values of fields and relationships, by default of all, and what was changed in them.

    The key stays, and so does the version, unless it is to be forgotten with all the others.

    Raises `UnsupportedError` for classes with ``__slots__``.
    """
    mapping = class_map(type(instance))
    state = vars(instance)
    forget_relationships(mapping, instance, attributes)
    wanted = mapping.by_attribute.keys() if attributes is None else set(attributes)
    parts = [part for part in mapping.fields if part.attribute in wanted]
    if not parts:
        return
    stay = (mapping.key,) if version else (mapping.key, mapping.version)
    gone = [part for part in parts if part not in stay]
    unloaded = frozenset(part.attribute for part in gone).union(state.get(UNLOADED, ()))
    make_partial(mapping, instance, unloaded)
    names = {part.stored for part in gone}
    raw: dict[str, Any] = state[RAW]
    if attributes is None:  # keys that the class does not map, too
        names.update(key for key in raw if key not in mapping.stored_names and key != mapping.discriminator)
    setattr(instance, RAW, {key: value for key, value in raw.items() if key not in names})
    for part in parts:
        state.pop(part.attribute, None)
    _untouch(instance, parts)
    if DEFAULTS in state:
        state[DEFAULTS] = {key: value for key, value in state[DEFAULTS].items() if key not in names}
    _read_eagerly(mapping, instance, [part for part in parts if part not in gone and not part.lazy])


def recall(instance: object, attributes: frozenset[str]) -> None:
    """Read attributes that had expired, now that the object has its document back, and its version.

    What was set since stays.
    """
    mapping, state = class_map(type(instance)), vars(instance)
    lost = [part for part in mapping.fields if part.attribute in attributes and part.attribute not in state]
    version = [] if mapping.version is None else [mapping.version]
    _untouch(instance, lost)
    _read_eagerly(mapping, instance, [part for part in (*lost, *version) if not part.lazy])


def _untouch(instance: object, parts: Iterable[MappedField]) -> None:
    """Have attributes read again at their next touch: what was deleted of them is forgotten."""
    if TOUCHED in vars(instance):
        setattr(instance, TOUCHED, vars(instance)[TOUCHED] & ~sum(part.bit for part in parts))


def reload(instance: object, document: dict[str, Any], attributes: Iterable[str] | None = None) -> None:
    """Make the object show its document as it is now, or some attributes of it; what was changed in them is lost.

    Raises `ValidationError` where a stored value does not fit: of a whole document the object stays as it was,
    else its attributes are expired.
    """
    mapping = class_map(type(instance))
    if attributes is not None:
        whole = UNLOADED not in vars(instance)
        expire(instance, attributes)
        if UNLOADED in vars(instance):
            complete(instance, document, frozenset(attributes))
        if whole:
            make_whole(mapping, instance)
        return
    shown = new_object(mapping)
    make_aware(mapping, document)
    setattr(shown, RAW, document)
    restore(shown)
    _check_extra(mapping, document)
    renew(instance, document)
    forget_relationships(mapping, instance)
