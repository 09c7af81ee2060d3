"""The server's aggregation operators, as data: what ``func`` knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from attrs import frozen

__all__ = [
    "ADD",
    "ARRAY",
    "COUNT",
    "DIVIDE",
    "LET",
    "LITERAL",
    "MOD",
    "MULTIPLY",
    "OBJECT",
    "OPERATORS",
    "SIZE",
    "SUBTRACT",
    "ZIP",
    "Operator",
]

Style: TypeAlias = Literal["none", "one", "some", "list", "named"]
Kind: TypeAlias = Literal["scalar", "accumulator", "window"]
Gives: TypeAlias = Literal["number", "bool", "list", "other", "any"]


@frozen
class Operator:
    """One operator of the server."""

    name: str
    """Its name in ``func``: ``date_trunc``."""
    op: str
    """The server's name: ``$dateTrunc``; empty for what has none, lists and documents of expressions."""
    style: Style = "list"
    """How the server takes its arguments: not at all, one by itself, one by itself and several as an array,
    as an array, or as a document."""
    arguments: tuple[str, ...] = ()
    """The server's names of the arguments, keys of the document, in the order of the call; it is a document with
    style ``named``, and with the others where one of these is given. With style ``list`` they are those after it."""
    required: int = 1
    """How many arguments there must be at least."""
    most: int | None = None
    """How many there may be; None for any number."""
    kind: Kind = "scalar"
    """``accumulator``: over the rows of a group, or of a window; ``window``: over those of a window only."""
    since: tuple[int, int] = (5, 0)
    """The server's version that brought it, where that is later than 5.0."""
    gives: Gives = "any"
    """What it gives: ``bool`` always, the others or null; ``other`` is anything but numbers and arrays."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)


_CAPITALS = {"cp": "CP", "uuid": "UUID"}


def _named(name: str) -> Operator:
    return OPERATORS[name]


def _server_name(name: str) -> str:
    """``$dateTrunc`` for ``date_trunc``."""
    first, *others = name.rstrip("_").split("_")
    return "$" + first + "".join(_CAPITALS.get(word) or word.capitalize() for word in others)


def _lists(
    least: int, most: int | None, gives: Gives, names: str, since: tuple[int, int] = (5, 0)
) -> Iterator[Operator]:
    for name in names.split():
        yield Operator(name, _server_name(name), "list", (), least, most, "scalar", since, gives)


def _ones(gives: Gives, names: str, since: tuple[int, int] = (5, 0)) -> Iterator[Operator]:
    for name in names.split():
        yield Operator(name, _server_name(name), "one", (), 1, 1, "scalar", since, gives)


def _document(
    name: str,
    arguments: str,
    required: int,
    gives: Gives,
    *,
    kind: Kind = "scalar",
    since: tuple[int, int] = (5, 0),
    op: str | None = None,
) -> Operator:
    names = tuple(arguments.split())
    return Operator(name, op or _server_name(name), "named", names, required, len(names), kind, since, gives)


def _date_parts(names: str) -> Iterator[Operator]:
    for name in names.split():
        yield Operator(name, _server_name(name), "one", ("date", "timezone"), 1, 2, gives="number")


def _over_rows(
    gives: Gives, names: str, kind: Kind = "accumulator", since: tuple[int, int] = (5, 0)
) -> Iterator[Operator]:
    for name in names.split():
        yield Operator(name, _server_name(name), "one", (), 1, 1, kind, since, gives)


def _of_arrays(gives: Gives, names: str) -> Iterator[Operator]:
    """What an accumulator does with rows, done with the elements of an array, or with several values."""
    for name in names.split():
        most = 1 if name in ("first", "last") else None
        yield Operator(f"array_{name}", _server_name(name), "some", (), 1, most, gives=gives)


def _counted(names: str) -> Iterator[Operator]:
    for name in names.split():
        yield _document(name, "n input", 2, "list", kind="accumulator", since=(5, 2))
        yield _document(f"array_{name}", "n input", 2, "list", since=(5, 2), op=_server_name(name))


ADD = Operator("add", "$add", required=2, gives="other")  # a date, where one is added to
SUBTRACT = Operator("subtract", "$subtract", required=2, most=2, gives="other")
MULTIPLY = Operator("multiply", "$multiply", required=2, gives="number")
DIVIDE = Operator("divide", "$divide", required=2, most=2, gives="number")
MOD = Operator("mod", "$mod", required=2, most=2, gives="number")
SIZE = Operator("size", "$size", "one", most=1, gives="number")
COUNT = Operator("count", "$sum", "one", required=0, most=1, kind="accumulator", gives="number")
LITERAL = Operator("literal", "$literal", "one", most=1)
OBJECT = Operator("object", "", "named", required=0, most=0, gives="other")
ARRAY = Operator("array", "", required=0, gives="list")
LET = Operator("let", "$let", "named", ("vars", "in"), 2, 2)
ZIP = Operator("zip", "$zip", "list", ("useLongestLength", "defaults"), gives="list")

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        # numbers
        *(ADD, SUBTRACT, MULTIPLY, DIVIDE, MOD),
        *_ones("number", "abs ceil exp floor ln log10 sqrt"),
        *_ones("number", "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"),
        *_ones("number", "degrees_to_radians radians_to_degrees"),
        *_lists(2, 2, "number", "log pow atan2 cmp"),
        *_lists(1, 2, "number", "round trunc"),
        *_lists(1, None, "number", "bit_and bit_or bit_xor", (6, 3)),
        *_ones("number", "bit_not", (6, 3)),
        Operator("rand", "$rand", "none", (), 0, 0, gives="number"),
        # texts
        *_lists(1, None, "other", "concat"),
        *_ones("other", "to_lower to_upper"),
        *(Operator(name, _server_name(f"to_{name}"), "one", most=1, gives="other") for name in ("lower", "upper")),
        *_ones("number", "str_len_bytes str_len_cp"),
        *_lists(2, 2, "number", "strcasecmp"),
        *_lists(3, 3, "other", "substr_bytes substr_cp"),
        *_lists(2, 4, "number", "index_of_bytes index_of_cp"),
        *_lists(2, 2, "list", "split"),
        *(_document(name, "input chars", 1, "other") for name in ("trim", "ltrim", "rtrim")),
        *(_document(name, "input find replacement", 3, "other") for name in ("replace_one", "replace_all")),
        _document("regex_match", "input regex options", 2, "bool"),
        _document("regex_find", "input regex options", 2, "other"),
        _document("regex_find_all", "input regex options", 2, "list"),
        # dates; an amount of time is a number and a unit
        *_date_parts("year month day_of_month day_of_week day_of_year hour minute second millisecond"),
        *_date_parts("week iso_day_of_week iso_week iso_week_year"),
        *(_document(name, "startDate unit amount timezone", 3, "other") for name in ("date_add", "date_subtract")),
        _document("date_diff", "startDate endDate unit timezone startOfWeek", 3, "number"),
        _document("date_trunc", "date unit binSize timezone startOfWeek", 2, "other"),
        _document("date_to_string", "date format timezone onNull", 1, "any"),
        _document("date_from_string", "dateString format timezone onError onNull", 1, "any"),
        _document("date_to_parts", "date timezone iso8601", 1, "other"),
        _document(
            "date_from_parts",
            "year month day hour minute second millisecond timezone isoWeekYear isoWeek isoDayOfWeek",
            0,
            "other",
        ),
        *_ones("number", "ts_second ts_increment", (5, 1)),
        # conditions, in the order of all types and by the truth of any value
        *_lists(2, 2, "bool", "eq ne gt gte lt lte"),
        *_lists(0, None, "bool", "and_ or_"),
        *_lists(1, 1, "bool", "not_"),
        *_lists(3, 3, "any", "cond"),
        *_lists(2, None, "any", "if_null"),
        # arrays and sets
        *(SIZE, ARRAY, ZIP),
        *_lists(2, 2, "any", "array_elem_at"),
        *_lists(1, None, "list", "concat_arrays"),
        *_lists(2, 2, "bool", "in_"),
        *_lists(2, 4, "number", "index_of_array"),
        *_lists(2, 3, "list", "range slice"),
        *_ones("list", "reverse_array"),
        _document("filter", "input as cond limit", 3, "list"),
        _document("map", "input as in", 3, "list"),
        _document("reduce", "input initialValue in", 3, "any"),
        _document("sort_array", "input sortBy", 2, "list", since=(5, 2)),
        *_lists(0, None, "list", "set_union set_intersection"),
        *_lists(2, 2, "list", "set_difference"),
        *_lists(2, None, "bool", "set_equals"),
        *_lists(2, 2, "bool", "set_is_subset"),
        *(
            Operator(name, _server_name(name), "list", (), 1, 1, gives="bool")
            for name in ("any_element_true", "all_elements_true")
        ),
        *_of_arrays("number", "sum avg std_dev_pop std_dev_samp"),
        *_of_arrays("any", "min max first last"),
        *_of_arrays("other", "merge_objects"),
        _document("array_percentile", "input p method", 3, "list", since=(7, 0), op="$percentile"),
        _document("array_median", "input method", 2, "number", since=(7, 0), op="$median"),
        # documents
        OBJECT,
        _document("get_field", "field input", 2, "any"),
        _document("set_field", "field input value", 3, "other"),
        _document("unset_field", "field input", 2, "other"),
        *_ones("list", "object_to_array"),
        *_ones("other", "array_to_object"),
        # types
        *_ones("bool", "is_array is_number"),
        *_ones("other", "type to_bool to_date to_object_id to_string"),
        *_ones("number", "to_decimal to_double to_int to_long"),
        *_ones("other", "to_uuid", (8, 0)),
        _document("convert", "input to onError onNull format", 2, "any"),
        # others
        *(LITERAL, LET),
        *_ones("any", "meta"),
        *_ones("number", "binary_size bson_size"),
        *_ones("number", "to_hashed_index_key"),
        # over the rows of a group or window
        COUNT,
        *_over_rows("number", "sum avg std_dev_pop std_dev_samp"),
        *_over_rows("any", "min max first last"),
        *_over_rows("list", "push add_to_set"),
        *_over_rows("other", "merge_objects"),
        *(_document(name, "output sortBy", 2, "any", kind="accumulator", since=(5, 2)) for name in ("top", "bottom")),
        *(
            _document(name, "n output sortBy", 3, "list", kind="accumulator", since=(5, 2))
            for name in ("top_n", "bottom_n")
        ),
        *_counted("first_n last_n max_n min_n"),
        _document("percentile", "input p method", 3, "list", kind="accumulator", since=(7, 0)),
        _document("median", "input method", 2, "number", kind="accumulator", since=(7, 0)),
        # over the rows of a window
        *(
            Operator(name, _server_name(name), "none", (), 0, 0, "window", gives="number")
            for name in ("document_number", "rank", "dense_rank")
        ),
        _document("shift", "output by default", 2, "any", kind="window"),
        _document("derivative", "input unit", 1, "number", kind="window"),
        _document("integral", "input unit", 1, "number", kind="window"),
        _document("exp_moving_avg", "input N alpha", 1, "number", kind="window"),
        *_over_rows("any", "linear_fill", "window", (5, 3)),
        *_over_rows("any", "locf", "window", (5, 2)),
        *(
            Operator(name, _server_name(name), "list", (), 2, 2, "window", gives="number")
            for name in ("covariance_pop", "covariance_samp")
        ),
    )
}
"""All operators that expressions can hold, by their names in ``func``."""
