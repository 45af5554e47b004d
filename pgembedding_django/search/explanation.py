"""Tells in words how a nearest() runs: what it chose, and what Postgres makes of that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.explained import plan_nodes
from pgembedding_django.engines.partitions import part_names
from pgembedding_django.engines.scan import Scan
from pgembedding_django.search.plans import choose_scan
from pgembedding_django.search.ranking import with_scan
from pgembedding_django.search.search import Ranking, get_ranking

__all__ = ["explain_scan"]

#: An index of a table, with the quoted name of the table and the name of the index as parameters: whether it is valid,
#: the oid of the table, and its own name and those of its parts where the table is partitioned.
INDEX = (
    "SELECT i.indisvalid, i.indrelid::bigint, ARRAY(SELECT p.relname::text FROM pg_class p "
    "WHERE p.oid = c.oid OR p.oid IN (SELECT relid FROM pg_partition_tree(c.oid))) "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s) AND c.relname = %s"
)

#: Whether ANALYZE has seen rows of a table or of one of its partitions. What row security hides counts as seen.
ANALYZED = (
    "SELECT coalesce(bool_or(row_security_active(c.oid) OR EXISTS (SELECT FROM pg_stats s "
    "WHERE s.schemaname = c.relnamespace::regnamespace::name AND s.tablename = c.relname)), false) "
    "FROM pg_class c, (SELECT to_regclass(%s) AS oid) t "
    "WHERE c.oid = t.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(t.oid))"
)

ADVICE = "manage.py hnsw_indexes says what to do"


def explain_scan(query: Query, connection: BaseDatabaseWrapper) -> str:
    """
    Tell through which index or how else a nearest() runs, and why.

    Asks the planner for the plan of the statement that would run, and the catalogue; reads no row.
    """
    search = cast(Ranking, get_ranking(query)).search
    scan = choose_scan(query, search, connection, fresh=True)
    table = connection.ops.quote_name(search.table)
    scan = replace(scan, ef_search=get_engine(connection).fitted_ef_search(connection, table, scan))
    said = scan.explain()
    obstacle = _find_obstacle(query, scan, table, connection) if scan.index else ""
    if obstacle:
        rows = "every row that the filter keeps" if search.filtered else "every row"
        said = f"Exact scan: nearest() chose {scan.index} ({scan.reason}), but Postgres reads {rows}: {obstacle}."
    elif scan.index:
        said += _count_partitions(query, scan, table, connection)
    keeps = get_engine(connection).server(connection).keeps_statistics
    if keeps and (scan.estimated or obstacle) and not _fetch(connection, ANALYZED, [table])[0]:
        said += f" The table has no statistics yet, so the counts are guesses. Run: ANALYZE {table}"
    return said


def _count_partitions(query: Query, scan: Scan, table: str, connection: BaseDatabaseWrapper) -> str:
    """Say on how many partitions the index is read, "" where the table has none."""
    parts = part_names(connection, table, [scan.index])
    read = _indexes_read(query, scan, connection) if parts else None
    return "" if read is None else f" It reads the index of {len(parts & read)} of {len(parts)} partitions."


def _find_obstacle(query: Query, scan: Scan, table: str, connection: BaseDatabaseWrapper) -> str:
    """Say why the index is not read that was chosen; "" where it is."""
    found = _fetch(connection, INDEX, [table, scan.index])
    if found is None:
        return f"the index is missing. {ADVICE}"
    valid, oid, names = found
    names += get_engine(connection).server(connection).names_of_parts(connection, table, scan.index)
    if obstacle := get_engine(connection).scan_obstacle(connection, oid):  # pragma: no cover - pg_embedding
        return f"{obstacle}. {ADVICE}"
    if _reads(query, scan, names, connection):
        return ""
    if not valid:
        return f"the index is invalid. {ADVICE}"
    with transaction.atomic(connection.alias):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_sort = off")
        usable = _reads(query, scan, names, connection)
        transaction.set_rollback(True, connection.alias)
    return "it expects that to be faster than the index" if usable else "it cannot use the index for this search"


def _reads(query: Query, scan: Scan, names: Collection[str], connection: BaseDatabaseWrapper) -> bool:
    """
    Tell whether the plan of a scan reads one of some indexes.

    So it is taken to be where nothing tells.
    """
    read = _indexes_read(query, scan, connection)
    return read is None or not read.isdisjoint(names)


def _indexes_read(query: Query, scan: Scan, connection: BaseDatabaseWrapper) -> set[str] | None:
    """Return the indexes in the plan of a scan, None where nothing tells: a search for nothing has no plan."""
    server = get_engine(connection).server(connection)
    if not server.explains:
        return None
    planned = with_scan(query, scan)
    planned.select_for_update = False  # Outside of a transaction, Django refuses to compile it.
    try:
        sql, params = planned.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return None
    plan = server.explain(connection, (sql, params))
    return {node["Index Name"] for node in plan_nodes(plan) if "Index Name" in node}


def _fetch(connection: BaseDatabaseWrapper, sql: str, params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()
