"""The operators of a pipeline, told from literals as the server does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["unknown_operators"]

_STAGES = (
    "$addFields $bucket $bucketAuto $count $facet $graphLookup $group $like $limit $lookup $match $merge $project "
    "$replaceRoot $replaceWith $sample $set $setWindowFields $skip $sort $sortByCount $unionWith $unset $unwind "
)
STAGES = set(_STAGES.split())
_COMPARE = "$eq $ne $gt $gte $lt $lte $in $nin $all $exists $size $regex $options $type $mod "
COMPARE = set(_COMPARE.split())
"""The operators of the match language whose arguments are literals."""
_EXPRESSIONS = (
    "$abs $add $allElementsTrue $and $anyElementTrue $arrayElemAt $arrayToObject $avg $ceil $cmp $concat "
    "$concatArrays $cond $convert $dateAdd $dateDiff $dateFromParts $dateFromString $dateSubtract $dateToParts "
    "$dateToString $dateTrunc $dayOfMonth $dayOfWeek $dayOfYear $divide $eq $exp $filter $first $firstN $floor "
    "$getField $gt $gte $hour $ifNull $in $indexOfArray $indexOfBytes $indexOfCP $isArray $isNumber $last $lastN "
    "$let $literal $ln $log $log10 $lt $lte $ltrim $map $max $maxN $mergeObjects $meta $millisecond $min $minN "
    "$minute $mod $month $multiply $ne $not $objectToArray $or $pow $push $addToSet $range $reduce $regexFind "
    "$regexFindAll $regexMatch $replaceAll $replaceOne $reverseArray $round $rtrim $second $setDifference "
    "$setEquals $setField $setIntersection $setIsSubset $setUnion $size $slice $sortArray $split $sqrt "
    "$strLenBytes $strLenCP $strcasecmp $substr $substrBytes $substrCP $subtract $sum $switch $toBool $toDate "
    "$toDecimal $toDouble $toInt $toLong $toLower $toObjectId $toString $toUpper $top $topN $bottom $bottomN "
    "$trim $trunc $type $unsetField $week $year $zip $isoWeek $isoWeekYear $isoDayOfWeek $rank $denseRank "
    "$documentNumber $shift $expMovingAvg $integral $derivative $covariancePop $covarianceSamp $stdDevPop "
    "$stdDevSamp $linearFill $locf $count $rand $sin $cos $tan $degreesToRadians $radiansToDegrees $bsonSize "
    "$binarySize $tsSecond $tsIncrement $percentile $median "
)
EXPRESSIONS = set(_EXPRESSIONS.split())


def unknown_operators(pipeline: list[dict[str, Any]]) -> list[str]:
    """Names with ``$`` where the server expects an operator and none of these is one."""
    return [name for stage in pipeline for name in _stage(stage)]


def _stage(stage: dict[str, Any]) -> Iterator[str]:
    ((name, body),) = stage.items()
    if name not in STAGES:
        yield name
    elif name == "$match":
        yield from _match(body)
    elif name == "$facet":
        for inner in body.values():
            yield from unknown_operators(inner)
    elif name in ("$lookup", "$unionWith", "$graphLookup"):
        yield from unknown_operators(body.get("pipeline", []))
        yield from _match(body.get("restrictSearchWithMatch", {}))
        yield from _expression(body.get("let", {}))
        yield from _expression(body.get("startWith"))
    elif name not in ("$like", "$sort", "$unwind", "$merge"):
        yield from _expression(body)


def _match(body: dict[str, Any]) -> Iterator[str]:
    for name, value in body.items():
        if name in ("$and", "$or", "$nor"):
            for condition in value:
                yield from _match(condition)
        elif name == "$expr":
            yield from _expression(value)
        elif name.startswith("$"):
            yield name
        elif isinstance(value, dict):
            yield from _operators(value)


def _operators(body: dict[str, Any]) -> Iterator[str]:
    if not any(name.startswith("$") for name in body):
        return  # a literal document
    for name, value in body.items():
        if name == "$not":
            yield from _operators(value)
        elif name == "$elemMatch":
            yield from (_operators if any(key in COMPARE for key in value) else _match)(value)
        elif name not in COMPARE:
            yield name


def _expression(body: Any) -> Iterator[str]:
    if isinstance(body, list):
        for item in body:
            yield from _expression(item)
    elif isinstance(body, dict) and "$literal" in body:
        yield from (name for name in body if name != "$literal")
    elif isinstance(body, dict):
        for name, value in body.items():
            if name.startswith("$") and name not in EXPRESSIONS:
                yield name
            yield from _expression(value)
