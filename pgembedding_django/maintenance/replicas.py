"""How far a replica is behind."""

from __future__ import annotations

from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS, connections

__all__ = ["replica_lag"]

#: No row on a primary. A standby whose primary writes nothing has replayed all there is, however long ago; one that
#: receives nothing does not know.
LAG = (
    "SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() "
    "AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN interval '0' "
    "ELSE clock_timestamp() - pg_last_xact_replay_timestamp() END WHERE pg_is_in_recovery()"
)


def replica_lag(using: str = DEFAULT_DB_ALIAS) -> timedelta | None:
    """
    Return how old the rows of a standby are: what was committed on its primary since then, it does not show yet.

    None on a primary, and where a standby has replayed no transaction since it started.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(LAG)
        row = cursor.fetchone()
    return row[0] if row else None
