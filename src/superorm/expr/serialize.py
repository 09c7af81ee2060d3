"""Statements to plain data and back.

.. code-block:: text

    {"format": 1, "nodes": [{"node": "Field", "owner": {"class": "shop.Movie"}, "steps": [["field", "year"]]},
                            {"node": "Compare", "left": {"ref": 0}, "op": "$gt", "right": 1990},
                            ...,
                            {"node": "Select", ...}]}

Each node names those before it by their position, so what stands twice in a statement is one node again,
and long conditions are not deep data. The last one is the statement.
A list is several items of a node, ``{"list": [...]}`` a literal one; see `stored_values` for literals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from superorm.exc import StatementError, SuperormError
from superorm.expr.narrow import is_dict, is_list, is_tuple
from superorm.expr.reprs import short_repr, typed_repr
from superorm.expr.storable import class_finder
from superorm.expr.stored_nodes import FORMS, Form
from superorm.expr.stored_values import MAX_DEPTH, Refusal, decode_literal, encode_literal
from superorm.expr.value_types import ClassName

if TYPE_CHECKING:
    from superorm.schema.registry import Registry

__all__ = ["dump", "load"]

S = TypeVar("S")

FORMAT = 1
MAX_SIZE = 100_000
"""How many nodes a statement may have, where each is counted as often as it stands in it."""

_BY_CLASS = {form.cls: form for form in FORMS.values()}


class _Extent:
    """How deep and large the nodes are."""

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.sizes: list[int] = []

    def add(self, parts: list[int]) -> None:
        """A node made of those at these positions. Raises `Refusal`."""
        depth = 1 + max((self.depths[part] for part in parts), default=0)
        size = 1 + sum(self.sizes[part] for part in parts)
        if depth > MAX_DEPTH:
            raise Refusal(f"nested more than {MAX_DEPTH} levels deep")
        if size > MAX_SIZE:
            raise Refusal(f"more than {MAX_SIZE} nodes")
        self.depths.append(depth)
        self.sizes.append(size)


def dump(statement: object) -> dict[str, Any]:
    """The statement as data. Raises `StatementError`."""
    extent = _Extent()
    positions: dict[int, int] = {}
    nodes: list[dict[str, Any]] = []
    for node, arguments in _children_first(statement):
        parts: list[int] = []
        data = {name: _encode(value, positions, parts) for name, value in arguments.items()}
        nodes.append({"node": type(node).__name__, **data})
        try:
            extent.add(parts)
        except Refusal as refusal:
            raise StatementError(f"{statement!r:.80} cannot be stored: {refusal}") from None
        positions[id(node)] = len(positions)
    return {"format": FORMAT, "nodes": nodes}


def _children_first(statement: object) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each node once, with its arguments, after those that it is made of."""
    found: dict[int, object] = {}  # holds what is made to be stored, so that no two have one identity
    pending: list[tuple[Any, dict[str, Any] | None]] = [(statement, None)]
    while pending:
        node, arguments = pending.pop()
        if arguments is not None:
            yield node, arguments
        elif id(node) not in found:
            found[id(node)] = node
            arguments = _form(node).arguments(node)
            pending.append((node, arguments))
            pending.extend((part, None) for part in reversed([*_parts(tuple(arguments.values()))]))


def _form(node: object) -> Form:
    if type(node) not in _BY_CLASS:
        raise StatementError(f"a {type(node).__name__} cannot be stored: {node!r:.80}")
    return _BY_CLASS[type(node)]


def _parts(values: tuple[Any, ...]) -> Iterator[Any]:
    """The nodes among the values."""
    for value in values:
        if is_tuple(value):
            yield from _parts(value)
        elif type(value) in _BY_CLASS:
            yield value


def _encode(value: Any, positions: dict[int, int], parts: list[int]) -> Any:
    if id(value) in positions:
        parts.append(positions[id(value)])
        return {"ref": parts[-1]}
    if is_tuple(value):
        return [_encode(item, positions, parts) for item in value]
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, ClassName):
        return {"type": str(value)}
    return encode_literal(value)


