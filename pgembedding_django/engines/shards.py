"""What the servers of a distributed table know of its indexes, which the one that is asked does not."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["IndexTotals", "read_shards"]

#: The distributed tables among some, by oid.
DISTRIBUTED = (
    "SELECT logicalrelid::oid::bigint, logicalrelid::text FROM pg_dist_partition WHERE logicalrelid = ANY(%s::oid[])"
)

#: Runs on each shard, whose name Citus writes in: what is known there of each of its indexes.
OF_SHARD = """
SELECT coalesce(json_agg(json_build_object('name', c.relname, 'size', pg_relation_size(c.oid), 'valid', i.indisvalid,
    'rows', greatest(t.reltuples, 0)::bigint, 'live', pg_stat_get_live_tuples(t.oid),
    'dead', pg_stat_get_dead_tuples(t.oid), 'scans', pg_stat_get_numscans(c.oid),
    'read', pg_stat_get_tuples_returned(c.oid))), '[]')::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid = '%s'::regclass
"""


@dataclass
class IndexTotals:
    """
    An index over all shards of its table.

    size: in bytes. rows, live, dead: of the table. valid: whether it is on every shard.
    """

    size: int = 0
    rows: int = 0
    live: int = 0
    dead: int = 0
    scans: int = 0
    read: int = 0
    valid: bool = True


def read_shards(connection: BaseDatabaseWrapper, tables: Collection[int]) -> dict[tuple[int, str], IndexTotals]:
    """
    Return what the servers of distributed tables know of their indexes, by the table's oid and the index's name.

    Raises OperationalError if one of them cannot be reached.
    """
    totals: dict[tuple[int, str], IndexTotals] = {}
    with connection.cursor() as cursor:
        cursor.execute(DISTRIBUTED, [list(tables)])
        for oid, name in cursor.fetchall():
            cursor.execute("SELECT shardid, success, result FROM run_command_on_shards(%s, %s)", [oid, OF_SHARD])
            for shard, success, result in cursor.fetchall():
                if not success:
                    raise OperationalError(f"Shard {shard} of {name} cannot be read: {result}")
                for index in json.loads(result):
                    key = oid, index.pop("name").removesuffix(f"_{shard}")
                    _add(totals.setdefault(key, IndexTotals()), **index)
    return totals


def _add(total: IndexTotals, *, valid: bool, **counts: int) -> None:
    total.valid = total.valid and valid
    for name, count in counts.items():
        setattr(total, name, getattr(total, name) + count)
