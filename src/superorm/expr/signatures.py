"""Of what types operators' arguments and values are, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

from attrs import frozen

from superorm.expr.operators import Operator

__all__ = ["SIGNATURES", "Letter", "Result", "Signature"]

Letter: TypeAlias = Literal["v", "l", "-"]
"""Of an argument: ``v`` is of the type that all arguments so marked share, ``l`` a list of that, ``-`` neither."""
Result: TypeAlias = Literal["v", "l", "number", "mean", "int", "float", "decimal", "text", "bool", "date", "key"] | str
"""Of the value: ``v`` and ``l`` as of an argument, ``number`` and ``mean`` a number of the widest kind of the
arguments, the latter no int; or a type, and ``[text]`` a list of such. All may be null."""


@frozen
class Signature:
    """The types of one operator, such as ``v l -> bool`` of ``in_``."""

    letters: tuple[Letter, ...]
    repeats: bool
    """Whether the last letter holds for all further arguments."""
    result: Result

    def letter(self, operator: Operator, position: int, count: int) -> Letter:
        """That of one of `count` arguments."""
        last = len(self.letters) - 1
        if position > last and not self.repeats:
            return "-"
        found = self.letters[min(position, last)]
        return "l" if operator.style == "some" and count == 1 and found == "v" else found


def _signature(text: str) -> Signature:
    given, _, result = text.rpartition("->")
    letters = given.replace("*", "").split()
    return Signature(cast("tuple[Letter, ...]", tuple(letters)), "*" in given, result.strip())


SIGNATURES: dict[str, Signature] = {
    name: _signature(text)
    for text, names in {
        # numbers
        "v* -> number": "add subtract multiply mod abs ceil floor linear_fill sum array_sum",
        "v - -> number": "round trunc",
        "v* -> mean": "divide avg array_avg exp_moving_avg covariance_pop covariance_samp",
        "v - -> mean": "derivative integral",
        "-> float": "rand std_dev_pop std_dev_samp array_std_dev_pop array_std_dev_samp median array_median to_double",
        "-> int": "count size str_len_bytes str_len_cp strcasecmp index_of_bytes index_of_cp to_int to_long"
        " year month day_of_month day_of_week day_of_year hour minute second millisecond"
        " week iso_day_of_week iso_week iso_week_year date_diff ts_second ts_increment"
        " binary_size bson_size to_hashed_index_key document_number rank dense_rank bit_and bit_or bit_xor bit_not",
        "-> decimal": "to_decimal",
        "-> [int]": "range",
        "-> [float]": "percentile array_percentile",
        # texts, dates, keys
        "-> text": "concat lower upper to_lower to_upper substr_bytes substr_cp trim ltrim rtrim"
        " replace_one replace_all type to_string",
        "-> [text]": "split",
        "-> date": "date_add date_subtract date_trunc date_from_parts to_date",
        "-> key": "to_object_id",
        # conditions
        "-> bool": "and_ or_ not_ regex_match any_element_true all_elements_true is_array is_number to_bool",
        "v v -> bool": "eq ne gt gte lt lte",
        "v v -> int": "cmp",
        # choices, and arguments as they are
        "- v v -> v": "cond reduce",
        "- v -> v": "let",
        "v* -> v": "if_null array_min array_max array_first array_last min max first last locf",
        "v - -> v": "top bottom",
        "v - v -> v": "shift",
        # lists
        "l - -> v": "array_elem_at",
        "v l -> bool": "in_",
        "l v - - -> int": "index_of_array",
        "l* -> bool": "set_equals set_is_subset",
        "l* -> l": "concat_arrays set_union set_intersection set_difference reverse_array",
        "l - - -> l": "slice filter sort_array",
        "- - v -> l": "map",
        "v* -> l": "array push add_to_set",
        "- v - -> l": "top_n bottom_n first_n last_n max_n min_n",
        "- l -> l": "array_first_n array_last_n array_max_n array_min_n",
    }.items()
    for name in names.split()
}
"""By the operators' names in ``func``; of those that are not here nothing is known."""
