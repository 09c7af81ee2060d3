"""What superorm knows of a mapped class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin

import attrs
import numpy as np
from attrs import define, field

from superorm.exc import MappingError, UnsupportedError
from superorm.schema.compare import same
from superorm.schema.fields import MISSING, ArtifactFieldSpec, FieldSpec, VectorFieldSpec, is_stored_name
from superorm.schema.parts import Part, compared, element_part, item_part, refused, storable, value_part
from superorm.schema.scope import Scope
from superorm.schema.types.arrays import VectorType
from superorm.schema.types.artifacts import ArtifactType
from superorm.schema.types.base import BsonType, Misfit, Missing, Rejected, Undeclared
from superorm.schema.types.containers import AnyType, UnionType
from superorm.schema.types.registered import Unregistered
from superorm.schema.types.resolve import resolve
from superorm.schema.types.scalars import NoneType
from superorm.schema.vector_fields import VectorField, vectors_of

if TYPE_CHECKING:
    from superorm.schema.relationships import Relationship

__all__ = ["ClassMap", "MappedField", "class_map"]

_Class: TypeAlias = type
_Comparison: TypeAlias = Callable[[Any, Any], bool]


@define(eq=False)
class MappedField:
    """One field of a class. Expressions hold it as their `FieldType`, so that its type is resolved only when needed."""

    owner: str
    attribute: str
    stored: str
    spec: FieldSpec
    annotation: Any
    scope: Scope
    lazy: bool = False
    """Whether objects convert the stored value at first access only."""
    bit: int = 0
    """Of a lazy field: its bit in the attribute `TOUCHED` of objects."""
    keep: bool = False
    """Whether a stored value of the wrong type is read as it is."""
    _type: BsonType | None = None

    @property
    def type(self) -> BsonType:
        """The declared type. Raises `MappingError` where the annotation cannot be resolved."""
        try:
            return self._type or self._resolve()
        except NameError as error:
            raise MappingError(
                f"{self.where}: {error}, in the annotation {self.annotation!r}; "
                "import it where the class is declared, outside of `if TYPE_CHECKING`"
            ) from None
        except Unregistered as error:
            raise MappingError(str(error)) from None

    def resolved(self) -> BsonType | None:
        """The declared type, or None where the annotation names what is not there, or not registered, yet."""
        try:
            return self._type or self._resolve()
        except (NameError, Unregistered):
            return None

    def peek(self) -> BsonType | None:
        """The same, without keeping it: classes that it names may be defined again."""
        before = self._type
        try:
            return self.resolved()
        finally:
            self._type = before

    def resolve_again(self) -> None:
        """Resolve the annotation anew at the first use: classes that it names may be defined again until then."""
        if self._type is not None and not self._type.plain:
            self._type = None

    @property
    def where(self) -> str:
        """``Movie.title``, for messages."""
        return f"{self.owner}.{self.attribute}"

    def _resolve(self) -> BsonType:
        if isinstance(self.spec, ArtifactFieldSpec):  # of whatever type that codecs take
            self._type = ArtifactType(self.spec.codec, self._annotated)
            return self._type
        try:
            inner = self._annotated()
            if isinstance(self.spec, VectorFieldSpec):
                self._type = self._vector_type(inner, self.spec.dim)
            else:
                self._type = resolve(inner, self.where, self.scope)
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise MappingError(f"{self.where}: the annotation {self.annotation!r} cannot be read: {error}") from error
        return self._type

    def _annotated(self) -> Any:
        """What the field is declared to hold. Raises `NameError` for what is not there yet."""
        annotation = self.scope(self.annotation) if isinstance(self.annotation, str) else self.annotation
        (inner,) = get_args(annotation)
        return self.scope(inner) if isinstance(inner, str) else inner

    def _vector_type(self, annotation: Any, dim: int) -> BsonType:
        members = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
        if any((get_origin(member) or member) not in (np.ndarray, type(None)) for member in members):
            raise MappingError(f"{self.where}: a vector is declared as Mapped[np.ndarray | None], not {annotation!r}")
        kind = VectorType(dim)
        return UnionType((kind, NoneType())) if len(members) > 1 else kind

    @property
    def is_list(self) -> bool:
        return self.type.is_list

    @property
    def may_be_list(self) -> bool:
        kind = self.resolved()
        return self.keep or kind is None or list in kind.reads

    @property
    def embedded(self) -> _Class | None:
        return self.type.embedded

    def holds(self, cls: object) -> bool:
        return self.type.holds(cls)

    def beside(self, value: object) -> Any:
        return compared(self.type, self.where, value)

    def member(self, name: str) -> MappedField:
        return self.type.member(name)

    @property
    def step(self) -> tuple[str, Any]:
        return "field", self.attribute

    def element(self, position: int | None) -> Part:
        return element_part(self.where, self.type, position)

    def item(self) -> Part:
        return item_part(self.where, self.type)

    def value(self, key: str) -> Part:
        return value_part(self.where, self.type, key)

    def missing(self) -> tuple[Any, Any]:
        """The default for an object whose document lacks the key, and the same as BSON.

        Raises `Misfit` where the field has none, or one that its type does not hold.
        """
        if self.spec.version:
            return 0, 0
        if not self.has_default:
            raise Missing(self.type.name)
        try:
            value = self.spec.default if self.spec.factory is None else self.spec.factory()
            if self.spec.converter is not None:
                value = self.spec.converter(value)
            return value, self.type.to_bson(value)
        except Misfit as misfit:
            raise Missing(self.type.name, f"the default does not fit: {misfit.describe()}") from None
        except Exception as error:
            raise Missing(self.type.name, f"the default failed: {type(error).__name__}: {error}", error) from error

    @property
    def unchanged(self) -> Callable[[Any, Any], bool]:
        """A function: whether a value of the field is what a stored one reads as."""
        unchanged = self.type.without_none.comparison  # None is what nothing else reads as
        return (lambda value, raw: unchanged(value, raw) or same(raw, value)) if self.keep else unchanged

    @property
    def has_default(self) -> bool:
        """Whether a document may lack the field's key."""
        return self.spec.version or self.spec.factory is not None or self.spec.default is not MISSING

    @property
    def checked(self) -> bool:
        """Whether the field has a converter or a validator."""
        return self.spec.converter is not None or self.spec.validator is not None

    def store(self, instance: object, value: Any) -> Any:
        """The BSON value of a field of an object, once its converter and validator have seen it.

        A plain value that is normalised is written back to the object.
        Raises `Misfit`.
        """
        before = value
        if self.checked:
            value = self._check(instance, value, type(instance))
        stored = self.type.to_bson(value)
        if self.type.plain:
            value = stored
        if value is not before:
            setattr(instance, self.attribute, value)
        return stored

    def stored_value(self, value: object, where: str, holder: Any = None) -> Any:
        """The BSON value to store for a value of a statement; `where` names the field in errors.

        With `holder`, the class that has the field, converter and validator see the value; there is no object for them.
        Raises `ValidationError`, `VectorError`.
        """
        if isinstance(self.spec, ArtifactFieldSpec) and value is not None:
            raise UnsupportedError(
                f"{where}: a statement cannot store an artifact, of which each document's reference is its own; "
                "assign it to objects in a session, or insert(...) or bulk_insert(...) objects that have it",
                document_class=holder,
                field=where,
            )
        try:
            return storable(self.type.to_bson(self._check(None, value, holder) if self.checked and holder else value))
        except Misfit as misfit:
            raise refused(self.type, where, misfit, holder) from misfit.error

    def _check(self, instance: object, value: Any, cls: Any) -> Any:
        try:
            if self.spec.converter is not None:
                value = self.spec.converter(value)
            if self.spec.validator is not None:
                self.spec.validator(instance, attrs.fields_dict(cls)[self.attribute], value)
        except Exception as error:
            raise Rejected(value, error) from error
        return value


