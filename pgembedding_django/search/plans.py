"""Which plan serves a nearest(): the index, or an exact scan of the rows that the filter keeps."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import MAX_EF_SEARCH, Engine, get_engine
from pgembedding_django.engines.places import place
from pgembedding_django.engines.scan import Scan, fitting_ef_search
from pgembedding_django.indexes import IvfflatIndex, VectorIndex
from pgembedding_django.search.estimates import count_rows, recall
from pgembedding_django.search.search import Search, get_ranking

__all__ = ["EXACT", "candidate_cost", "choose_scan", "few_rows_key", "get_scan", "scans"]

#: Candidates for each row wanted: those that pass a filter must still be several times k (benchmarks/: 2 found 0.92 of
#: the ten nearest behind a filter that keeps 20%, 4 found 0.98).
EF_SEARCH_PER_ROW = 4

#: What one candidate of an index scan costs beside one row of an exact scan, where a vector stands in its row and where
#: it stands apart (TOAST): 20 beside 0.9 microseconds at 384 dimensions, 66 beside 19 at 1,536 (Postgres 18).
CANDIDATE_COST = 20
CANDIDATE_COST_APART = 4

#: A row that is larger keeps its vector apart (Postgres: TOAST_TUPLE_THRESHOLD), in bytes.
ROW_SIZE = 2_000

#: Behind a filter, the candidates must hold this many times k, of the EF_SEARCH_PER_ROW expected: fewer mean that the
#: filter keeps what is far from the query, where an index scan finds enough rows but not the nearest.
FILTERED_MARGIN = 3

#: Tuples that an unfiltered index scan may visit, the server's own default of hnsw.max_scan_tuples.
UNFILTERED_SCAN_TUPLES = 20_000

#: Every row that the filter keeps is read.
EXACT = Scan(reason="the index found too few rows")


def get_scan(compiler: SQLCompiler) -> Scan:
    """
    Return the scan by which a ranking is compiled.

    As a part of another statement (a subquery, a union) no answer can be completed or cut afterwards, so it is exact
    unless exact=False was asked for, and no max_distance, and the server takes settings in a statement.
    """
    ranking = get_ranking(compiler.query)
    if ranking is None:
        return EXACT
    search = ranking.search
    if ranking.scan:
        return ranking.scan
    if search.exact is not False or search.max_distance is not None or not compiler.query.order_by:
        return EXACT
    if not get_engine(compiler.connection).server(compiler.connection).settings_in_statement:
        return EXACT
    scan = choose_scan(compiler.query, search, compiler.connection).going_on()
    # Candidates are a query of their own, in which a reference to an outer one has no meaning.
    return EXACT if scan.candidates else replace(scan, listed=scan.listed if search.path else 0, enough=0)


def choose_scan(query: Query, search: Search, connection: BaseDatabaseWrapper, *, fresh: bool = False) -> Scan:
    """
    Choose between the index and an exact scan of the rows that the filter keeps.

    Asks the planner how many rows those are, where there is a filter. Returns the scan with its reason, for people.
    fresh: ask the planner even if it was asked for the same a moment ago.
    """
    engine = get_engine(connection)
    engine.operator(search.distance.distance)
    if search.exact:
        return Scan(reason="exact=True asks for it")
    if not engine.indexes:
        return Scan(reason=f"{engine.name} has no index")
    if search.nearest_of_each:
        return Scan(reason=f"the nearest of each {', '.join(search.nearest_of_each)} is among all rows")
    if search.matches:
        return Scan(reason="the best match of several examples is among all rows")
    if search.index is None:
        return Scan(reason=f"{search.field.label} has no HnswIndex for {search.distance.__name__}")
    if query.high_mark is None:
        return Scan(reason="no limit of its own stands on the ranking")
    if search.index.is_partial and not search.filtered:
        return Scan(reason=f"{search.index.name} holds only some rows, and no filter stands before it")
    reads_on = search.filtered or search.max_distance is not None or engine.candidates(search.k, search.index.precision)
    if query.select_for_update and reads_on and not search.path:
        return Scan(reason="select_for_update() locks what an index scan reads beyond the answer")
    if not search.path and (query.distinct or query.group_by is not None or _has_window(query)):
        return Scan(reason="no index can serve DISTINCT, GROUP BY or a window")
    if search.max_distance is not None and search.alias not in query.annotation_select:
        return Scan(reason=f'"{search.alias}" is not selected, so the ranking cannot be cut at max_distance')
    scan = _choose_plan(query, search, engine, connection, fresh=fresh)
    # Asked last, and only of an index that would be read.
    obstacle = engine.scan_obstacle(connection) if scan.index else ""
    return Scan(reason=obstacle) if obstacle else scan


def _choose_plan(query: Query, search: Search, engine: Engine, connection: BaseDatabaseWrapper, *, fresh: bool) -> Scan:
    if search.filtered:
        if search.exact is False:
            return _index_scan(search, engine, 0, 0, "exact=False")
        rows, total, parts = count_rows(query, search, connection, fresh=fresh)
        chosen = _choose_filtered(search, engine, rows, total)
        return replace(chosen, estimated=True, parts=parts)
    few = None if fresh or search.exact is False else recall(few_rows_key(search, connection))
    if few is not None and few < search.k:
        return Scan(reason=f"there were no more than {few:,} rows with a vector a moment ago")
    return _index_scan(search, engine, 0, 0, "no filter stands before it")


def scans(scan: Scan) -> Iterator[Scan]:
    """Yield the scans of which each one answers what the one before left short; the last is exact."""
    yield scan
    if scan.goes_on_to != scan.max_scan_tuples:
        yield scan.going_on()
    if scan.index:
        yield EXACT


def few_rows_key(search: Search, connection: BaseDatabaseWrapper) -> Hashable:
    """Return under which key it is remembered that a search found fewer rows than k, since there are no more."""
    return place(connection), search.table, search.column, search.distance, search.field.dimensions


def _has_window(query: Query) -> bool:
    """Tell whether a row depends on rows that an index scan leaves out."""
    return any(part.contains_over_clause for part in (query.where, *query.annotation_select.values()))


def _choose_filtered(search: Search, engine: Engine, rows: int, total: int) -> Scan:
    few = candidate_cost(search) * _candidates_per_row(search, engine) * search.wanted
    if rows <= few:
        noun = "row" if rows == 1 else "rows"
        return Scan(reason=f"the filter keeps about {rows:,} {noun}, and any {few:,} are read faster exactly")
    # Index: candidates_per_row * k * total / rows candidates at their cost. Exact: rows at 1. Equal at this many.
    limit = int((few * total) ** 0.5)
    counts = f"the filter keeps about {rows:,} of {total:,} rows"
    if rows <= limit:
        return Scan(reason=f"{counts}, and up to {limit:,} are read faster than an index finds {search.wanted} of them")
    return _index_scan(search, engine, rows, total, f"{counts}, more than the {limit:,} that are read as fast")


def candidate_cost(search: Search) -> int:
    """Return how many rows an exact scan reads in the time that an index scan takes for one candidate."""
    size = cast(int, search.field.dimensions) * (2 if search.field.storage == "half" else 4)
    return CANDIDATE_COST if size <= ROW_SIZE else CANDIDATE_COST_APART


def _index_scan(search: Search, engine: Engine, rows: int, total: int, reason: str) -> Scan:
    """rows, total: how many the filter keeps and the table has; 0 where no filter counts."""
    index = cast(VectorIndex, search.index)
    enough = search.wanted * FILTERED_MARGIN if rows else 0
    candidates = engine.candidates(search.wanted, index.precision)
    needed = _candidates_per_row(search, engine) * search.wanted * total // rows if rows else 2 * search.wanted
    reads_lists = isinstance(index, IvfflatIndex)
    named = search.ef_search or index.ef_search
    ef_search = named or max(needed, candidates, fitting_ef_search(total) if rows else 0)
    stops = reads_lists or not engine.queries_set_ef_search
    going_on = 0 if stops else _max_scan_tuples(search, needed, rows)
    probes = _probes(search, engine, max(needed, candidates), total) if reads_lists else 0
    # Fewer could never hold the rows that there must be.
    candidates = candidates and max(candidates, enough)
    listed = candidates or enough
    if search.path:
        listed = max(listed, search.wanted, ef_search, fitting_ef_search(total))
    return Scan(
        reason=reason,
        index=index.name,
        ef_search=min(ef_search, MAX_EF_SEARCH) if engine.queries_set_ef_search and not reads_lists else 0,
        probes=probes,
        fits_table=not named and not rows and not reads_lists,
        is_fixed=bool(named),
        # An unfiltered scan stops at its first candidates, and goes on only if they were too few.
        max_scan_tuples=going_on if rows or search.wanted > min(ef_search, MAX_EF_SEARCH) else 0,
        goes_on_to=going_on,
        candidates=candidates,
        precision=index.precision,
        listed=listed,
        lists_then=10 * listed if search.path else 0,
        enough=enough,
    )


def _candidates_per_row(search: Search, engine: Engine) -> int:
    """How many rows that pass the filter an index scan must find for each row wanted."""
    precision = cast(VectorIndex, search.index).precision
    return max(EF_SEARCH_PER_ROW, engine.candidates(search.wanted, precision) // search.wanted if precision else 0)


def _probes(search: Search, engine: Engine, needed: int, total: int) -> int:
    """How many lists to read: the root of their number, as pgvector advises, or what a filter needs."""
    index = cast(IvfflatIndex, search.index)
    lists = index.lists or cast(int, engine.ivfflat_options["lists"].default)
    enough = max(round(lists**0.5), needed * lists // total + 1 if total else 0)
    return search.probes or index.probes or min(enough, lists)


def _max_scan_tuples(search: Search, needed: int, rows: int) -> int:
    if not rows:
        # Deleted rows count among the candidates until VACUUM.
        return max(UNFILTERED_SCAN_TUPLES, 50 * search.wanted)
    # The first candidates hold enough rows that pass the filter, unless it contradicts the query's neighbourhood; an
    # exact scan is then better than going on, and so it is past a quarter of what it would read.
    return 0 if needed <= MAX_EF_SEARCH else max(rows // 4, 1)
