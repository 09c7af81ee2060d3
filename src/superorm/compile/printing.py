"""What statements show of themselves, compiled when they are asked: nothing else of the compiler is loaded before."""

from __future__ import annotations

from typing import Any

from superorm.expr.statements import on_pipeline
from superorm.expr.writes import on_plan

__all__: list[str] = []


def _pipeline(statement: Any) -> list[dict[str, Any]]:
    from superorm.compile.compiler import pipeline

    return pipeline(statement)


def _plan(statement: Any) -> dict[str, Any]:
    from superorm.compile.writes import command

    return command(statement)


on_pipeline(_pipeline)
on_plan(_plan)
