"""The index that a vector field asks for, as it is declared."""

from __future__ import annotations

from typing import Any, get_args

from superorm.exc import MappingError
from superorm.expr.narrow import is_dict
from superorm.schema.vector_spec import PARAMETERS, IndexSpec, VectorIndexKind

__all__ = ["index_spec"]


def index_spec(given: object, dim: int) -> IndexSpec | None:
    """What ``index=`` asks for, of vectors of `dim` numbers; None where nothing is asked for.

    Raises `MappingError` for kinds and parameters that there are not.
    """
    if given is None:
        return None
    options: dict[str, Any] = dict(given) if is_dict(given) else {"kind": given}
    kind = next((kind for kind in get_args(VectorIndexKind) if kind == options.get("kind")), None)
    if kind is None:
        raise MappingError(
            f"index={given!r} names no kind of index; write one of {', '.join(map(repr, PARAMETERS))}, "
            'or a dict with it as "kind" and parameters'
        )
    del options["kind"]
    for name, value in options.items():
        if name not in PARAMETERS[kind]:
            known = ", ".join(PARAMETERS[kind]) or "none"
            raise MappingError(f"index={given!r}: {kind!r} has no parameter {name!r}; it takes {known}")
        if type(value) is not int or value < 1:
            raise MappingError(f"index={given!r}: {name} is a whole number from 1 on, not {value!r}")
    if dim % options.get("num_sub_vectors", 1):
        raise MappingError(f"index={given!r}: num_sub_vectors must divide the dimension {dim}")
    return IndexSpec(kind, options)
