# pyright: reportPrivateUsage=false
"""What an update gives to a field that classes declare differently, as documents of each of them store it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from attrs import evolve, frozen

from superorm.compile.constants import fails
from superorm.compile.paths import key_below
from superorm.compile.scope import Scope
from superorm.compile.sets import as_set, is_set
from superorm.exc import StatementError, SuperormError, ValidationError, VectorError
from superorm.expr.assignments import Assignment
from superorm.expr.kinds import is_expr
from superorm.expr.nodes import Field
from superorm.expr.sources import class_of
from superorm.expr.typed import types
from superorm.schema.as_declared import as_declared
from superorm.schema.compare import same
from superorm.schema.expression_types import type_of
from superorm.schema.mapping import ClassMap, MappedField
from superorm.schema.members import AnyPart, declared_alike, part_in, requires, single_document, stepped
from superorm.schema.types.base import Misfit
from superorm.schema.types.embedded import EmbeddedType
from superorm.schema.types.fitting import has_fixed_length, has_literal_numbers

__all__ = ["ByClass", "each_form", "fitted", "inserted_form", "is_computed"]

_GIVING = ("to", "inc", "push", "add_to_set")
_RESIZING = ("push", "add_to_set", "pull", "pop")


@frozen(eq=False)
class _Fails:
    """No document of a class could be read with the value."""

    error: SuperormError


@frozen(eq=False)
class _AsSet:
    """The lists that an expression gives, in the order of sets."""

    value: Any


@frozen(eq=False)
class ByClass:
    """Values by what stands under a discriminator."""

    told: Any
    """The discriminator, as an expression."""
    cases: Sequence[tuple[Sequence[str], _Form]]
    """The names of classes, and what their documents are given."""
    default: _Form
    """For all others, and those that name no class."""


_Form: TypeAlias = "ByClass | _AsSet | _Fails | Any"


def is_computed(value: _Form) -> bool:
    """Whether what documents are given is an expression's."""
    if isinstance(value, ByClass):
        return is_computed(value.default) or any(is_computed(form) for _, form in value.cases)
    return isinstance(value, _AsSet) or is_expr(value)


def inserted_form(value: _Form) -> Any:
    """What a new document is given, which is of the statement's own class. Raises what says that it cannot hold it."""
    while isinstance(value, ByClass):
        value = value.default
    if isinstance(value, _Fails):
        raise value.error
    return value


def each_form(value: _Form, emit: Callable[[Any], Any], told: Any = None) -> Any:
    """The value as an expression, each of its forms as `emit` makes one of it.

    `told` is the discriminator of the documents that it is for, where there are others.
    """
    if isinstance(value, _Fails):
        return fails(f"{value.error}; a document is of class", {"$toString": {"$ifNull": [told, "none"]}})
    if isinstance(value, _AsSet):
        return as_set(emit(value.value))
    if not isinstance(value, ByClass):
        return emit(value)
    branches = [
        {
            "case": {"$eq": [value.told, *names]} if len(names) == 1 else {"$in": [value.told, [*names]]},
            "then": each_form(form, emit, value.told),
        }
        for names, form in value.cases
    ]
    return {"$switch": {"branches": branches, "default": each_form(value.default, emit, value.told)}}


def fitted(mapping: ClassMap, assignment: Assignment[Any], scope: Scope) -> Assignment[Any]:
    """The same with what documents of the class and its subclasses store, `ByClass` where that differs.

    Raises `ValidationError`, `StatementError` where none of these could be read with the value, or without it.
    """
    form = _Forms(assignment, scope).of_root(mapping)
    if isinstance(form, _Fails):
        raise form.error
    return assignment if form is assignment.value else evolve(assignment, value=form)


