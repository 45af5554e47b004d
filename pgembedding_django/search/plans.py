"""Which plan serves a nearest(): the index, or an exact scan of the rows that the filter keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import MAX_EF_SEARCH, Engine, get_engine
from pgembedding_django.engines.base import Scan
from pgembedding_django.indexes import IvfflatIndex, VectorIndex
from pgembedding_django.search.search import Ranking, Search, get_ranking, set_ranking

__all__ = ["ESTIMATE", "EXACT", "choose_scan", "get_scan"]

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

#: The server's own default of an IvfflatIndex's lists.
DEFAULT_LISTS = 100

#: Under this scan, a query compiles to its filter alone.
ESTIMATE = Scan(index="estimate")


#: Every row that the filter keeps is read.
EXACT = Scan(reason="the index found too few rows")


def get_scan(compiler: SQLCompiler) -> Scan:
    """
    Return the scan by which a ranking is compiled.

    As a part of another statement (a subquery, a union) no answer can be completed or cut afterwards, so it is exact
    unless exact=False was asked for, and no max_distance.
    """
    ranking = get_ranking(compiler.query)
    if ranking is None:
        return EXACT
    search = ranking.search
    if ranking.scan:
        return ranking.scan
    if search.exact is not False or search.max_distance is not None or not compiler.query.order_by:
        return EXACT
    scan = choose_scan(compiler.query, search, compiler.connection)
    # Candidates are a query of their own, in which a reference to an outer one has no meaning.
    return EXACT if scan.candidates else replace(scan, listed=0, enough=0)


def choose_scan(query: Query, search: Search, connection: BaseDatabaseWrapper) -> Scan:
    """
    Choose between the index and an exact scan of the rows that the filter keeps.

    Asks the planner how many rows those are, where there is a filter. Returns the scan with its reason, for people.
    """
    engine = get_engine(connection)
    engine.operator(search.distance.distance)
    if search.exact:
        return Scan(reason="exact=True asks for it")
    if not engine.indexes:
        return Scan(reason=f"{engine.name} has no index")
    if search.nearest_of_each:
        return Scan(reason=f"the nearest of each {', '.join(search.nearest_of_each)} is among all rows")
    if search.index is None:
        return Scan(reason=f"{search.field.label} has no HnswIndex for {search.distance.__name__}")
    if query.high_mark is None:
        return Scan(reason="no limit of its own stands on the ranking")
    if search.index.is_partial and not search.filtered:
        return Scan(reason=f"{search.index.name} holds only some rows, and no filter stands before it")
    reads_on = search.filtered or search.max_distance is not None or engine.candidates(search.k, search.index.precision)
    if query.select_for_update and reads_on:
        return Scan(reason="select_for_update() locks what an index scan reads beyond the answer")
    if query.distinct or query.group_by is not None or _has_window(query):
        return Scan(reason="no index can serve DISTINCT, GROUP BY or a window")
    if search.max_distance is not None and search.alias not in query.annotation_select:
        return Scan(reason=f'"{search.alias}" is not selected, so the ranking cannot be cut at max_distance')
    scan = _choose_plan(query, search, engine, connection)
    # Asked last, and only of an index that would be read.
    obstacle = engine.scan_obstacle(connection) if scan.index else ""
    return Scan(reason=obstacle) if obstacle else scan


def _choose_plan(query: Query, search: Search, engine: Engine, connection: BaseDatabaseWrapper) -> Scan:
    if search.exact is None and search.filtered:
        return replace(_choose_filtered(query, search, engine, connection), estimated=True)
    return _index_scan(search, engine, 0, 0, "no filter stands before it" if not search.filtered else "exact=False")


def _has_window(query: Query) -> bool:
    """Tell whether a row depends on rows that an index scan leaves out."""
    return any(part.contains_over_clause for part in (query.where, *query.annotation_select.values()))


def _choose_filtered(query: Query, search: Search, engine: Engine, connection: BaseDatabaseWrapper) -> Scan:
    rows = _estimate_rows(query, search, connection)
    few = CANDIDATE_COST * _candidates_per_row(search, engine) * search.k
    if rows <= few:
        noun = "row" if rows == 1 else "rows"
        return Scan(reason=f"the filter keeps about {rows:,} {noun}, and any {few:,} are read faster exactly")
    total = max(_estimate_total(cast(VectorIndex, search.index), connection), rows)
    # Index: _candidates_per_row * k * total / rows candidates at CANDIDATE_COST. Exact: rows at 1. Equal at this many.
    limit = int((few * total) ** 0.5)
    counts = f"the filter keeps about {rows:,} of {total:,} rows"
    if rows <= limit:
        return Scan(reason=f"{counts}, and up to {limit:,} are read faster than an index finds {search.k} of them")
    return _index_scan(search, engine, rows, total, f"{counts}, more than the {limit:,} that are read as fast")


def _index_scan(search: Search, engine: Engine, rows: int, total: int, reason: str) -> Scan:
    """rows, total: how many the filter keeps and the table has; 0 where no filter counts."""
    index = cast(VectorIndex, search.index)
    enough = search.k * FILTERED_MARGIN if rows else 0
    candidates = engine.candidates(search.k, index.precision)
    needed = _candidates_per_row(search, engine) * search.k * total // rows if rows else 2 * search.k
    ef_search = search.ef_search or index.ef_search or max(MIN_EF_SEARCH, needed, candidates)
    reads_lists = isinstance(index, IvfflatIndex)
    probes = _probes(search, max(needed, candidates), total) if reads_lists else 0
    # Fewer could never hold the rows that there must be.
    candidates = candidates and max(candidates, enough)
    return Scan(
        reason=reason,
        index=index.name,
        ef_search=min(ef_search, MAX_EF_SEARCH) if engine.queries_set_ef_search and not reads_lists else 0,
        probes=probes,
        max_scan_tuples=0 if reads_lists else _max_scan_tuples(search, needed, rows),
        candidates=candidates,
        precision=index.precision,
        listed=candidates or enough,
        enough=enough,
    )


def _candidates_per_row(search: Search, engine: Engine) -> int:
    """How many rows that pass the filter an index scan must find for each row wanted."""
    precision = cast(VectorIndex, search.index).precision
    return max(EF_SEARCH_PER_ROW, engine.candidates(search.k, precision) // search.k if precision else 0)


def _probes(search: Search, needed: int, total: int) -> int:
    """How many lists to read: the root of their number, as pgvector advises, or what a filter needs."""
    index = cast(IvfflatIndex, search.index)
    lists = index.lists or DEFAULT_LISTS
    enough = max(round(lists**0.5), needed * lists // total + 1 if total else 0)
    return search.probes or index.probes or min(enough, lists)


def _max_scan_tuples(search: Search, needed: int, rows: int) -> int:
    if not rows:
        # Deleted rows count among the candidates until VACUUM, so the scan goes on: 2 to 15% slower (benchmarks/).
        return max(UNFILTERED_SCAN_TUPLES, 50 * search.k)
    # The first candidates hold enough rows that pass the filter, unless it contradicts the query's neighbourhood; an
    # exact scan is then better than going on, and so it is past a quarter of what it would read.
    return 0 if needed <= MAX_EF_SEARCH else max(rows // 4, 1)


def _estimate_rows(query: Query, search: Search, connection: BaseDatabaseWrapper) -> int:
    """Return how many rows the filter keeps, as the planner believes."""
    rows = query.clone()
    rows.clear_limits()
    rows.explain_info, rows.select_for_update = None, False
    rows = rows.exists(limit=False)
    set_ranking(rows, Ranking(search, ESTIMATE))
    try:
        sql, params = rows.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return int(plan[0]["Plan"]["Plan Rows"])


def _estimate_total(index: VectorIndex, connection: BaseDatabaseWrapper) -> int:
    """Return how many rows an index holds, as its build or the last ANALYZE or VACUUM counted; 0 where it is gone."""
    with connection.cursor() as cursor:
        quoted = connection.ops.quote_name(index.name)
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [quoted])
        row = cursor.fetchone()
        return int(row[0]) if row else 0
