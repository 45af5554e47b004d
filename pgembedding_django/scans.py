"""How nearest() runs: through the index or exactly, and never with fewer rows than match."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from pgembedding_django.engines import MAX_EF_SEARCH, Engine, get_engine
from pgembedding_django.engines.base import Scan
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance, IndexedDistance
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.vectors import Vector

__all__ = ["Candidates", "DistanceLimit", "NearestQuery", "ScanGate", "Search", "choose_scan"]

#: Candidates that an unfiltered search keeps at least. On 100,000 clustered rows of 384 dimensions, 40 (the server's
#: default) found 0.89 of the ten nearest, 100 found 0.98 and 200 found 0.99 (benchmarks/).
MIN_EF_SEARCH = 200

#: Candidates for each row wanted: those that pass a filter must still be several times k (benchmarks/: 2 found 0.92 of
#: the ten nearest behind a filter that keeps 20%, 4 found 0.98).
EF_SEARCH_PER_ROW = 4

#: What one candidate of an index scan costs beside one row of an exact scan: 29 beside 2.9 microseconds (benchmarks/,
#: 384 dimensions, rows in memory, ef_search 400, 10,000 rows of 100,000 kept).
CANDIDATE_COST = 10

#: Behind a filter, the candidates must hold this many times k, of the EF_SEARCH_PER_ROW expected: fewer mean that the
#: filter keeps what is far from the query, where an index scan finds enough rows but not the nearest.
FILTERED_MARGIN = 3

#: Tuples that an unfiltered index scan may visit, the server's own default of hnsw.max_scan_tuples.
UNFILTERED_SCAN_TUPLES = 20_000

#: Under this scan, a query compiles to its filter alone.
ESTIMATE = Scan(index="estimate")


@dataclass(frozen=True)
class Search:
    """What nearest() was asked, as the query carries it until it runs."""

    field: EmbeddingField
    index: HnswIndex | None
    distance: type[Distance]
    vector: Vector
    k: int
    alias: str
    max_distance: float | None
    exact: bool | None
    ef_search: int | None
    filtered: bool

    @property
    def table(self) -> str:
        """The table that has the field's column, and its index."""
        return self.field.model._meta.db_table


class NearestQuery(Query):
    """A query whose plan is chosen when it runs."""

    search: Search

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> NearestCompiler:
        chosen = connections[using] if using else cast(BaseDatabaseWrapper, connection)
        return NearestCompiler(self, chosen, using, elide_empty)

    def get_count(self, using: str) -> int:
        """Count without ranking: the order changes nothing in how many rows there are."""
        query = self.clone()
        query.clear_ordering(force=True)
        return Query.get_count(query, using)


