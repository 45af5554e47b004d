"""How much memory a build needs."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from pgembedding_django.engines import get_engine
from pgembedding_django.maintenance.rebuilding.session import check_memory
from pgembedding_django.models import HnswIndexStatus

__all__ = ["estimate_memory", "warn_of_memory"]


def estimate_memory(status: HnswIndexStatus, using: str = DEFAULT_DB_ALIAS) -> int | None:
    """
    Return the bytes that the graph of an index takes while it is built, by the rows that its table had at ANALYZE.

    None where the rows are not known; 0 for pg_embedding, which builds on disk.
    """
    if status.rows is None or status.dimensions is None:
        return None
    engine = get_engine(connections[using])
    return engine.graph_size(status.opclass, status.rows, status.dimensions, status.options)


def warn_of_memory(
    status: HnswIndexStatus, maintenance_work_mem: str | None = None, using: str = DEFAULT_DB_ALIAS
) -> str:
    """
    Return what to know before a build whose graph will not fit into maintenance_work_mem, else "".

    maintenance_work_mem: such as "2GB", None for the server's.
    """
    check_memory(maintenance_work_mem)
    needed = estimate_memory(status, using) or 0
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT pg_size_bytes(coalesce(%s, current_setting('maintenance_work_mem')))", [maintenance_work_mem]
        )
        given = cursor.fetchone()[0]
    if needed <= given:
        return ""
    return _(
        "The graph of %(index)s needs about %(needed)s, and maintenance_work_mem is %(given)s: the build goes on, many "
        "times slower, once that is full. Give it more where the server has it."
    ) % {"index": status.name, "needed": filesizeformat(needed), "given": filesizeformat(given)}
