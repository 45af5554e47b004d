"""How many rows a filter keeps and an index holds, as the planner believes; remembered for a short time."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query

from pgembedding_django.compat.queries import clone_plain, compiled_conditions
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.places import place
from pgembedding_django.engines.servers import Estimate, Statement
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.search.search import ESTIMATE, Ranking, Search, set_ranking

__all__ = ["count_rows", "forget", "recall", "remember"]

#: How long a number is remembered, in seconds. One that is wrong by then costs time, never an answer.
SECONDS = 10.0

#: How many numbers are remembered.
MOST = 1_000

_known: dict[Hashable, tuple[float, Any]] = {}


def count_rows(query: Query, search: Search, connection: BaseDatabaseWrapper, *, fresh: bool) -> Estimate:
    """
    Return how many rows the filter of a ranking keeps, how many its index holds, and in how many parts they are.

    fresh: ask the planner even if it was asked for the same a moment ago.
    """
    kept = query.clone()
    set_ranking(kept, Ranking(search, ESTIMATE))
    try:
        # Of a query that is Django's own the conditions say all, and of another the statement.
        conditions = compiled_conditions(kept, connection) or _statement(kept, connection)
        key = _key(connection, *conditions, cast(VectorIndex, search.index).name)
        known = None if fresh else recall(key)
        if known is None:
            statements = _statement(kept, connection), _statement(_held(search, connection), connection)
            known = get_engine(connection).server(connection).estimate(connection, *statements)
            remember(key, known)
    except EmptyResultSet:
        return Estimate(0, 0)
    return cast(Estimate, known)


def _held(search: Search, connection: BaseDatabaseWrapper) -> Query:
    """Return a query of the rows that the index of a search holds."""
    condition = cast(VectorIndex, search.index).condition
    rows = search.field.model._base_manager.using(connection.alias)
    return (rows.filter(condition) if condition else rows.all()).query


def _statement(query: Query, connection: BaseDatabaseWrapper) -> Statement:
    return cast(Statement, clone_plain(query).get_compiler(connection=connection).as_sql())


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