class _Forms:
    """The forms of one assignment's value."""

    def __init__(self, assignment: Assignment[Any], scope: Scope) -> None:
        self._assignment = assignment
        self._field = cast("Field[Any, Any]", assignment.field)
        self._parts = cast("tuple[AnyPart, ...]", self._field._parts)
        self._scope = scope
        self._expressions: list[tuple[AnyPart, Any]] = []
        self._sets: list[_AsSet] = []

    def of_root(self, mapping: ClassMap) -> _Form:
        first = cast("MappedField", self._parts[0])
        own = mapping.by_attribute.get(first.attribute, first)
        default = self._below(own, 1, mapping.cls, mapping)
        computed = is_expr(self._assignment.value)
        others = [
            (one.type_name, self._below(part, 1, one.cls, one))
            for one in mapping.subclasses
            if (part := one.by_attribute.get(first.attribute)) is not None
            and (computed or not declared_alike(part, own))
        ]
        return _by_class(f"${mapping.discriminator}", others, default)

    def _below(self, part: AnyPart, depth: int, holder: Any, document: ClassMap) -> _Form:
        """The form where the first parts of the field's path lead to `part`, a field of the class `holder`."""
        if depth == len(self._parts):
            return self._form(part, holder, document)
        following = self._parts[depth]
        if not isinstance(following, MappedField):
            if depth == len(self._parts) - 1 and self._assignment.op == "unset" and requires(part, following):
                return self._unreadable(stepped(part, following))
            return self._below(stepped(part, following), depth + 1, None, document)
        kind = single_document(part)
        if kind is None:
            return self._below(following, depth + 1, None, document)
        named = {one: field for one in kind.classes if (field := part_in(one, following.stored)) is not None}
        strict = {one: self._undeclared(one) for one in kind.classes if self._refuses(one, following)}
        own, holder = following, None
        default: _Form = None
        if isinstance(kind, EmbeddedType):  # which documents are of that do not say it
            own, holder = named.get(kind.mapping, following), kind.mapping.cls
            default = strict.pop(kind.mapping, None)
        alone = default is None
        default = default or self._below(own, depth + 1, holder, document)
        others = [
            (one.type_name, self._below(field, depth + 1, one.cls, document))
            for one, field in named.items()
            if not (alone and declared_alike(field, own))
        ]
        others += [(one.type_name, form) for one, form in strict.items()]
        if not others:
            return default
        path = ".".join(cast("str", above.stored) for above in self._parts[:depth])
        above: Field[Any, Any] = Field(self._field._owner, path, self._parts[:depth])
        return _by_class(key_below(above, kind.discriminator, self._scope), others, default)

    def _refuses(self, mapping: ClassMap, part: MappedField) -> bool:
        """Whether a class of embedded documents does not take a key that it would be given."""
        return self._assignment.op in _GIVING and mapping.extra_forbidden and part_in(mapping, part.stored) is None

    def _undeclared(self, mapping: ClassMap) -> _Form:
        why = f'{mapping.name} does not declare it, and __extra__ = "forbid" refuses what it does not declare'
        return _Fails(StatementError(f"{self._field!r} cannot be assigned: {why}", field=self._field._path))

    def _unreadable(self, part: AnyPart) -> _Form:
        advice = "documents cannot be read without it; give it a default, or assign a value with to()"
        return self._fails(part, f"cannot be assigned: {advice}")

    def _fails(self, part: AnyPart, why: str) -> _Form:
        name = repr(self._field) if part is self._parts[-1] else part.where
        return _Fails(
            StatementError(f"{name} {why}", document_class=class_of(self._field._owner), field=self._field._path)
        )

    def _form(self, part: AnyPart, holder: Any, document: ClassMap) -> _Form:
        own, value, op = self._parts[-1], self._assignment.value, self._assignment.op
        if op == "unset":
            return self._unreadable(part) if isinstance(part, MappedField) and not part.has_default else value
        if op in _RESIZING and has_fixed_length(part.type):
            return self._fails(part, f"is a {part.type.name}, whose length {op}() changes; assign it with to()")
        if op == "inc" and has_literal_numbers(part.type):
            return self._fails(part, f"is a {part.type.name}, which a sum need not be; assign it with to()")
        if op not in _GIVING:
            return value
        alike = part is own or (
            isinstance(part, MappedField) and isinstance(own, MappedField) and declared_alike(part, own)
        )
        try:
            if is_expr(value):
                return self._computed(part, document, alike=alike)
            if alike:
                return value
            if op in ("to", "inc"):
                stored = self._stored(own, part, value, holder if op == "to" else None)
            elif is_set(part.type) != is_set(own.type):
                other = "set" if is_set(part.type) else "list"
                return _Fails(StatementError(f"{part.where} is a {other}, whose order {op}() does not keep"))
            else:
                elements = own.element(None), part.element(None)
                stored = [self._stored(*elements, one, None) for one in value]
        except (StatementError, ValidationError, VectorError) as error:
            return _Fails(error)
        return value if same(value, stored) else stored

    def _computed(self, part: AnyPart, document: ClassMap, *, alike: bool) -> _Form:
        """The form of an expression in documents of one class. Raises `StatementError` where they may not hold it."""
        own, given = self._parts[-1], self._assignment.value
        value = given if alike else types().restored(given, own.type, part.type)
        listed = False
        for one in as_declared(value, document):
            if not (alike and one is given):
                self._check(part, one)
            listed = listed or not is_set(type_of(one))
        value = given if alike else self._taken(part, value)
        if not (listed and is_set(part.type)) or (is_set(own.type) and not is_set(type_of(given))):
            return value  # as it is, or made a set in all documents
        found = next((one for one in self._sets if one.value is value), _AsSet(value))
        self._sets.append(found)
        return found

    def _taken(self, part: AnyPart, restored: Any) -> Any:
        """The expression with its literals as the part takes them; the same object for the same declaration."""
        for known, taken in self._expressions:
            if isinstance(known, MappedField) and isinstance(part, MappedField) and declared_alike(known, part):
                return taken
        taken = self._check(part, restored)
        self._expressions.append((part, taken))
        return taken

    def _check(self, part: AnyPart, value: Any) -> Any:
        """The expression as the part takes it. Raises `StatementError` where it surely could not be read with it."""
        field: Field[Any, Any] = Field(self._field._owner, self._field._path, (*self._parts[:-1], cast("Any", part)))
        try:
            return types().assigned(field, value, adds=self._assignment.op == "inc")
        except StatementError as error:
            raise StatementError(f"{part.where}: {error}", field=self._field._path) from None

    @staticmethod
    def _stored(own: AnyPart, part: AnyPart, value: Any, holder: Any) -> Any:
        try:
            return part.stored_value(own.type.from_bson(value), part.where, holder)
        except Misfit:  # stored as nothing that could be read again
            return value


def _by_class(told: Any, others: Sequence[tuple[str, _Form]], default: _Form) -> _Form:
    """The forms by the names of their classes, those that are not the default's; the default where all of them fail."""
    if isinstance(default, _Fails) and all(isinstance(form, _Fails) for _, form in others):
        return default
    cases: list[tuple[list[str], _Form]] = []
    for name, form in others:
        if _same(form, default):
            continue
        names = next((names for names, known in cases if _same(known, form)), None)
        if names is None:
            cases.append(([name], form))
        else:
            names.append(name)
    return ByClass(told, cases, default) if cases else default


def _same(one: _Form, other: _Form) -> bool:
    if one is other:
        return True
    if any(isinstance(form, (ByClass, _AsSet, _Fails)) or is_expr(form) for form in (one, other)):
        return False
    return same(one, other)
