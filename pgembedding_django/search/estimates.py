"""How many rows a filter keeps and an index holds, as the planner believes; remembered for a short time."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query

from pgembedding_django.compat.queries import clone_plain
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.extension import place
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
    Return how many rows the filter of a ranking keeps, how many its index holds, and whether they are in one place.

    fresh: ask the planner even if it was asked for the same a moment ago.
    """
    try:
        kept, held = _statements(query, search, connection)
    except EmptyResultSet:
        return Estimate(0, 0)
    key = _key(connection, *kept, held[0])
    known = None if fresh else recall(key)
    if known is None:
        known = get_engine(connection).server(connection).estimate(connection, kept, held)
        remember(key, known)
    return cast(Estimate, known)


def _statements(query: Query, search: Search, connection: BaseDatabaseWrapper) -> tuple[Statement, Statement]:
    """Return the statements of the rows that the filter keeps, and of those that the index holds."""
    kept = clone_plain(query)
    set_ranking(kept, Ranking(search, ESTIMATE))
    index = cast(VectorIndex, search.index)
    rows = search.field.model._base_manager.using(connection.alias)
    held = clone_plain((rows.filter(index.condition) if index.condition else rows.all()).query)
    return kept.get_compiler(connection=connection).as_sql(), held.get_compiler(connection=connection).as_sql()


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