def _not_generated(*_: Any) -> Any:
    raise NotImplementedError


@define(eq=False, slots=False)
class ClassMap:
    """One mapped class: a Document where `collection` is a name, an Embedded where it is None."""

    cls: type
    collection: str | None
    fields: tuple[MappedField, ...]
    extra_forbidden: bool = False
    discriminator: str = "_type"
    """The key that names the class of a stored document."""
    family: dict[str, ClassMap] = field(factory=dict[str, "ClassMap"], init=False)
    """Of a class with mapped bases or subclasses, or whose documents name it: itself and its subclasses, by name."""
    parent: ClassMap | None = field(default=None, init=False)
    """The nearest mapped class that it derives from."""
    names_itself: bool = field(default=False, init=False)
    """Of a Document that derives from no mapped class: whether its documents hold the discriminator all the same."""
    by_attribute: dict[str, MappedField] = field(init=False)
    load: Callable[[dict[str, Any]], Any] = field(default=_not_generated, init=False)
    """Of an Embedded: an object from a stored document."""
    load_all: Callable[[list[Any], list[Any]], None] = field(default=_not_generated, init=False)
    """Of an Embedded: adds the objects of stored documents to a list, in order."""
    dump: Callable[[Any], dict[str, Any]] = field(default=_not_generated, init=False)
    """Of an Embedded: the document to store for an object."""
    unchanged: Callable[[Any, dict[str, Any]], bool] = field(default=_not_generated, init=False)
    """Of an Embedded: whether an object is what a stored document reads as."""
    comparison: Callable[[_Comparison], _Comparison] = field(default=_not_generated, init=False)
    """Of an Embedded: a function that looks whether all values are as they were read, and else calls the one given."""
    list_comparison: Callable[[_Comparison], _Comparison] = field(default=_not_generated, init=False)
    """Of an Embedded: the same for a list of objects."""
    relationships: dict[str, Relationship] = field(factory=dict[str, "Relationship"], init=False)
    """By attribute, those of the bases too."""
    functions: dict[str, Any] = field(factory=dict[str, Any], init=False)
    """Further functions generated for the class, by name."""
    registry: Any = field(default=None, init=False)
    """Of a Document: the registry that it is in."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By its class, which is pickled by value where it is one of a script; generated functions are left behind."""
        for part in self.fields:
            part.resolved()
        kept = {one.name: getattr(self, one.name) for one in attrs.fields(ClassMap) if one.name not in _GENERATED}
        return _mapping_of, (self.cls,), kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "cls" not in vars(self):  # else the class is known here
            vars(self).update(state, functions={})

    def __attrs_post_init__(self) -> None:
        self.by_attribute = {part.attribute: part for part in self.fields}
        stored: dict[str, MappedField] = {}
        for part in self.fields:
            other = stored.setdefault(part.stored, part)
            if other is not part:
                raise MappingError(f"{part.where} and {other.where} are both stored under {part.stored!r}")

    @property
    def name(self) -> str:
        return self.cls.__name__

    @cached_property
    def root(self) -> ClassMap:
        """The class at the top of its hierarchy; identities and the collection are those of the root."""
        return self if self.parent is None else self.parent.root

    @property
    def subclasses(self) -> tuple[ClassMap, ...]:
        """The mapped classes that derive from it, however far, as far as they are declared by now."""
        return tuple(member for member in self.family.values() if member is not self)

    @property
    def sharing(self) -> list[ClassMap]:
        """The classes of its registry that have its collection, itself among them, bases before their subclasses."""
        others = (one for one in self.registry if one.collection == self.collection)
        return sorted(dict.fromkeys([self, *others]), key=lambda one: len(one.cls.__mro__))

    @property
    def related(self) -> bool:
        """Whether it or a subclass has relationships."""
        return bool(self.relationships) or any(below.relationships for below in self.family.values())

    @property
    def type_name(self) -> str:
        """What stands under the discriminator in its documents."""
        return self.name

    @property
    def writes_type(self) -> bool:
        """Whether its documents hold the discriminator; a root's need not, so that subclasses may come later."""
        return self.parent is not None or self.names_itself

    def type_filter(self) -> dict[str, Any]:
        """The filter that leaves only its own documents and its subclasses' of the collection's; empty for a root."""
        if self.parent is None:
            return {}
        names = [self.type_name, *sorted(below.type_name for below in self.subclasses)]
        return {self.discriminator: names[0] if len(names) == 1 else {"$in": names}}

    def stored_for(self, attributes: Iterable[str]) -> list[str]:
        """The keys to read for partial documents of these attributes, its subclasses' too.

        The key, the version, and the discriminator where there is one, are always among them.
        """
        wanted = set(attributes)
        names = {"_id": None, self.discriminator: None} if self.family else {"_id": None}
        for mapping in (self, *self.subclasses):
            names |= {part.stored: None for part in mapping.fields if part.spec.version or part.attribute in wanted}
        return list(names)

    @cached_property
    def lazy_fields(self) -> tuple[MappedField, ...]:
        """The fields that objects convert at first access only."""
        return tuple(part for part in self.fields if part.lazy)

    @cached_property
    def artifacts(self) -> tuple[MappedField, ...]:
        """The artifact fields."""
        return tuple(part for part in self.fields if isinstance(part.spec, ArtifactFieldSpec))

    @cached_property
    def stored_names(self) -> frozenset[str]:
        """The keys that the class maps."""
        return frozenset(part.stored for part in self.fields)

    def check_discriminator(self, where: str) -> None:
        """Raise `MappingError` unless the discriminator is a key that the class does not map."""
        if not is_stored_name(self.discriminator):
            raise MappingError(f"{where}: __discriminator__ = {self.discriminator!r} cannot be a stored key")
        if self.discriminator in self.stored_names:
            raise MappingError(
                f"{where}: {self.name} has a field stored under {self.discriminator!r}, the key that names the class; "
                "choose another key with __discriminator__"
            )

    def refuse_extra(self, document: Mapping[str, Any]) -> None:
        """Raise `Misfit` for a key that the class does not map."""
        for key in document:
            if key not in self.stored_names:
                raise Undeclared(key, self.name).within(key)

    @cached_property
    def key(self) -> MappedField:
        """The primary key's field. Raises `MappingError` for an Embedded."""
        found = next((part for part in self.fields if part.stored == "_id"), None)
        if found is None:
            raise MappingError(f"{self.name} is an Embedded: it has no key and no collection", document_class=self.cls)
        return found

    @cached_property
    def has_null_key(self) -> bool:
        """Whether null may be the key of a new document: only where the declaration says so, by ``| None``."""
        kind = self.key.type
        return type(None) in kind.reads and not isinstance(kind, AnyType)

    @cached_property
    def version(self) -> MappedField | None:
        """The version's field."""
        return next((part for part in self.fields if part.spec.version), None)

    @property
    def vectors(self) -> tuple[VectorField, ...]:
        """The vector fields, those of embedded documents too. Raises `UnsupportedError`, `MappingError`."""
        return vectors_of(self)


_GENERATED = frozenset({"load", "load_all", "dump", "unchanged", "comparison", "list_comparison", "functions"})


def _mapping_of(cls: type) -> ClassMap:
    """What is known of a class that was pickled, or an empty object to be filled."""
    found: ClassMap | None = cls.__dict__.get("__superorm__")
    return ClassMap.__new__(ClassMap) if found is None else found


def class_map(cls: type) -> ClassMap:
    """What superorm knows of a mapped class. Raises `MappingError` for any other class."""
    try:
        found = cls.__dict__.get("__superorm__")
    except AttributeError:  # not even a class
        found = None
    if not isinstance(found, ClassMap):
        raise _not_mapped(cls)
    return found


def _not_mapped(cls: object) -> MappingError:
    if not isinstance(cls, type):
        return MappingError(f"{cls!r} is no class; give one that derives from Document or Embedded")
    if "__superorm_declared__" in cls.__dict__:
        why = "it is abstract (__abstract__ = True); give a class that derives from it"
    else:
        why = "derive it from Document or Embedded"
    return MappingError(f"{cls.__name__} is not mapped: {why}", document_class=cls)
