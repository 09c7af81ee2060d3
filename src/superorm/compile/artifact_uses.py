# pyright: reportPrivateUsage=false
"""Where artifact fields may stand in statements: documents hold references, which only a session reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from superorm.exc import StatementError
from superorm.expr.kinds import is_call, is_compare, is_field, is_list_of, walk
from superorm.expr.narrow import is_list
from superorm.expr.operators import LITERAL
from superorm.expr.stages import Block
from superorm.expr.statements import Select
from superorm.schema.fields import ArtifactFieldSpec

__all__ = ["check_artifact_select", "check_artifact_uses"]

_WITH_NONE = frozenset({"$eq", "$ne", "$in", "$nin"})


def check_artifact_uses(nodes: Iterable[Any]) -> None:
    """Raise `StatementError` for artifact fields in anything but comparisons with None and ``exists()``."""
    for _, node in walk(nodes, _is_test):
        if is_list_of(node):
            check_artifact_select(node.select)
        elif is_field(node) and _is_artifact(node):
            raise StatementError(
                f"{node!r} is an artifact, which the database does not hold: it can be compared with None, or be "
                "tested by exists(); select its documents, with options(undefer(...)) or session.load(...), to read it"
            )


def check_artifact_select(statement: Select[Any, Any]) -> None:
    """The same for all that a select is made of."""
    check_artifact_uses(statement._entities)
    for step in statement._steps:
        if isinstance(step, Block):
            check_artifact_uses(_of_block(step))
            continue
        entities: Iterable[Any] = getattr(step, "entities", ())
        check_artifact_uses(entities)
        inner = [getattr(step, "select", None), *(select for _, select in getattr(step, "facets", ()))]
        for select in inner:
            if select is not None:
                check_artifact_select(select)


def _of_block(block: Block) -> Iterator[Any]:
    for join in block.joins:
        yield from join.on
    yield from block.where
    yield from block.group_by
    yield from block.having
    for order in block.order_by:
        yield order.expr


def _is_test(node: Any) -> bool:
    """Whether an artifact may stand there, so that nothing in it is looked at."""
    if not is_compare(node) or not is_field(node.left) or not _is_artifact(node.left):
        return False
    right = node.right
    if is_call(right) and right.operator is LITERAL:
        right = right.args[0]
    nothing = right is None or (is_list(right) and all(one is None for one in right))
    return node.op == "$exists" or (node.op in _WITH_NONE and nothing)


def _is_artifact(field: Any) -> bool:
    return bool(field._parts) and isinstance(getattr(field._parts[-1], "spec", None), ArtifactFieldSpec)
