"""How much memory and disk a build needs."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.building import available_memory, check_memory, describe_lack
from pgembedding_django.maintenance.indexes.lookup import statuses
from pgembedding_django.models import HnswIndexStatus

__all__ = ["estimate_disk", "estimate_memory", "warn_of_memory"]


def estimate_memory(status: HnswIndexStatus, using: str = DEFAULT_DB_ALIAS) -> int | None:
    """
    Return the bytes that a build of an index takes, by the rows that its table had at ANALYZE.

    Lists are said to take what a full sample of rows does.

    Of a partitioned table, that of its largest partition: they are built one by one.
    None where the rows are not known; 0 for pg_embedding, which builds on disk.
    """
    status = _largest_part(status, using)
    engine = get_engine(connections[using])
    if status.method == "ivfflat" and status.dimensions is not None:
        return engine.lists_memory(status.opclass, status.dimensions, status.options)
    if status.rows is None or status.dimensions is None:
        return None
    return engine.graph_size(status.opclass, status.rows, status.dimensions, status.options)


def estimate_disk(status: HnswIndexStatus, using: str = DEFAULT_DB_ALIAS) -> int:
    """Return about how many bytes a new index takes beside the old one, until it takes its place."""
    status = _largest_part(status, using)
    if status.rows is None or status.dimensions is None:
        return status.size
    engine = get_engine(connections[using])
    estimate = engine.lists_size if status.method == "ivfflat" else engine.index_size
    return estimate(status.opclass, status.rows, status.dimensions, status.options) or status.size


def _largest_part(status: HnswIndexStatus, using: str) -> HnswIndexStatus:
    """Return the index of the largest partition, and that of another table as it is."""
    if not status.partitioned:
        return status
    parts = statuses(using).filter(parent_oid=status.oid)
    return max((_largest_part(part, using) for part in parts), key=lambda part: part.rows or 0, default=status)


def warn_of_memory(
    status: HnswIndexStatus, maintenance_work_mem: str | None = None, using: str = DEFAULT_DB_ALIAS
) -> str:
    """
    Return what to know before a build whose graph will not fit into the memory that it gets, else "".

    maintenance_work_mem: such as "2GB", None for the server's or that of PGEMBEDDING["BUILD_MEMORY"].
    """
    check_memory(maintenance_work_mem)
    needed = estimate_memory(status, using) or 0
    if maintenance_work_mem is None:
        return describe_lack(status.name, needed, available_memory(connections[using]), status.method)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_size_bytes(%s)", [maintenance_work_mem])
        return describe_lack(status.name, needed, cursor.fetchone()[0], status.method)