def load(kind: type[S], data: object, registry: Registry | None, *, allow_raw: bool) -> S:
    """The statement of such data. Raises `StatementError`."""
    try:
        statement = _Reader(class_finder(registry), allow_raw).statement(data)
        if not isinstance(statement, kind):
            raise Refusal(f"expected a {kind.__name__}, not a {type(statement).__name__}")
    except Refusal as refusal:
        raise StatementError(f"{kind.__name__}.from_dict(): {''.join(refusal.path)[1:] or 'data'}: {refusal}") from None
    return statement


class _Reader:
    def __init__(self, find: Callable[[str], type | None], allow_raw: bool) -> None:
        self._find = find
        self._allow_raw = allow_raw
        self._extent = _Extent()
        self._nodes: list[Any] = []

    def statement(self, data: object) -> object:
        if not is_dict(data) or data.keys() != {"format", "nodes"}:
            raise Refusal(f"expected format and nodes, not {typed_repr(data)}")
        if type(data["format"]) is not int or data["format"] != FORMAT:
            raise Refusal(f"this release reads format {FORMAT}, not {typed_repr(data['format'])}").within("format")
        if not is_list(data["nodes"]) or not data["nodes"]:
            raise Refusal(f"expected a list of nodes, not {typed_repr(data['nodes'])}").within("nodes")
        for position, item in enumerate(data["nodes"]):
            try:
                self._nodes.append(self._node(item))
            except Refusal as refusal:
                raise refusal.within(position).within("nodes") from None
            except (SuperormError, AttributeError) as error:  # of the methods that build nodes and find fields
                raise Refusal(str(error)).within(position).within("nodes") from error
        return self._nodes[-1]

    def _node(self, data: object) -> object:
        if not is_dict(data) or type(data.get("node")) is not str:
            raise Refusal(f"expected a node, not {typed_repr(data)}")
        if data["node"] not in FORMS:
            raise Refusal(f"unknown node {data['node']!r:.60}").within("node")
        form = FORMS[data["node"]]
        if data["node"] == "Raw" and not self._allow_raw:
            raise Refusal("nothing in a raw stage is checked; pass allow_raw=True for data that you trust")
        parts: list[int] = []
        arguments: dict[str, Any] = {}
        for name, value in data.items():
            if name == "node":
                continue
            if name not in form.fields:
                raise Refusal(f"unknown key {name!r:.60}; a {data['node']} has {', '.join(form.fields) or 'none'}")
            try:
                arguments[name] = form.fields[name](self._value(value, parts))
            except Refusal as refusal:
                raise refusal.within(name) from None
        missing = form.fields.keys() - arguments.keys() - form.defaults.keys()
        if missing:
            raise Refusal(f"a {data['node']} needs {', '.join(sorted(missing))}")
        self._extent.add(parts)
        return form.build(**arguments)

    def _value(self, data: Any, parts: list[int], depth: int = 0) -> Any:
        if is_list(data):
            if depth == 3:
                raise Refusal("lists nested too deep; a literal one has the tag list")
            values: list[Any] = []
            for position, item in enumerate(data):
                try:
                    values.append(self._value(item, parts, depth + 1))
                except Refusal as refusal:
                    raise refusal.within(position) from None
            return tuple(values)
        if is_dict(data) and len(data) == 1:
            ((tag, content),) = data.items()
            if tag == "ref":
                return self._part(content, parts)
            if tag == "class":
                return self._class(content)
            if tag == "type":
                return self._find(content) if type(content) is str else None
        return decode_literal(data)

    def _part(self, content: object, parts: list[int]) -> object:
        if type(content) is not int or not 0 <= content < len(self._nodes):
            raise Refusal(f"expected the position of a node before this one, not {typed_repr(content)}").within("ref")
        parts.append(content)
        return self._nodes[content]

    def _class(self, content: object) -> type:
        found = self._find(content) if type(content) is str else None
        if found is None:
            raise Refusal(f"the registry has no class {short_repr(content)}").within("class")
        return found