class NearestCompiler(SQLCompiler):
    """
    Chooses the scan, runs it, and completes a short answer by an exact scan.

    Where the SQL becomes part of another statement (a subquery, a union), no answer can be completed afterwards, so it
    is exact unless exact=False was asked for.
    """

    query: NearestQuery
    scan: Scan | None = None

    def execute_sql(
        self, result_type: Any = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI or not self.query.order_by or self.query.combinator:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        self.scan = choose_scan(self.query, self.connection)
        if not self.scan.index or self.query.explain_info:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        found, wanted = self._run_index_scan(), cast(int, self.query.high_mark) - self.query.low_mark
        if len(found) < wanted * self.scan.margin:
            self.scan = Scan(reason=f"the index found only {len(found)} rows")
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        return [self._within_distance(found[:wanted])]

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        if self.scan is None and self.query.search.exact is False and self.query.order_by:
            scan = choose_scan(self.query, self.connection)
            # Candidates are a query of their own, in which a reference to an outer one has no meaning.
            self.scan = scan if scan.reads_in_order else None
        return super().as_sql(with_limits, with_col_aliases)

    def _run_index_scan(self) -> list[Any]:
        """Fetch what was asked for, times the margin that shows whether the candidates would have held more."""
        if cast(Scan, self.scan).margin == 1:
            return list(chain.from_iterable(super().execute_sql(MULTI) or ()))
        asked = self.query
        self.query = cast(NearestQuery, asked.clone())
        high, low = cast(int, asked.high_mark), asked.low_mark
        self.query.high_mark = low + (high - low) * cast(Scan, self.scan).margin
        try:
            return list(chain.from_iterable(super().execute_sql(MULTI) or ()))
        finally:
            self.query = asked

    def _within_distance(self, rows: list[Any]) -> list[Any]:
        """Cut the ranking where the distance passes max_distance: a filter in SQL would let the index scan on."""
        search = self.query.search
        if search.max_distance is None:
            return rows
        column = self.annotation_col_map[search.alias]
        return [row for row in rows if row[column] <= search.max_distance]

    def get_order_by(self) -> Any:
        """Break ties by primary key where that costs nothing: no index is there to lose."""
        order = super().get_order_by()
        if (
            not (self.scan and self.scan.reads_in_order)
            and self.query.order_by
            and self.query.group_by is None
            and not self.query.combinator
            and not self.query.distinct
        ):
            resolved = F("pk").asc().resolve_expression(self.query)
            sql, params = self.compile(resolved)
            order.append((resolved, (sql, params, False)))
        return order


class ScanGate(Expression):
    """
    A condition, true once for the whole statement, in which the engine readies its index scan.

    table: the one that has the index, which for an inherited field is not the query's own.
    """

    conditional = True

    def __init__(self, table: str) -> None:
        super().__init__(output_field=BooleanField())
        self.table = table

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is None or not scan.reads_in_order or scan is ESTIMATE:
            raise FullResultSet
        table = connection.ops.quote_name(self.table)
        return get_engine(connection).scan_gate(connection, table, scan)


class Candidates(Expression):
    """
    The condition that a row is among those that an index finds in an order of its own, to be ranked again exactly.

    rows: the queryset that nearest() was called on.
    """

    conditional = True

    def __init__(self, rows: QuerySet[Any], search: Search) -> None:
        super().__init__(output_field=BooleanField())
        self.rows, self.search = rows, search

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is None or not scan.candidates:
            raise FullResultSet
        with_vector = self.rows.filter(ScanGate(self.search.table), **{f"{self.search.field.name}__isnull": False})
        found = with_vector.order_by(self._indexed_distance(scan)).values("pk")[: scan.candidates]
        inner: Any = found.query.get_compiler(connection=connection)
        inner.query.subquery = True
        inner.scan = replace(scan, candidates=0)
        sql, params = inner.as_sql()
        key = compiler.query.get_meta().pk.get_col(compiler.query.get_initial_alias())
        key_sql, key_params = compiler.compile(key)
        return f"({key_sql}) IN ({sql})", [*key_params, *params]

    def _indexed_distance(self, scan: Scan) -> Expression:
        return IndexedDistance(self.search.field, self.search.vector, self.search.distance, scan.precision)


class DistanceLimit(Expression):
    """The condition `distance <= limit`; left out of an index scan, whose ranking is cut afterwards."""

    conditional = True

    def __init__(self, condition: Any) -> None:
        super().__init__(output_field=BooleanField())
        self.condition = condition

    def get_source_expressions(self) -> list[Any]:
        return [self.condition]

    def set_source_expressions(self, exprs: Any) -> None:
        (self.condition,) = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is not None and scan.index:
            raise FullResultSet
        return compiler.compile(self.condition)


def choose_scan(query: NearestQuery, connection: BaseDatabaseWrapper) -> Scan:
    """
    Choose between the index and an exact scan of the rows that the filter keeps.

    Asks the planner how many those are, where there is a filter. Returns the scan with its reason, for people.
    """
    search = query.search
    engine = get_engine(connection)
    engine.operator(search.distance.distance)
    if search.exact:
        return Scan(reason="exact=True asks for it")
    if search.index is None:
        return Scan(reason=f"{search.field.label} has no HnswIndex for {search.distance.__name__}")
    if query.high_mark is None:
        return Scan(reason="no limit of its own stands on the ranking")
    if search.index.condition is not None and not search.filtered:
        return Scan(reason=f"{search.index.name} holds only some rows, and no filter stands before it")
    if query.select_for_update and (search.filtered or engine.candidates(search.k, search.index.precision)):
        return Scan(reason="select_for_update() locks what an index scan reads beyond k")
    if query.distinct or query.group_by is not None or query.where.contains_over_clause:
        return Scan(reason="no index can serve DISTINCT, GROUP BY or a filter on a window")
    if search.max_distance is not None and search.alias not in query.annotation_select:
        return Scan(reason=f'"{search.alias}" is not selected, so the ranking cannot be cut at max_distance')
    if search.exact is None and search.filtered:
        return _choose_filtered(query, engine, connection)
    return _index_scan(search, engine, 0, 0, "no filter stands before it" if not search.filtered else "exact=False")


def _choose_filtered(query: NearestQuery, engine: Engine, connection: BaseDatabaseWrapper) -> Scan:
    search = query.search
    rows = _estimate_rows(query, connection)
    few = CANDIDATE_COST * _candidates_per_row(search, engine) * search.k
    if rows <= few:
        return Scan(reason=f"the filter keeps about {rows:,} rows, and any {few:,} are read faster exactly")
    total = max(_estimate_total(query, connection), rows)
    # Index: _candidates_per_row * k * total / rows candidates at CANDIDATE_COST. Exact: rows at 1. Equal at this many.
    limit = int((few * total) ** 0.5)
    counts = f"the filter keeps about {rows:,} of {total:,} rows"
    if rows <= limit:
        return Scan(reason=f"{counts}, and up to {limit:,} are read faster than an index finds {search.k} of them")
    return _index_scan(search, engine, rows, total, f"{counts}, more than the {limit:,} that are read as fast")


def _index_scan(search: Search, engine: Engine, rows: int, total: int, reason: str) -> Scan:
    """rows, total: how many the filter keeps and the table has; 0 where no filter counts."""
    index = cast(HnswIndex, search.index)
    margin = FILTERED_MARGIN if rows else 1
    candidates = engine.candidates(search.k, index.precision)
    needed = _candidates_per_row(search, engine) * search.k * total // rows if rows else 2 * search.k
    ef_search = search.ef_search or index.ef_search or max(MIN_EF_SEARCH, needed, candidates)
    return Scan(
        reason=reason,
        index=index.name,
        ef_search=min(ef_search, MAX_EF_SEARCH) if engine.queries_set_ef_search else 0,
        max_scan_tuples=_max_scan_tuples(search, needed, rows),
        # Fewer could never hold the rows that the margin asks for.
        candidates=candidates and max(candidates, search.k * margin),
        precision=index.precision,
        margin=margin,
    )


def _candidates_per_row(search: Search, engine: Engine) -> int:
    """How many rows that pass the filter an index scan must find for each row wanted."""
    precision = cast(HnswIndex, search.index).precision
    return max(EF_SEARCH_PER_ROW, engine.candidates(search.k, precision) // search.k if precision else 0)


def _max_scan_tuples(search: Search, needed: int, rows: int) -> int:
    if not rows:
        # Deleted rows count among the candidates until VACUUM, so the scan goes on: 2 to 15% slower (benchmarks/).
        return max(UNFILTERED_SCAN_TUPLES, 50 * search.k)
    # The first candidates hold enough rows that pass the filter, unless it contradicts the query's neighbourhood; an
    # exact scan is then better than going on, and so it is past a quarter of what it would read.
    return 0 if needed <= MAX_EF_SEARCH else max(rows // 4, 1)


def _estimate_rows(query: NearestQuery, connection: BaseDatabaseWrapper) -> int:
    """Return how many rows the filter keeps, as the planner believes."""
    compiler = query.get_compiler(connection=connection)
    compiler.scan = ESTIMATE
    try:
        where, params = compiler.compile(cast(Any, query.where))
    except EmptyResultSet:
        return 0
    tables, more = compiler.get_from_clause()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {' '.join(tables)} WHERE {where}", (*more, *params))
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return int(plan[0]["Plan"]["Plan Rows"])


def _estimate_total(query: NearestQuery, connection: BaseDatabaseWrapper) -> int:
    """Return how many rows the table has, as its last ANALYZE or VACUUM counted."""
    table = connection.ops.quote_name(query.search.table)
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
        return int(cursor.fetchone()[0])
