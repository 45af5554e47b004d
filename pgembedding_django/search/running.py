"""How nearest() runs: through the index or exactly, and never with fewer rows than match."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, QuerySet
from django.db.models.sql import Query

from pgembedding_django.compat.columns import with_known_columns
from pgembedding_django.compat.queries import current_query, getter, replace_query, rows_as, wrapped
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.scan import Scan
from pgembedding_django.fields import MeasuredField
from pgembedding_django.functions import get_distance
from pgembedding_django.search.estimates import remember
from pgembedding_django.search.plans import choose_scan, few_rows_key, scans
from pgembedding_django.search.ranking import with_scan
from pgembedding_django.search.search import Ranking, Search, get_ranking

__all__ = ["is_ranking", "run_rankings"]

Read = Callable[[Any], float]


def is_ranking(query: Query) -> bool:
    """Tell whether a query is what nearest() made, or a slice of it."""
    return query.is_sliced and not query.combinator and get_ranking(query) is not None


def run_rankings(rows: QuerySet[Any], kind: type[Any]) -> type[Any]:
    """Return the class that iterates over rows: of a ranking, one that chooses the scan and completes the answer."""
    return wrapped(kind, Complete) if is_ranking(current_query(rows)) else kind


class Complete:
    """
    Runs the scan that was chosen, and an exact one where that returns fewer rows than asked for.

    Stands before one of Django's classes, which makes instances, dicts or tuples of the rows.
    """

    queryset: QuerySet[Any]
    chunked_fetch: bool
    chunk_size: int

    def __iter__(self) -> Iterator[Any]:
        rows = self.queryset
        connection = connections[rows.db]
        search = cast(Ranking, get_ranking(rows.query)).search
        read = getter(rows, search.alias)
        scan = choose_scan(rows.query, search, connection)
        if not scan.index:
            return self._run_exactly(scan, connection, read)
        wanted = cast(int, rows.query.high_mark) - rows.query.low_mark
        *through_index, last = scans(scan)
        for each in through_index:
            found = self._run_through_index(each, search, connection)
            if len(found) >= wanted:
                return iter(_within(found, search, cast(Read, read)))
        exact = self._run_exactly(last, connection, read)
        is_all = not search.filtered and search.max_distance is None and not rows.query.low_mark
        return _count(exact, few_rows_key(search, connection), wanted) if is_all else exact

    def _run_through_index(self, scan: Scan, search: Search, connection: BaseDatabaseWrapper) -> list[Any]:
        planned = replace_query(self.queryset, _prepared(self.queryset.query, scan, connection))
        table = connection.ops.quote_name(search.table)
        with get_engine(connection).scanning(connection, table, scan):
            return list(rows_as(self.queryset)(planned))

    def _run_exactly(self, scan: Scan, connection: BaseDatabaseWrapper, read: Read | None) -> Iterator[Any]:
        cuts = get_engine(connection).undefined_is_nan and read is not None
        planned = replace_query(self.queryset, _prepared(self.queryset.query, scan, connection, cuts_undefined=cuts))
        found = iter(rows_as(self.queryset)(planned, self.chunked_fetch, self.chunk_size))
        # A distance that is not equal to itself is NaN.
        return (row for row in found if read(row) == read(row)) if cuts and read else found


def _prepared(query: Query, scan: Scan, connection: BaseDatabaseWrapper, *, cuts_undefined: bool = False) -> Query:
    """Return a ranking that runs by a scan, whose columns are compiled once where its field is a column."""
    planned = with_scan(query, scan, cuts_undefined=cuts_undefined)
    search = cast(Ranking, get_ranking(planned)).search
    is_bare = isinstance(search.operand, F) and get_distance(search.distance.distance) is search.distance
    if search.path or search.matches or not is_bare:
        return planned
    engine = get_engine(connection)
    shape = (engine.name, type(connection), search.field, search.distance, scan.reads_in_order)
    params = (engine.encode(search.vector),)
    return with_known_columns(planned, shape, search.alias, params, (MeasuredField.select_format,))


def _count(rows: Iterator[Any], key: Hashable, wanted: int) -> Iterator[Any]:
    """Pass rows on, and remember how many there were if no more were found: the next search need not try the index."""
    passed = 0
    for row in rows:
        passed += 1
        yield row
    if passed < wanted:
        remember(key, passed)


def _within(found: list[Any], search: Search, read: Read) -> list[Any]:
    """Cut the ranking where the distance passes max_distance: a filter in SQL would let the index scan on."""
    limit = search.max_distance
    return found if limit is None else [row for row in found if read(row) <= limit]
