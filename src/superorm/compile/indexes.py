"""The indexes of a collection, as the server takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from superorm.compile.match import match
from superorm.compile.scope import DocumentScope
from superorm.exc import MappingError, StatementError
from superorm.expr.narrow import is_dict, is_list
from superorm.schema.compare import alike
from superorm.schema.declared_indexes import DeclaredIndex

__all__ = ["IndexModel", "index_differences", "index_models"]

_ALLOWED = frozenset({"$and", "$or", "$eq", "$exists", "$gt", "$gte", "$in", "$lt", "$lte", "$type", "$all"})
"""What the server takes in the filter of a partial index."""
_TEXT_DEFAULTS = {"default_language": "english", "language_override": "language"}
_COLLATION_DEFAULTS = {"caseLevel": False, "strength": 3, "numericOrdering": False, "maxVariable": "punct"}
"""What the server fills in. Further options depend on the locale: they are compared only where they are declared."""


@frozen(eq=False)
class IndexModel:
    """One index of a collection."""

    where: str
    """What declares it, for messages."""
    keys: tuple[tuple[str, int | str], ...]
    options: dict[str, Any]
    """Everything else, the name among it."""
    named: bool
    """Whether the class gives the name."""

    @property
    def name(self) -> str:
        return str(self.options["name"])

    @property
    def document(self) -> dict[str, Any]:
        """The index as the server lists indexes."""
        return {"key": dict(self.keys), **self.options}


def index_models(declared: Iterable[DeclaredIndex]) -> list[IndexModel]:
    """The indexes of all classes of a collection, each once; fields that ask for text share one index.

    Raises `MappingError` for indexes that cannot be in one collection, and conditions that no partial index can have.
    """
    found: list[IndexModel] = []
    for model in map(_model, _with_one_text(list(declared))):
        for place, other in enumerate(found):
            equal = not index_differences(model.document, other.document)
            if equal and (model.name == other.name or not (model.named and other.named)):
                found[place] = model if model.named else other
                break
            both = f"the indexes of {other.where} and {model.where} are both"
            if model.name == other.name:
                raise MappingError(f"{both} called {model.name}; give one of them another name=")
            if _is_text(model.keys) and _is_text(other.keys):
                raise MappingError(f"{both} for text, of which a collection can have one; put their fields together")
            if equal:
                raise MappingError(f"{both} the same, but for their names; leave one of them out")
        else:
            found.append(model)
    return found


def _with_one_text(declared: Sequence[DeclaredIndex]) -> list[DeclaredIndex]:
    """The same with the text indexes that fields ask for put together, where the first of them was."""
    texts = [index for index in declared if index.of_field and _is_text(index.keys)]
    if len(texts) < 2:
        return list(declared)
    keys = tuple(dict.fromkeys(key for index in texts for key in index.keys))
    whole = evolve(texts[0], keys=keys)
    return [whole if index is texts[0] else index for index in declared if index not in texts[1:]]


def _model(index: DeclaredIndex) -> IndexModel:
    options = dict(index.options)
    named = "name" in options
    if not named:
        options["name"] = "_".join(f"{path}_{kind}" for path, kind in index.keys)
        if index.only is not None:
            options["name"] += f"_{index.cls.__name__}"
    if index.partial is not None:
        try:
            options["partialFilterExpression"] = match([index.partial], DocumentScope(index.cls))
        except StatementError as error:
            raise MappingError(f"{index.where}: {error}") from None
        _check_filter(options["partialFilterExpression"], index.where)
    if index.only is not None:
        options["partialFilterExpression"] = {**index.only, **options.get("partialFilterExpression", {})}
    return IndexModel(index.where, index.keys, options, named)


def _check_filter(filter: Mapping[str, Any], where: str) -> None:
    for key, value in filter.items():
        if key.startswith("$") and (key not in _ALLOWED or (key == "$exists" and value is not True)):
            shown = key if key != "$exists" else "$exists: false"
            raise MappingError(
                f"{where}: the server takes no {shown} in the condition of a partial index: "
                "only comparisons, exists(), in_(), between(), & and |"
            )
        for inner in value if key in ("$and", "$or") and is_list(value) else [value]:
            if is_dict(inner) and key not in ("$eq", "$in"):
                _check_filter(inner, where)


def _is_text(keys: Sequence[tuple[str, int | str]]) -> bool:
    return any(kind == "text" for _, kind in keys)


def _described(index: Mapping[str, Any], collation: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An index, as it is sent to the server or as the server lists it, in one form for both.

    It holds ``key`` (pairs of path and kind) and the options that are set, by the server's names, but not the name.
    `collation` is that of the collection, which its indexes have unless they say otherwise.
    """
    keys: list[tuple[str, Any]] = []
    weights: dict[str, Any] = {}
    for path, kind in index["key"].items():
        if kind == "text" and path != "_fts":
            weights[path] = index.get("weights", {}).get(path, 1)
            path = "_fts"
        if (path, kind) not in keys and path != "_ftsx":
            keys.append((path, kind))
    found: dict[str, Any] = {"key": [list(key) for key in keys]}
    for option in ("unique", "sparse", "hidden"):
        if index.get(option):
            found[option] = True
    for option in ("expireAfterSeconds", "partialFilterExpression", "wildcardProjection"):
        if option in index:
            found[option] = index[option]
    if any(kind == "text" for _, kind in keys):
        found |= {option: index.get(option, default) for option, default in _TEXT_DEFAULTS.items()}
        found["weights"] = weights or dict(index["weights"])
    elif own := _collation(index.get("collation") or collation):
        found["collation"] = own
    return found


def _collation(collation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The collation with what the server fills in, but not its version."""
    if not collation or collation["locale"] == "simple":
        return None
    return {**_COLLATION_DEFAULTS, **{key: value for key, value in collation.items() if key != "version"}}


def index_differences(
    declared: Mapping[str, Any], present: Mapping[str, Any], collation: Mapping[str, Any] | None = None
) -> dict[str, tuple[Any, Any]]:
    """The options in which an index of the database is not the declared one, each with both sides: present, declared.

    What is not set is None.
    """
    wanted, there = _described(declared, collation), _described(present)
    if wanted.get("collation") and there.get("collation"):
        there["collation"] = {key: there["collation"].get(key) for key in wanted["collation"]}
    pairs = {option: (there.get(option), wanted.get(option)) for option in {**wanted, **there}}
    return {option: pair for option, pair in pairs.items() if not alike(*pair)}
