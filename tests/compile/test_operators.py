"""Every operator of `func`: what it becomes, and what a real server makes of that."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Iterator
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pymongo
import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp
from bson.codec_options import CodecOptions
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from superorm import Document, Embedded, Mapped, Registry, field
from superorm.compile.expressions import accumulator, emit, projected
from superorm.compile.scope import DocumentScope
from superorm.expr.base import Call, Expr
from superorm.expr.functions import func
from superorm.expr.nodes import case
from superorm.expr.operators import OPERATORS
from tests.databases import drop_database

registry = Registry()


class Actor(Embedded):
    name: Mapped[str]
    born: Mapped[int | None] = field(default=None)


class Film(Document, registry=registry):
    n: Mapped[int]
    x: Mapped[float]
    title: Mapped[str]
    text: Mapped[str]
    day: Mapped[dt.datetime]
    end: Mapped[dt.datetime]
    xs: Mapped[list[int]]
    ys: Mapped[list[int]]
    meta: Mapped[dict[str, Any]]
    cast: Mapped[list[Actor]]
    flags: Mapped[list[Any]]
    blob: Mapped[bytes]
    stamp: Mapped[Any]
    none: Mapped[int | None]


DAY = dt.datetime(2024, 2, 29, 13, 14, 15, 678000, tzinfo=dt.UTC)
END = dt.datetime(2025, 1, 1, 2, tzinfo=dt.UTC)
AL, BO = {"name": "Al", "born": 1940}, {"name": "Bo", "born": 1935}
DOCUMENT = {
    "_id": ObjectId("0" * 24),
    "n": -7,
    "x": 0.5,
    "title": "Hello wörld",
    "text": "  a.b ",
    "day": DAY,
    "end": END,
    "xs": [3, 1, 2],
    "ys": [2, 5],
    "meta": {"a": 1, "b.c": 2},
    "cast": [AL, BO],
    "flags": [True, 0],
    "blob": b"abc",
    "stamp": Timestamp(5, 6),
}
UNKNOWN = ...
"""A result that depends on the server's own ways, not checked."""
Row: TypeAlias = tuple[Expr[Any, Any], Any, Any]

