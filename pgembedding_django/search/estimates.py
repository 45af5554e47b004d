"""How many rows a filter keeps and an index holds, as the planner believes; remembered for a short time."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query

from pgembedding_django.compat.queries import clone_plain
from pgembedding_django.engines.extension import place
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.search.search import ESTIMATE, Ranking, Search, set_ranking

__all__ = ["count_rows", "forget", "recall", "remember"]

#: How long a number is remembered, in seconds. One that is wrong by then costs time, never an answer.
SECONDS = 10.0

#: How many numbers are remembered.
MOST = 1_000

_known: dict[Hashable, tuple[float, Any]] = {}


def count_rows(query: Query, search: Search, connection: BaseDatabaseWrapper, *, fresh: bool) -> tuple[int, int]:
    """
    Return how many rows the filter of a ranking keeps, and how many its index holds.

    fresh: ask the planner even if it was asked for the same a moment ago.
    """
    try:
        sql, params = _statement(query, search, connection)
    except EmptyResultSet:
        return 0, 0
    key = _key(connection, sql, tuple(params))
    known = None if fresh else recall(key)
    if known is None:
        known = _ask(sql, params, connection)
        remember(key, known)
    return cast("tuple[int, int]", known)


def _statement(query: Query, search: Search, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
    """Both are asked for in one statement; OFFSET 0 keeps the parts of a partitioned table together."""
    kept = clone_plain(query)
    set_ranking(kept, Ranking(search, ESTIMATE))
    sql, params = kept.get_compiler(connection=connection).as_sql()
    index = cast(VectorIndex, search.index)
    rows = search.field.model._base_manager.using(connection.alias)
    held = clone_plain((rows.filter(index.condition) if index.condition else rows.all()).query)
    all_sql, all_params = held.get_compiler(connection=connection).as_sql()
    return f"({sql} OFFSET 0) UNION ALL ({all_sql} OFFSET 0)", (*params, *all_params)


def _ask(sql: str, params: tuple[Any, ...], connection: BaseDatabaseWrapper) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    parts = [int(part["Plan Rows"]) for part in top.get("Plans", ())]
    if top["Node Type"] == "Append" and len(parts) == 2:
        return parts[0], max(parts)
    # The planner sees that the filter keeps nothing, and leaves it out.
    return 0, int(top["Plan Rows"])


def _key(connection: BaseDatabaseWrapper, *parts: object) -> Hashable:
    return (place(connection), *map(repr, parts))


def remember(key: Hashable, value: object) -> None:
    if len(_known) >= MOST:
        _known.clear()
    _known[key] = (time.monotonic() + SECONDS, value)


def recall(key: Hashable) -> Any:
    """Return what was remembered, None where that is too long ago."""
    until, value = _known.get(key, (0.0, None))
    return value if time.monotonic() < until else None


def forget() -> None:
    """Ask anew at the next need."""
    _known.clear()
