"""Filters on the metadata of documents: a dict, as LangChain's stores take it, becomes a Q."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import JSONField, Q, Value
from django.db.models.lookups import Exact, IContains, In

from pgembedding_django.documents.members import Like, Member, MemberText, equals_any, matches, never_null
from pgembedding_django.documents.storable import check_text, shown

__all__ = ["parse_filter"]

#: What no row passes.
NOTHING = Q(pk__in=[])

CONTAINERS = (list, tuple, dict)

COMPARISONS = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}

#: Dicts and lists within each other: more than a filter needs, and fewer than Python's stack bears when Django compiles
#: them (240 levels of $not were too many).
MAX_DEPTH = 50

#: From how many values on $in looks a row's value up in a hash table; fewer are compared one by one, by the GIN index.
#: In 20,000 rows without that index, one of 1,000 values was found in 0.02 seconds, and in 5 by comparing.
MANY = 100


def parse_filter(conditions: Mapping[str, Any]) -> Q:
    """
    Return the Q of a filter on the JSONField "metadata".

    conditions: key to value, or to {operator: value}; all must hold. "$and" and "$or" take a list of such filters,
        "$not" takes one, or a list of which none may hold. Operators: $eq $ne $lt $lte $gt $gte $in $nin $between $like
        $ilike $exists, and LangChain's older "in" (by text) and "substring" (in any case). {} keeps every row.
    Values compare as what they are: 1 is neither "1" nor true, and what cannot be compared does not match. A list in
    the metadata matches where one of its elements does. $ne and $nin match only rows that have the key; $not matches
    all that its filter does not. A key names one member of the metadata, whatever characters it has.
    Raises ValueError for an unknown operator, for a value that an operator cannot take, and for what is nested deeper
    than MAX_DEPTH.
    $eq and $in can use a GIN index (jsonb_path_ops); the others read each row.
    """
    _check_depth(conditions)
    return _parse(conditions)


def _parse(conditions: Mapping[str, Any]) -> Q:
    if not isinstance(conditions, Mapping) or not all(isinstance(key, str) for key in conditions):
        raise ValueError(f"A filter must map keys to conditions, got {shown(conditions)}.")
    return Q(*((_join if key.startswith("$") else _compare)(key, value) for key, value in conditions.items()))


def _join(name: str, filters: Any) -> Q:
    operator = name.lower()
    if operator not in ("$and", "$or", "$not"):
        raise ValueError(f"A filter must have keys, $and, $or or $not, got {name!r}.")
    if operator == "$not" and isinstance(filters, Mapping):
        filters = [filters]
    if not isinstance(filters, list | tuple) or not filters or not all(filters):
        raise ValueError(f"{operator} must be a list of filters with a condition each, got {shown(filters)}.")
    parts = [_parse(each) for each in filters]
    if operator == "$not":
        return Q(*(~part for part in parts))
    return Q(*parts, _connector=Q.OR if operator == "$or" else Q.AND)


def _compare(key: str, condition: Any) -> Q:
    check_text(key, "A key")
    if not isinstance(condition, Mapping):
        return _equal(key, condition, "$eq")
    if not condition:
        raise ValueError(f"A filter must have a value or an operator for {key!r}, got an empty dict.")
    return Q(*(_find_operator(name)(key, value, name) for name, value in condition.items()))


def _find_operator(name: object) -> Operator:
    operator = OPERATORS.get(name.lower()) if isinstance(name, str) else None
    if operator is None:
        raise ValueError(f"A filter's operator must be one of {', '.join(OPERATORS)}, got {name!r}.")
    return operator


# The operators. Each is true or false and never NULL, which NOT would leave as it is.


def _equal(key: str, value: Any, operator: str) -> Q:
    _check_json(value, operator)
    if isinstance(value, CONTAINERS):
        # Containment is found by the index, but it is less than equality.
        return Q(Exact(Member(key), Value(value, JSONField())), metadata__contains={key: value})
    return matches(key, f"@ == {json.dumps(value)}")


def _not_equal(key: str, value: Any, operator: str) -> Q:
    return Q(metadata__has_key=key) & ~_equal(key, value, operator)


def _in(key: str, values: Any, operator: str) -> Q:
    _check_list(values, operator)
    for value in values:
        _check_json(value, operator)
    parts = [_equal(key, value, operator) for value in values if isinstance(value, CONTAINERS)]
    scalars = [value for value in values if not isinstance(value, CONTAINERS)]
    if scalars:
        parts.append(_equals_one(key, scalars))
    return Q(*parts, _connector=Q.OR) if parts else NOTHING


def _equals_one(key: str, values: list[Any]) -> Q:
    if len(values) < MANY:
        return matches(key, " || ".join(f"@ == {json.dumps(value)}" for value in values))
    return equals_any(key, values)


def _not_in(key: str, values: Any, operator: str) -> Q:
    return Q(metadata__has_key=key) & ~_in(key, values, operator)


def _ordered(key: str, value: Any, operator: str) -> Q:
    _check_scalar(value, operator)
    return matches(key, f"@ {COMPARISONS[operator.lower()]} {json.dumps(value)}")


def _between(key: str, bounds: Any, operator: str) -> Q:
    _check_list(bounds, operator)
    if len(bounds) != 2:
        raise ValueError(f"{operator} must have a lowest and a highest value, got {len(bounds)} values.")
    for bound in bounds:
        _check_scalar(bound, operator)
    return matches(key, f"@ >= {json.dumps(bounds[0])} && @ <= {json.dumps(bounds[1])}")


def _like(key: str, pattern: Any, operator: str) -> Q:
    _check_pattern(pattern, operator)
    return never_null(Like(MemberText(key), Value(pattern), arg_joiner=f" {operator.removeprefix('$').upper()} "))


def _substring(key: str, part: Any, operator: str) -> Q:
    check_text(part, operator)
    return never_null(IContains(MemberText(key), part))


def _in_by_text(key: str, values: Any, operator: str) -> Q:
    _check_list(values, operator)
    texts = [value for value in values if isinstance(value, str)]
    for text in texts:
        check_text(text, operator)
    others = _in(key, [value for value in values if not isinstance(value, str)], operator)
    return others | never_null(In(MemberText(key), texts)) if texts else others


def _exists(key: str, wanted: Any, operator: str) -> Q:
    if not isinstance(wanted, bool):
        raise ValueError(f"{operator} must be True or False, got {shown(wanted)}.")
    return Q(metadata__has_key=key) if wanted else ~Q(metadata__has_key=key)


Operator = Callable[[str, Any, str], Q]

OPERATORS: dict[str, Operator] = {
    "$eq": _equal,
    "$ne": _not_equal,
    **dict.fromkeys(COMPARISONS, _ordered),
    "$in": _in,
    "$nin": _not_in,
    "$between": _between,
    "$like": _like,
    "$ilike": _like,
    "$exists": _exists,
    "in": _in_by_text,
    "substring": _substring,
}


# What an operator takes


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [member for each in level for member in _members(each)]
        if not level:
            return
    raise ValueError(f"A filter must have at most {MAX_DEPTH} dicts and lists within each other.")


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _check_list(values: Any, operator: str) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ValueError(f"{operator} must be a list of values, got {shown(values)}.")


def _check_scalar(value: Any, operator: str) -> None:
    if isinstance(value, CONTAINERS):
        raise ValueError(f"{operator} must be a number, a text or a boolean, got {shown(value)}.")
    _check_json(value, operator)


def _check_pattern(pattern: Any, operator: str) -> None:
    check_text(pattern, operator)
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise ValueError(f"{operator} must not end with a single backslash. Write two for the character.")


def _check_json(value: Any, operator: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{operator} must be a value of JSON, got {shown(value)}. Write dates as the metadata has them."
        ) from error
    for text in _texts(value):
        check_text(text, operator)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        members = [*value, *value.values()] if isinstance(value, dict) else value
        for member in members:
            yield from _texts(member)