NUMBERS: list[Row] = [
    (Film.n + 1, {"$add": ["$n", 1]}, -6),
    (func.add(Film.n, 1, Film.x), {"$add": ["$n", 1, "$x"]}, -5.5),
    (10 - Film.n, {"$subtract": [10, "$n"]}, 17),
    (Film.n * Film.x, {"$multiply": ["$n", "$x"]}, -3.5),
    (Film.n / 2, {"$divide": ["$n", 2]}, -3.5),
    (Film.n % 4, {"$mod": ["$n", 4]}, -3),
    (-Film.n, {"$multiply": ["$n", -1]}, 7),
    (Film.none + 1, {"$add": ["$none", 1]}, None),
    (func.abs(Film.n), {"$abs": "$n"}, 7),
    (func.ceil(Film.x), {"$ceil": "$x"}, 1.0),
    (func.floor(Film.x), {"$floor": "$x"}, 0.0),
    (func.round(Film.x, 1), {"$round": ["$x", 1]}, 0.5),
    (func.trunc(Film.x), {"$trunc": ["$x", 0]}, 0.0),
    (func.exp(Film.x), {"$exp": "$x"}, math.exp(0.5)),
    (func.ln(Film.x), {"$ln": "$x"}, math.log(0.5)),
    (func.log(Film.x, 2), {"$log": ["$x", 2]}, -1.0),
    (func.log10(Film.x), {"$log10": "$x"}, math.log10(0.5)),
    (func.pow(Film.x, 2), {"$pow": ["$x", 2]}, 0.25),
    (func.sqrt(Film.x), {"$sqrt": "$x"}, math.sqrt(0.5)),
    (func.sin(Film.x), {"$sin": "$x"}, math.sin(0.5)),
    (func.cos(Film.x), {"$cos": "$x"}, math.cos(0.5)),
    (func.tan(Film.x), {"$tan": "$x"}, math.tan(0.5)),
    (func.asin(Film.x), {"$asin": "$x"}, math.asin(0.5)),
    (func.acos(Film.x), {"$acos": "$x"}, math.acos(0.5)),
    (func.atan(Film.x), {"$atan": "$x"}, math.atan(0.5)),
    (func.atan2(Film.x, 2), {"$atan2": ["$x", 2]}, math.atan2(0.5, 2)),
    (func.sinh(Film.x), {"$sinh": "$x"}, math.sinh(0.5)),
    (func.cosh(Film.x), {"$cosh": "$x"}, math.cosh(0.5)),
    (func.tanh(Film.x), {"$tanh": "$x"}, math.tanh(0.5)),
    (func.asinh(Film.x), {"$asinh": "$x"}, math.asinh(0.5)),
    (func.acosh(func.literal(2)), {"$acosh": {"$literal": 2}}, math.acosh(2)),
    (func.atanh(Film.x), {"$atanh": "$x"}, math.atanh(0.5)),
    (func.degrees_to_radians(Film.x), {"$degreesToRadians": "$x"}, math.radians(0.5)),
    (func.radians_to_degrees(Film.x), {"$radiansToDegrees": "$x"}, math.degrees(0.5)),
    (func.bit_and(Film.n, 5), {"$bitAnd": ["$n", 5]}, -7 & 5),
    (func.bit_or(Film.n, 5), {"$bitOr": ["$n", 5]}, -7 | 5),
    (func.bit_xor(Film.n, 5), {"$bitXor": ["$n", 5]}, -7 ^ 5),
    (func.bit_not(Film.n), {"$bitNot": "$n"}, 6),
    (func.rand(), {"$rand": {}}, UNKNOWN),
    (func.cmp(Film.n, Film.title), {"$cmp": ["$n", "$title"]}, -1),
]  # fmt: skip
TEXTS: list[Row] = [
    (func.concat(Film.title, "!", Film.text), {"$concat": ["$title", "!", "$text"]}, "Hello wörld!  a.b "),
    (func.concat(Film.title, "$text"), {"$concat": ["$title", {"$literal": "$text"}]}, "Hello wörld$text"),
    (func.lower(Film.title), {"$toLower": "$title"}, "hello wörld"),
    (func.upper(Film.title), {"$toUpper": "$title"}, "HELLO WöRLD"),
    (func.to_lower(Film.title), {"$toLower": "$title"}, "hello wörld"),
    (func.to_upper(Film.title), {"$toUpper": "$title"}, "HELLO WöRLD"),
    (func.str_len_bytes(Film.title), {"$strLenBytes": "$title"}, 12),
    (func.str_len_cp(Film.title), {"$strLenCP": "$title"}, 11),
    (func.strcasecmp(Film.title, "HELLO"), {"$strcasecmp": ["$title", "HELLO"]}, 1),
    (func.substr_bytes(Film.title, 0, 2), {"$substrBytes": ["$title", 0, 2]}, "He"),
    (func.substr_cp(Film.title, 7, 3), {"$substrCP": ["$title", 7, 3]}, "örl"),
    (func.index_of_bytes(Film.title, "r"), {"$indexOfBytes": ["$title", "r"]}, 9),
    (func.index_of_cp(Film.title, "l", 5), {"$indexOfCP": ["$title", "l", 5]}, 9),
    (func.split(Film.title, " "), {"$split": ["$title", " "]}, ["Hello", "wörld"]),
    (func.trim(Film.text), {"$trim": {"input": "$text"}}, "a.b"),
    (func.ltrim(Film.text), {"$ltrim": {"input": "$text"}}, "a.b "),
    (func.rtrim(Film.text, chars=" b"), {"$rtrim": {"input": "$text", "chars": " b"}}, "  a."),
    (
        func.replace_one(Film.title, find="l", replacement="$"),
        {"$replaceOne": {"input": "$title", "find": "l", "replacement": {"$literal": "$"}}},
        "He$lo wörld",
    ),
    (
        func.replace_all(Film.title, "l", "L"),
        {"$replaceAll": {"input": "$title", "find": "l", "replacement": "L"}},
        "HeLLo wörLd",
    ),
    (func.regex_match(Film.text, "A", "i"), {"$regexMatch": {"input": "$text", "regex": "A", "options": "i"}}, True),
    (
        func.regex_find(Film.title, "l(.)"),
        {"$regexFind": {"input": "$title", "regex": "l(.)"}},
        {"match": "ll", "idx": 2, "captures": ["l"]},
    ),
    (
        func.regex_find_all(Film.title, regex="o"),
        {"$regexFindAll": {"input": "$title", "regex": "o"}},
        [{"match": "o", "idx": 4, "captures": []}],
    ),
]  # fmt: skip
DATES: list[Row] = [
    (func.year(Film.day), {"$year": "$day"}, 2024),
    (func.month(Film.day), {"$month": "$day"}, 2),
    (func.day_of_month(Film.day), {"$dayOfMonth": "$day"}, 29),
    (func.day_of_week(Film.day), {"$dayOfWeek": "$day"}, 5),
    (func.day_of_year(Film.day), {"$dayOfYear": "$day"}, 60),
    (func.hour(Film.day, timezone="+02:00"), {"$hour": {"date": "$day", "timezone": "+02:00"}}, 15),
    (func.minute(Film.day), {"$minute": "$day"}, 14),
    (func.second(Film.day), {"$second": "$day"}, 15),
    (func.millisecond(Film.day), {"$millisecond": "$day"}, 678),
    (func.week(Film.day), {"$week": "$day"}, int(DAY.strftime("%U"))),
    (func.iso_week(Film.day, "Asia/Tokyo"), {"$isoWeek": {"date": "$day", "timezone": "Asia/Tokyo"}}, 9),
    (func.iso_week_year(Film.day), {"$isoWeekYear": "$day"}, Int64(2024)),
    (func.iso_day_of_week(Film.day), {"$isoDayOfWeek": "$day"}, 4),
    (
        func.date_add(Film.day, "month", 12),
        {"$dateAdd": {"startDate": "$day", "unit": "month", "amount": 12}},
        DAY.replace(year=2025, day=28),
    ),
    (
        func.date_subtract(Film.day, unit="day", amount=1, timezone="UTC"),
        {"$dateSubtract": {"startDate": "$day", "unit": "day", "amount": 1, "timezone": "UTC"}},
        DAY - dt.timedelta(days=1),
    ),
    (
        func.date_diff(Film.day, Film.end, "day"),
        {"$dateDiff": {"startDate": "$day", "endDate": "$end", "unit": "day"}},
        (END.date() - DAY.date()).days,
    ),
    (
        func.date_diff(Film.day, END, "week", start_of_week="monday"),
        {"$dateDiff": {"startDate": "$day", "endDate": END, "unit": "week", "startOfWeek": "monday"}},
        44,
    ),
    (
        func.date_trunc(Film.day, "month"),
        {"$dateTrunc": {"date": "$day", "unit": "month"}},
        dt.datetime(2024, 2, 1, tzinfo=dt.UTC),
    ),
    (
        func.date_trunc(Film.day, unit="hour", timezone="UTC", bin_size=6),
        {"$dateTrunc": {"date": "$day", "unit": "hour", "binSize": 6, "timezone": "UTC"}},
        dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    ),
    (
        func.date_to_string(Film.day, "%Y-%m"),
        {"$dateToString": {"date": "$day", "format": "%Y-%m"}},
        "2024-02",
    ),
    (
        func.date_from_string("2024-02-29", format="%Y-%m-%d", on_error=None),
        {"$dateFromString": {"dateString": "2024-02-29", "format": "%Y-%m-%d", "onError": None}},
        dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    ),
    (
        func.date_to_parts(Film.end, iso8601=True),
        {"$dateToParts": {"date": "$end", "iso8601": True}},
        {"isoWeekYear": 2025, "isoWeek": 1, "isoDayOfWeek": 3, "hour": 2, "minute": 0, "second": 0, "millisecond": 0},
    ),
    (
        func.date_from_parts(year=2024, month=2, day=30),
        {"$dateFromParts": {"year": 2024, "month": 2, "day": 30}},
        dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
    ),
    (func.ts_second(Film.stamp), {"$tsSecond": "$stamp"}, Int64(5)),
    (func.ts_increment(Film.stamp), {"$tsIncrement": "$stamp"}, Int64(6)),
]  # fmt: skip
CHOICES: list[Row] = [
    (func.cond(Film.n == 1, "a", Film.title), {"$cond": [{"$eq": ["$n", 1]}, "a", "$title"]}, "Hello wörld"),
    (case((Film.n == 1, "a")), {"$cond": [{"$eq": ["$n", 1]}, "a", None]}, None),
    (
        case((Film.n == 1, "a"), (Film.n == -7, Film.x), else_=0),
        {
            "$switch": {
                "branches": [
                    {"case": {"$eq": ["$n", 1]}, "then": "a"},
                    {"case": {"$eq": ["$n", -7]}, "then": "$x"},
                ],
                "default": 0,
            }
        },
        0.5,
    ),
    (func.if_null(Film.none, Film.n, 0), {"$ifNull": ["$none", "$n", 0]}, -7),
    (func.eq(Film.none, None), {"$eq": ["$none", None]}, False),
    (func.ne(Film.n, Film.x), {"$ne": ["$n", "$x"]}, True),
    (func.gt(Film.title, Film.n), {"$gt": ["$title", "$n"]}, True),
    (func.gte(Film.n, -7), {"$gte": ["$n", -7]}, True),
    (func.lt(Film.none, Film.n), {"$lt": ["$none", "$n"]}, True),
    (func.lte(Film.n, -8), {"$lte": ["$n", -8]}, False),
    (func.and_(Film.n, Film.title), {"$and": ["$n", "$title"]}, True),
    (func.or_(Film.none, 0), {"$or": ["$none", 0]}, False),
    (func.not_(Film.none), {"$not": ["$none"]}, True),
    (Film.n == 1, {"$eq": ["$n", 1]}, False),
]  # fmt: skip
OVER_25 = {"$and": [{"$gt": ["$$item", 1]}, {"$lt": ["$$item", ""]}]}
LISTS: list[Row] = [
    (Film.xs.size(), {"$cond": [{"$isArray": "$xs"}, {"$size": "$xs"}, None]}, 3),
    (func.size(Film.none), {"$cond": [{"$isArray": "$none"}, {"$size": "$none"}, None]}, None),
    (Film.xs[1], {"$arrayElemAt": [{"$cond": [{"$isArray": "$xs"}, "$xs", []]}, 1]}, 1),
    (
        Film.cast[1].name,
        {
            "$let": {
                "vars": {"e": {"$arrayElemAt": [{"$cond": [{"$isArray": "$cast"}, "$cast", []]}, 1]}},
                "in": "$$e.name",
            }
        },
        "Bo",
    ),
    (func.array(Film.n, Film.none, "$x"), ["$n", "$none", {"$literal": "$x"}], [-7, None, "$x"]),
    (func.array_elem_at(Film.xs, -1), {"$arrayElemAt": ["$xs", -1]}, 2),
    (func.concat_arrays(Film.xs, [7], Film.ys), {"$concatArrays": ["$xs", [7], "$ys"]}, [3, 1, 2, 7, 2, 5]),
    (func.in_(1, Film.xs), {"$in": [1, "$xs"]}, True),
    (func.index_of_array(Film.xs, 2), {"$indexOfArray": ["$xs", 2]}, 2),
    (func.range(0, 10, 4), {"$range": [0, 10, 4]}, [0, 4, 8]),
    (func.slice(Film.xs, 2), {"$slice": ["$xs", 2]}, [3, 1]),
    (func.reverse_array(Film.xs), {"$reverseArray": "$xs"}, [2, 1, 3]),
    (func.reverse_array([1, 2]), {"$reverseArray": [[1, 2]]}, [2, 1]),
    (
        func.filter(Film.xs, lambda item: item > 1),
        {"$filter": {"input": "$xs", "as": "item", "cond": OVER_25}},
        [3, 2],
    ),
    (
        func.filter(Film.xs, lambda item: item > 1, limit=1),
        {"$filter": {"input": "$xs", "as": "item", "cond": OVER_25, "limit": 1}},
        [3],
    ),
    (
        func.filter(Film.cast, lambda item: item.name == "Al"),
        {"$filter": {"input": "$cast", "as": "item", "cond": {"$eq": ["$$item.name", "Al"]}}},
        [AL],
    ),
    (
        func.map(Film.cast, lambda item: func.upper(item.name)),
        {"$map": {"input": "$cast", "as": "item", "in": {"$toUpper": "$$item.name"}}},
        ["AL", "BO"],
    ),
    (
        func.map(Film.xs, lambda x: func.map(Film.ys, lambda y: x * y)),
        {
            "$map": {
                "input": "$xs",
                "as": "item",
                "in": {"$map": {"input": "$ys", "as": "item2", "in": {"$multiply": ["$$item", "$$item2"]}}},
            }
        },
        [[6, 15], [2, 5], [4, 10]],
    ),
    (
        func.reduce(Film.xs, 0, lambda value, this: value * 2 + this),
        {
            "$reduce": {
                "input": "$xs",
                "initialValue": 0,
                "in": {"$add": [{"$multiply": ["$$value", 2]}, "$$this"]},
            }
        },
        (3 * 2 + 1) * 2 + 2,
    ),
    (
        func.reduce(Film.xs, 0, lambda value, this: func.reduce(Film.ys, value, lambda v, t: v + this * t)),
        {
            "$reduce": {
                "input": "$xs",
                "initialValue": 0,
                "in": {
                    "$let": {
                        "vars": {"value2": "$$value", "this2": "$$this"},
                        "in": {
                            "$reduce": {
                                "input": "$ys",
                                "initialValue": "$$value2",
                                "in": {
                                    "$let": {
                                        "vars": {"value3": "$$value", "this3": "$$this"},
                                        "in": {"$add": ["$$value3", {"$multiply": ["$$this2", "$$this3"]}]},
                                    }
                                },
                            }
                        },
                    }
                },
            }
        },
        UNKNOWN,
    ),
    (func.sort_array(Film.xs), {"$sortArray": {"input": "$xs", "sortBy": 1}}, [1, 2, 3]),
    (func.sort_array(Film.xs, -1), {"$sortArray": {"input": "$xs", "sortBy": -1}}, [3, 2, 1]),
    (func.sort_array(Film.cast, by=Actor.born), {"$sortArray": {"input": "$cast", "sortBy": {"born": 1}}}, [BO, AL]),
    (
        func.sort_array(Film.cast, [Actor.name.desc(), Actor.born]),
        {"$sortArray": {"input": "$cast", "sortBy": {"name": -1, "born": 1}}},
        [BO, AL],
    ),
    (func.sort_array(Film.cast, {"born": -1}), {"$sortArray": {"input": "$cast", "sortBy": {"born": -1}}}, [AL, BO]),
    (func.zip(Film.xs, Film.ys), {"$zip": {"inputs": ["$xs", "$ys"]}}, [[3, 2], [1, 5]]),
    (
        func.zip(Film.xs, Film.ys, defaults=[0, 9]),
        {"$zip": {"inputs": ["$xs", "$ys"], "useLongestLength": True, "defaults": [0, 9]}},
        [[3, 2], [1, 5], [2, 9]],
    ),
    (func.set_union(Film.xs, Film.ys), {"$setUnion": ["$xs", "$ys"]}, [1, 2, 3, 5]),
    (func.set_intersection(Film.xs, Film.ys), {"$setIntersection": ["$xs", "$ys"]}, [2]),
    (func.set_difference(Film.ys, Film.xs), {"$setDifference": ["$ys", "$xs"]}, [5]),
    (func.set_equals(Film.xs, [1, 2, 3]), {"$setEquals": ["$xs", [1, 2, 3]]}, True),
    (func.set_is_subset(Film.ys, Film.xs), {"$setIsSubset": ["$ys", "$xs"]}, False),
    (func.any_element_true(Film.flags), {"$anyElementTrue": ["$flags"]}, True),
    (func.all_elements_true(Film.flags), {"$allElementsTrue": ["$flags"]}, False),
    (func.array_sum(Film.xs), {"$sum": "$xs"}, 6),
    (func.array_avg(Film.xs), {"$avg": "$xs"}, 2.0),
    (func.array_min(Film.xs), {"$min": "$xs"}, 1),
    (func.array_max(Film.xs), {"$max": "$xs"}, 3),
    (func.array_max([1, 9]), {"$max": [[1, 9]]}, 9),
    (func.array_std_dev_pop(Film.xs), {"$stdDevPop": "$xs"}, statistics.pstdev([3, 1, 2])),
    (func.array_std_dev_samp(Film.xs), {"$stdDevSamp": "$xs"}, statistics.stdev([3, 1, 2])),
    (func.array_first(Film.xs), {"$first": "$xs"}, 3),
    (func.array_last(Film.xs), {"$last": "$xs"}, 2),
    (func.array_merge_objects(Film.cast), {"$mergeObjects": "$cast"}, BO),
    (func.array_first_n(2, Film.xs), {"$firstN": {"n": 2, "input": "$xs"}}, [3, 1]),
    (func.array_last_n(2, Film.xs), {"$lastN": {"n": 2, "input": "$xs"}}, [1, 2]),
    (func.array_max_n(2, Film.xs), {"$maxN": {"n": 2, "input": "$xs"}}, [3, 2]),
    (func.array_min_n(n=2, input=Film.xs), {"$minN": {"n": 2, "input": "$xs"}}, [1, 2]),
    (
        func.array_percentile(Film.xs, [0.5], "approximate"),
        {"$percentile": {"input": "$xs", "p": [0.5], "method": "approximate"}},
        [2],
    ),
    (
        func.array_median(Film.xs, "approximate"),
        {"$median": {"input": "$xs", "method": "approximate"}},
        2,
    ),
    (func.sum(Film.n, Film.x), {"$sum": ["$n", "$x"]}, -6.5),
    (func.avg(Film.n, 1), {"$avg": ["$n", 1]}, -3.0),
    (func.min(Film.n, Film.none, 0), {"$min": ["$n", "$none", 0]}, -7),
    (func.max(Film.n, 0), {"$max": ["$n", 0]}, 0),
    (func.std_dev_pop(Film.n, 1), {"$stdDevPop": ["$n", 1]}, 4.0),
    (func.std_dev_samp(Film.n, 1), {"$stdDevSamp": ["$n", 1]}, statistics.stdev([-7, 1])),
    (func.merge_objects(Film.meta, {"a": 2}), {"$mergeObjects": ["$meta", {"$literal": {"a": 2}}]}, {"a": 2, "b.c": 2}),
]  # fmt: skip
DOCUMENTS: list[Row] = [
    (func.object(a=Film.n, b="$x"), {"a": "$n", "b": {"$literal": "$x"}}, {"a": -7, "b": "$x"}),
    (func.object(a=1), {"a": 1}, {"a": 1}),
    (func.get_field(Film.meta, "b.c"), {"$getField": {"field": "b.c", "input": "$meta"}}, 2),
    (
        func.set_field(Film.meta, "$a", Film.n),
        {"$setField": {"field": {"$literal": "$a"}, "input": "$meta", "value": "$n"}},
        {"a": 1, "b.c": 2, "$a": -7},
    ),
    (func.unset_field(Film.meta, "a"), {"$unsetField": {"field": "a", "input": "$meta"}}, {"b.c": 2}),
    (func.object_to_array(Film.meta), {"$objectToArray": "$meta"}, [{"k": "a", "v": 1}, {"k": "b.c", "v": 2}]),
    (func.array_to_object([["a", 1]]), {"$arrayToObject": [[["a", 1]]]}, {"a": 1}),
]  # fmt: skip
TYPES: list[Row] = [
    (func.is_array(Film.xs), {"$isArray": "$xs"}, True),
    (func.is_number(Film.title), {"$isNumber": "$title"}, False),
    (func.type(Film.x), {"$type": "$x"}, "double"),
    (func.to_bool(Film.n), {"$toBool": "$n"}, True),
    (func.to_date(Film.id), {"$toDate": "$_id"}, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
    (func.to_object_id("1" * 24), {"$toObjectId": "1" * 24}, ObjectId("1" * 24)),
    (func.to_string(Film.n), {"$toString": "$n"}, "-7"),
    (func.to_decimal(Film.x), {"$toDecimal": "$x"}, UNKNOWN),
    (func.to_double(Film.n), {"$toDouble": "$n"}, -7.0),
    (func.to_int(Film.x), {"$toInt": "$x"}, 0),
    (func.to_long(Film.n), {"$toLong": "$n"}, Int64(-7)),
    (func.to_uuid(str(UUID(int=5))), {"$toUUID": str(UUID(int=5))}, UUID(int=5)),
    (
        func.convert(Film.title, to="int", on_error=-1),
        {"$convert": {"input": "$title", "to": "int", "onError": -1}},
        -1,
    ),
    (func.literal("$title"), {"$literal": "$title"}, "$title"),
    (func.literal({"$ne": None}), {"$literal": {"$ne": None}}, {"$ne": None}),
    (func.binary_size(Film.blob), {"$binarySize": "$blob"}, 3),
    (func.bson_size(Film.meta), {"$bsonSize": "$meta"}, UNKNOWN),
    (func.to_hashed_index_key(Film.title), {"$toHashedIndexKey": "$title"}, UNKNOWN),
]  # fmt: skip
SCALARS = [*NUMBERS, *TEXTS, *DATES, *CHOICES, *LISTS, *DOCUMENTS, *TYPES]

ROWS = [
    {"_id": n, "n": n, "x": value, "title": title} for n, value, title in ((1, 4.0, "a"), (2, None, "b"), (3, 1.0, "a"))
]
COVARIANCE = ((1 - 2) * (4 - 2.5) + (3 - 2) * (1 - 2.5)) / 2
ACCUMULATORS: list[Row] = [
    (func.count(), {"$sum": 1}, 3),
    (func.count(Film), {"$sum": 1}, 3),
    (func.count(Film.x), {"$sum": {"$cond": [{"$eq": [{"$ifNull": ["$x", None]}, None]}, 0, 1]}}, 2),
    (func.sum(Film.n), {"$sum": "$n"}, 6),
    (func.sum(Film.n * 2), {"$sum": {"$multiply": ["$n", 2]}}, 12),
    (func.avg(Film.x), {"$avg": "$x"}, 2.5),
    (func.min(Film.x), {"$min": "$x"}, 1.0),
    (func.max(Film.x), {"$max": "$x"}, 4.0),
    (func.std_dev_pop(Film.n), {"$stdDevPop": "$n"}, statistics.pstdev([1, 2, 3])),
    (func.std_dev_samp(Film.n), {"$stdDevSamp": "$n"}, 1.0),
    (func.first(Film.n), {"$first": "$n"}, 1),
    (func.last(Film.n), {"$last": "$n"}, 3),
    (func.push(Film.title), {"$push": "$title"}, ["a", "b", "a"]),
    (func.push(func.array(Film.n, 0)), {"$push": {"$concatArrays": [["$n", 0]]}}, [[1, 0], [2, 0], [3, 0]]),
    (func.push(func.object(n=Film.n)), {"$push": {"n": "$n"}}, [{"n": 1}, {"n": 2}, {"n": 3}]),
    (func.add_to_set(Film.title), {"$addToSet": "$title"}, UNKNOWN),
    (func.merge_objects(func.object(a=Film.n)), {"$mergeObjects": {"a": "$n"}}, {"a": 3}),
    (func.top(Film.title, order_by=Film.x), {"$top": {"output": "$title", "sortBy": {"x": 1}}}, "b"),
    (func.bottom(Film.n, order_by=[Film.x]), {"$bottom": {"output": "$n", "sortBy": {"x": 1}}}, 1),
    (
        func.top_n(2, Film.n, order_by=[Film.title.desc(), Film.n]),
        {"$topN": {"n": 2, "output": "$n", "sortBy": {"title": -1, "n": 1}}},
        [2, 1],
    ),
    (func.bottom_n(2, Film.n, order_by=Film.n), {"$bottomN": {"n": 2, "output": "$n", "sortBy": {"n": 1}}}, [2, 3]),
    (func.first_n(2, Film.n), {"$firstN": {"n": 2, "input": "$n"}}, [1, 2]),
    (func.last_n(2, Film.n), {"$lastN": {"n": 2, "input": "$n"}}, [2, 3]),
    (func.max_n(2, Film.n), {"$maxN": {"n": 2, "input": "$n"}}, [3, 2]),
    (func.min_n(1, Film.x), {"$minN": {"n": 1, "input": "$x"}}, [1.0]),
    (
        func.percentile(Film.n, [0.5, 1]),
        {"$percentile": {"input": "$n", "p": [0.5, 1], "method": "approximate"}},
        [2, 3],
    ),
    (func.median(Film.n), {"$median": {"input": "$n", "method": "approximate"}}, 2),
]  # fmt: skip
WINDOWS: list[Row] = [
    (func.document_number(), {"$documentNumber": {}}, [1, 2, 3]),
    (func.rank(), {"$rank": {}}, [1, 2, 3]),
    (func.dense_rank(), {"$denseRank": {}}, [1, 2, 3]),
    (func.shift(Film.n, -1, default=0), {"$shift": {"output": "$n", "by": -1, "default": 0}}, [0, 1, 2]),
    (func.shift(Film.title, 1), {"$shift": {"output": "$title", "by": 1}}, ["b", "a", None]),
    (func.derivative(Film.n), {"$derivative": {"input": "$n"}}, [1.0, 1.0, 1.0]),
    (func.integral(Film.n), {"$integral": {"input": "$n"}}, [4.0, 4.0, 4.0]),
    (func.exp_moving_avg(Film.n, alpha=0.5), {"$expMovingAvg": {"input": "$n", "alpha": 0.5}}, [1, 1.5, 2.25]),
    (func.exp_moving_avg(Film.n, n=3), {"$expMovingAvg": {"input": "$n", "N": 3}}, [1, 1.5, 2.25]),
    (func.linear_fill(Film.x), {"$linearFill": "$x"}, [4.0, 2.5, 1.0]),
    (func.locf(Film.x), {"$locf": "$x"}, [4.0, 4.0, 1.0]),
    (func.covariance_pop(Film.n, Film.x), {"$covariancePop": ["$n", "$x"]}, [COVARIANCE] * 3),
    (func.covariance_samp(Film.n, Film.x), {"$covarianceSamp": ["$n", "$x"]}, [2 * COVARIANCE] * 3),
    (func.sum(Film.n), {"$sum": "$n"}, [6, 6, 6]),
]  # fmt: skip
BOUNDED = {"derivative", "integral", "covariance_pop", "covariance_samp"}
"""Operators of windows that need a frame, or are tested with one."""


def _calls(node: Any) -> Iterator[Call[Any, Any]]:
    if isinstance(node, Call):
        yield node
    if isinstance(node, Expr):
        for child in node.children():
            yield from _calls(child)


def _since(node: Any) -> tuple[int, int]:
    return max((call.operator.since for call in _calls(node)), default=(0, 0))


def test_every_operator_is_in_the_tables() -> None:
    """No operator of `func` is left out below; `meta` needs a text index, and has a test of its own."""
    nodes = [node for node, _, _ in SCALARS + ACCUMULATORS + WINDOWS]
    assert {*OPERATORS} - {"meta"} == {call.operator.name for node in nodes for call in _calls(node)}


@pytest.mark.parametrize(("node", "expected"), [row[:2] for row in SCALARS], ids=[str(row[1])[:60] for row in SCALARS])
def test_operators(node: Expr[Any, Any], expected: Any) -> None:
    """Each operator is the expression that one would write by hand."""
    assert str(expected) == str(emit(node, DocumentScope(Film)))


@pytest.mark.parametrize(("call", "expected"), [row[:2] for row in ACCUMULATORS + WINDOWS], ids=repr)
def test_accumulators(call: Any, expected: Any) -> None:
    """Each operator over rows is what one would write by hand into a group or window."""
    assert str(expected) == str(accumulator(call, DocumentScope(Film)))


@pytest.fixture(scope="module")
def server(mongodb_uri: str) -> Iterator[tuple[Collection[Any], tuple[int, int]]]:
    """Collections of a database of our own, and the server's version."""
    with pymongo.MongoClient[Any](mongodb_uri) as client:
        name = f"operators_{uuid4().hex[:12]}"
        major, minor, *_ = client.server_info()["versionArray"]
        options = CodecOptions[Any](tz_aware=True, uuid_representation=4)
        films = client.get_database(name, codec_options=options)["films"]
        films.insert_one(DOCUMENT)
        films.database["rows"].insert_many(ROWS)
        yield films, (major, minor)
        drop_database(client, name)


def _close(expected: Any, found: Any) -> bool:
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_close, expected, found))
    return found == (pytest.approx(expected, rel=1e-9) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(("node", "_", "expected"), SCALARS, ids=[str(row[1])[:60] for row in SCALARS])
def test_results(server: tuple[Collection[Any], tuple[int, int]], node: Any, _: Any, expected: Any) -> None:
    """The server computes what Python does; operators newer than it are those that it refuses."""
    films, version = server
    pipeline = [{"$project": {"_id": 0, "value": projected(node, DocumentScope(Film))}}]
    if _since(node) > version:
        with pytest.raises(OperationFailure):
            films.aggregate(pipeline)
        return
    (found,) = films.aggregate(pipeline)
    assert expected is UNKNOWN or _close(expected, found.get("value"))


@pytest.mark.parametrize(("call", "_", "expected"), ACCUMULATORS, ids=repr)
def test_results_of_groups(server: tuple[Collection[Any], tuple[int, int]], call: Any, _: Any, expected: Any) -> None:
    """The same of accumulators, over three rows in order."""
    films, version = server
    pipeline = [{"$sort": {"_id": 1}}, {"$group": {"_id": None, "value": accumulator(call, DocumentScope(Film))}}]
    if _since(call) > version:
        with pytest.raises(OperationFailure):
            films.database["rows"].aggregate(pipeline)
        return
    (found,) = films.database["rows"].aggregate(pipeline)
    assert expected is UNKNOWN or _close(expected, found["value"])


@pytest.mark.parametrize(("call", "_", "expected"), WINDOWS, ids=repr)
def test_results_of_windows(server: tuple[Collection[Any], tuple[int, int]], call: Any, _: Any, expected: Any) -> None:
    """The same of the operators of windows, over the whole partition."""
    films, version = server
    output = accumulator(call, DocumentScope(Film))
    if call.operator.name in BOUNDED:
        output = {**output, "window": {"documents": ["unbounded", "unbounded"]}}
    pipeline = [{"$setWindowFields": {"sortBy": {"n": 1}, "output": {"value": output}}}, {"$sort": {"n": 1}}]
    assert _since(call) <= version
    assert _close(expected, [row["value"] for row in films.database["rows"].aggregate(pipeline)])


def test_meta(server: tuple[Collection[Any], tuple[int, int]]) -> None:
    """What the server knows of a row: the score of a text search."""
    films, _ = server
    films.create_index([("title", "text")])
    score = emit(func.meta("textScore"), DocumentScope(Film))
    assert {"$meta": "textScore"} == score
    (found,) = films.aggregate([{"$match": {"$text": {"$search": "hello"}}}, {"$project": {"score": score}}])
    assert found["score"] > 0


def test_what_a_projection_would_take_for_something_else(server: tuple[Collection[Any], tuple[int, int]]) -> None:
    """Numbers, truth values, texts and documents of one value are values in a projection, not inclusions."""
    films, _ = server
    scope = DocumentScope(Film)
    values: list[Any] = [1, 0, True, None, 2.5, "x", "$n", {}, {"a": 1}, [1, {"a": 0}], Decimal128("0"), DAY]
    stage = {f"v{n}": projected(value, scope) for n, value in enumerate(values)}
    (found,) = films.aggregate([{"$project": {"_id": 0, **stage}}])
    assert values == list(found.values())
    (found,) = films.aggregate(
        [{"$set": {"meta": projected(func.object(z=1), scope)}}, {"$project": {"meta": 1, "_id": 0}}]
    )
    assert {"meta": {"z": 1}} == found
