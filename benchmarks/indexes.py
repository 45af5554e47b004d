"""How long an index takes to build, and its size."""

from __future__ import annotations

from functools import partial

from django.db import connection

from benchmarks.models import PRECISIONS, Table
from benchmarks.timing import median_of, timed

MAINTENANCE_WORK_MEM = "1GB"


def build_indexes(table: Table, rounds: int) -> dict[str, dict[str, float]]:
    """
    Build the index of each precision in turns, and leave all of them standing.

    Returns {"single": {"seconds": ..., "bytes": ...}, ...}.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET maintenance_work_mem = '{MAINTENANCE_WORK_MEM}'")
    seconds = median_of(rounds, {precision: partial(_rebuild, table, precision) for precision in PRECISIONS})
    return {
        precision or "single": {"seconds": seconds[precision], "bytes": _size(_index(table, precision).name)}
        for precision in PRECISIONS
    }


def _index(table: Table, precision: str | None):
    (index,) = table.indexed[precision]._meta.indexes
    return index


def _rebuild(table: Table, precision: str | None) -> float:
    index = _index(table, precision)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {index.name}")
        cursor.execute("CHECKPOINT")
    with connection.schema_editor() as editor:
        return timed(partial(editor.add_index, table.indexed[precision], index))[0]


def _size(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size(%s::regclass)", [name])
        return cursor.fetchone()[0]
