"""How far a build is, and which backends it waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["BuildProgress", "Watch", "read_progress"]

#: Where a phase of CREATE INDEX and REINDEX CONCURRENTLY begins and ends, in percent of the whole. The building itself
#: takes nearly all of the time (PostgreSQL documentation, "CREATE INDEX Progress Reporting"; pgvector 0.8 README).
PHASES = {
    "initializing": (0, 0),
    "waiting for writers before build": (0, 0),
    "building index: initializing": (0, 0),
    "building index: loading tuples": (0, 90),
    "waiting for writers before validation": (90, 90),
    "index validation: scanning index": (90, 93),
    "index validation: sorting tuples": (93, 93),
    "index validation: scanning table": (93, 97),
    "waiting for old snapshots": (97, 97),
    "waiting for readers before marking dead": (98, 98),
    "waiting for readers before dropping": (99, 99),
}


@dataclass(frozen=True)
class BuildProgress:
    """
    Where a build is.

    percent: of the whole, an estimate that never falls. blocked_by: the backends that it waits for.
    """

    phase: str
    percent: float
    blocked_by: tuple[int, ...] = ()


#: What is called with a build's progress while it runs.
Watch = Callable[[BuildProgress], object]


def read_progress(connection: BaseDatabaseWrapper, pid: int) -> BuildProgress | None:
    """Return how far the build of a backend is; None where it builds nothing, or the role may not see what."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT phase, greatest(blocks_done / nullif(blocks_total, 0)::float8, "
            "tuples_done / nullif(tuples_total, 0)::float8, 0), pg_blocking_pids(pid) "
            "FROM pg_stat_progress_create_index WHERE pid = %s AND phase IS NOT NULL",
            [pid],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    phase, share, blocked_by = row
    start, end = PHASES.get(phase, (0, 0))
    return BuildProgress(phase, start + (end - start) * min(share, 1.0), tuple(blocked_by))
