"""The query language over the documents of a mongomock database, by the server's rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from bson import DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo.errors import OperationFailure

from superorm.backends.mongomock_expressions import evaluate
from superorm.backends.mongomock_values import MISSING, is_nan, is_nothing, is_number, is_true, lacks, order_key, whole
from superorm.expr.narrow import is_dict, is_list

__all__ = ["Test", "matcher"]

Test = Callable[[Any], bool]


def matcher(filter: object) -> Test:
    """Whether a filter finds a document, as a function.

    Raises ``UnsupportedError`` for operators that are not known here, ``OperationFailure`` for what none takes.
    """
    if not is_dict(filter):
        raise OperationFailure(f"a condition is a document, not {filter!r}")
    return _all([_part(key, condition) for key, condition in filter.items()])


def _all(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


def _part(key: str, condition: Any) -> Test:
    if key == "$expr":
        return lambda document: is_true(evaluate(condition, {"ROOT": document}))
    if key in ("$and", "$or", "$nor"):
        if not is_list(condition) or not condition:
            raise OperationFailure(f"{key} takes a list of conditions, not {condition!r}")
        tests = [matcher(one) for one in condition]
        if key == "$and":
            return _all(tests)
        return lambda document: any(test(document) for test in tests) == (key == "$or")
    if key == "$comment":
        return lambda document: True
    if key.startswith("$"):
        raise lacks(key) if key in _OTHERS else OperationFailure(f"unknown operator: {key}")
    return _condition(condition, key.split("."))


def _condition(condition: Any, path: Sequence[str]) -> Test:
    """Whether what is at the path meets the condition: a value to be equal to, or operators."""
    if not _are_operators(condition):
        return _test("$regex" if isinstance(condition, Regex) else "$eq", condition, condition, path)
    return _all([_test(op, wanted, condition, path) for op, wanted in condition.items() if op != "$options"])


def _are_operators(condition: Any) -> bool:
    return is_dict(condition) and next(iter(condition), "").startswith("$")


_NEGATED = {"$ne": "$eq", "$nin": "$in"}


def _test(op: str, wanted: Any, condition: Any, path: Sequence[str]) -> Test:
    match op:
        case "$ne" | "$nin":
            if op == "$ne" and isinstance(wanted, Regex):
                raise OperationFailure(f"$ne takes no regular expression, such as {wanted!r}")
            found = _test(_NEGATED[op], wanted, condition, path)
            return lambda holder: not found(holder)
        case "$not":
            if not (isinstance(wanted, Regex) or _are_operators(wanted)):
                raise OperationFailure(f"$not takes operators or a regular expression, not {wanted!r}")
            found = _condition(wanted, path)
            return lambda holder: not found(holder)
        case "$all":
            each = _each(wanted)
            return _all([_condition(one, path) for one in each]) if each else lambda holder: False
        case "$exists":
            return lambda holder: any(value is not MISSING for value in _whole_values(holder, path)) == is_true(wanted)
        case "$size":
            size = whole("$size", wanted, 0)
            return lambda holder: any(is_list(v) and len(v) == size for v in _whole_values(holder, path))
        case "$elemMatch":
            found = _element(wanted)
            return lambda holder: any(is_list(v) and any(map(found, v)) for v in _whole_values(holder, path))
        case _:
            found = _value_test(op, wanted, condition)
            return lambda holder: any(map(found, _values(holder, path)))


def _each(wanted: Any) -> list[Any]:
    """The conditions of ``$all``."""
    values = _listed("$all", wanted)
    return [
        value if isinstance(value, Regex) or (is_dict(value) and "$elemMatch" in value) else {"$eq": value}
        for value in values
    ]


def _element(condition: Mapping[str, Any]) -> Test:
    """Whether one element meets what ``$elemMatch`` asks for."""
    if _are_operators(condition) and next(iter(condition)) not in ("$and", "$or", "$nor"):
        return _of_elements(condition)
    found = matcher(condition)

    def test(item: Any) -> bool:
        if is_list(item):
            return found({str(position): one for position, one in enumerate(item)})
        return is_dict(item) and found(item)

    return test


def _of_elements(condition: Mapping[str, Any]) -> Test:
    return _all([_of_element(op, wanted, condition) for op, wanted in condition.items() if op != "$options"])


def _of_element(op: str, wanted: Any, condition: Any) -> Test:
    """Of the element itself, even where it is a list."""
    if op in _NEGATED or op == "$not":
        found = _of_elements(wanted) if op == "$not" else _value_test(_NEGATED[op], wanted, condition)
        return lambda item: not found(item)
    if op == "$all":
        each = _each(wanted)
        tests = [_value_test("$regex", one, one) if isinstance(one, Regex) else _of_elements(one) for one in each]
        return _all(tests) if each else lambda item: False
    if op in ("$exists", "$size", "$elemMatch"):
        return _test(op, wanted, condition, ())
    return _value_test(op, wanted, condition)


def _whole_values(holder: Any, path: Sequence[str]) -> Iterator[Any]:
    """The values at a path, of which the lists are not their elements."""
    return _values(holder, path, into_lists=False)


def _values(holder: Any, path: Sequence[str], *, into_lists: bool = True) -> Iterator[Any]:
    """All values at a path: through lists, by element and by position, and at its end the elements of a list too."""
    while path and not is_list(holder):
        if not is_dict(holder) or path[0] not in holder:
            yield MISSING
            return
        holder, path = holder[path[0]], path[1:]
    if not is_list(holder) or (not path and not into_lists):
        yield holder
    elif not path:
        yield from holder
        yield holder
    else:
        for position, item in enumerate(holder):
            if is_dict(item):
                yield from _values(item, path, into_lists=into_lists)
            if path[0] == str(position):
                if len(path) == 1:
                    yield item
                elif is_dict(item) or is_list(item):
                    yield from _values(item, path[1:], into_lists=into_lists)


def _value_test(op: str, wanted: Any, condition: Any) -> Test:
    match op:
        case "$eq" | "$in":
            values = _listed(op, wanted) if op == "$in" else [wanted]
            keys = {order_key(value) for value in values}
            keys |= {order_key(MISSING)} if None in values else set()
            if op == "$eq" or not any(isinstance(value, Regex) for value in values):
                return lambda value: order_key(value) in keys
            tests = [_value_test("$regex", value, value) for value in values if isinstance(value, Regex)]
            return lambda value: order_key(value) in keys or any(test(value) for test in tests)
        case "$gt" | "$gte" | "$lt" | "$lte":
            if isinstance(wanted, Regex):
                raise OperationFailure(f"{op} takes no regular expression, such as {wanted!r}")
            return lambda value: _in_order(op, value, wanted)
        case "$regex":
            options = condition.get("$options", "") if is_dict(condition) else ""
            pattern = _pattern(wanted, options)
            itself = order_key(Regex(wanted, options) if isinstance(wanted, str) else wanted)
            return lambda value: _search(pattern, value) if isinstance(value, str) else order_key(value) == itself
        case "$type":
            kinds = [_kind(name) for name in (wanted if is_list(wanted) else [wanted])]
            return lambda value: any(kind(value) for kind in kinds)
        case _:
            raise lacks(op) if op in _OTHERS else OperationFailure(f"unknown operator: {op}")


_GEO = {"$geoIntersects", "$geoWithin", "$near", "$nearSphere"}
_BITS = {"$bitsAllClear", "$bitsAllSet", "$bitsAnyClear", "$bitsAnySet"}
_OTHERS = {*_GEO, *_BITS, "$jsonSchema", "$mod", "$sampleRate", "$text", "$where"}


def _listed(op: str, wanted: Any) -> list[Any]:
    if not is_list(wanted):
        raise OperationFailure(f"{op} takes a list, not {wanted!r}")
    return wanted


def _in_order(op: str, value: Any, wanted: Any) -> bool:
    """Of values of one type only; NaN is equal to itself, and neither below nor above any other number."""
    if is_nothing(value) and wanted is None:
        return op in ("$gte", "$lte")
    one, other = order_key(value), order_key(wanted)
    if one[0] != other[0]:
        if not isinstance(wanted, MinKey | MaxKey):
            return False
    elif is_nan(value) or is_nan(wanted):
        return one == other and op in ("$gte", "$lte")
    return (op in ("$gte", "$lte") and one == other) or (one > other if op in ("$gt", "$gte") else one < other)


_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_CLASSES = re.compile(r"\\[bBdDsSwW]|\[:")


def _pattern(wanted: Any, options: str) -> re.Pattern[str]:
    """The pattern, whose classes of characters are those of ASCII, as the server's are."""
    text: Any = cast("Any", wanted).pattern if isinstance(wanted, Regex) else wanted
    flags = wanted.flags if isinstance(wanted, Regex) else 0
    if not isinstance(text, str):
        raise OperationFailure(f"$regex takes a text, not {text!r}")
    unknown = set(options) - set(_FLAGS)
    if unknown:
        raise lacks(f"$regex with the option {min(unknown)}")
    for option in options:
        flags |= _FLAGS[option]
    try:
        return re.compile(text, (flags & ~re.UNICODE) | (0 if flags & re.IGNORECASE else re.ASCII))
    except re.error as error:
        raise lacks(f"$regex of {text!r}, which Python does not take ({error})") from None


def _search(pattern: re.Pattern[str], text: str) -> bool:
    if pattern.flags & re.IGNORECASE and not text.isascii() and _CLASSES.search(pattern.pattern):
        raise lacks(f"$regex of {pattern.pattern!r} with the option i, where the text is not ASCII")
    return pattern.search(text) is not None


_KINDS: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "binData": bytes,
    "bool": bool,
    "date": (datetime, DatetimeMS),
    "decimal": Decimal128,
    "double": float,
    "null": type(None),
    "object": dict,
    "objectId": ObjectId,
    "regex": Regex,
    "string": str,
    "timestamp": Timestamp,
}


def _kind(name: Any) -> Test:
    """The test for a type; mongomock does not keep integers of 32 and of 64 bits apart."""
    if name == "number":
        return is_number
    if not isinstance(name, str) or name not in _KINDS:
        raise lacks(f"$type of {name!r}")
    return lambda value: isinstance(value, _KINDS[name])
