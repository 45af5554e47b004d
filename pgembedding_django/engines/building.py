"""What stands before the build of an index: the memory that it gets, its rows, and what an interrupted one left."""

from __future__ import annotations

import logging
import re

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from pgembedding_django import conf
from pgembedding_django.compat.notices import hear_notices

__all__ = [
    "available_memory",
    "bound",
    "check_memory",
    "count_indexed",
    "describe_lack",
    "give_memory",
    "is_left_invalid",
    "prepare_build",
]

logger = logging.getLogger("pgembedding_django")

MEMORY = re.compile(r"([1-9]\d*)(kB|MB|GB|TB)")

#: kB of each unit, and the kB that maintenance_work_mem takes (PostgreSQL documentation, "Resource Consumption"); the
#: least is that of PostgreSQL 17, and an older server refuses less than 1MB by itself.
UNITS = {"kB": 1, "MB": 2**10, "GB": 2**20, "TB": 2**30}
LEAST_MEMORY, MOST_MEMORY = 64, 2**31 - 1

#: Bytes that a build gets beyond the estimate and a tenth of it: rows are drawn by lot into the upper layers of the
#: graph, and one of 3,000 rows took 5% more (pgvector 0.8.5).
SPARE_MEMORY = 2**20


def check_memory(size: str | None, name: str = "maintenance_work_mem") -> None:
    """Raise ValueError if a size is not what maintenance_work_mem takes, with its unit."""
    if size is not None and not LEAST_MEMORY <= _kilobytes(size) <= MOST_MEMORY:
        raise ValueError(f'{name} must be a size from 64kB to 2047GB with its unit, such as "512MB", got {size!r}.')


def _kilobytes(size: str) -> int:
    match = MEMORY.fullmatch(size)
    return int(match[1]) * UNITS[match[2]] if match else 0


def bound() -> int:
    """
    Return the bytes of PGEMBEDDING["BUILD_MEMORY"], 0 without it.

    Raises ImproperlyConfigured if it is no size.
    """
    size = conf.build_memory()
    try:
        check_memory(size, 'PGEMBEDDING["BUILD_MEMORY"]')
    except ValueError as error:
        raise ImproperlyConfigured(str(error)) from error
    return 1024 * _kilobytes(size) if size else 0


def count_indexed(connection: BaseDatabaseWrapper, table: str, column: str, condition: str) -> int:
    """
    Count the rows that the build of an index reads, of a partitioned table those of its largest partition.

    table, column: quoted. condition: " WHERE ..." of a partial index, else "".
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(max(n), 0) FROM (SELECT count({column}) AS n FROM {table}{condition} GROUP BY tableoid) c"
        )
        count: int = cursor.fetchone()[0]
    return count


def is_left_invalid(connection: BaseDatabaseWrapper, name: str, quoted_table: str) -> bool:
    """Tell whether a table has an invalid index of a name that no connection is building right now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE c.relname = %s AND i.indrelid = to_regclass(%s) AND NOT i.indisvalid AND NOT EXISTS "
            "(SELECT FROM pg_stat_progress_create_index p "
            "WHERE p.index_relid = c.oid AND p.datname = current_database())",
            [name, quoted_table],
        )
        return cursor.fetchone() is not None


def available_memory(connection: BaseDatabaseWrapper) -> int:
    """Return the bytes that a build may have here: the server's maintenance_work_mem, or the setting where larger."""
    return max(_current_memory(connection), bound())


def give_memory(connection: BaseDatabaseWrapper, needed: int) -> str | None:
    """
    Let the builds of a connection use the bytes they need, as far as PGEMBEDDING["BUILD_MEMORY"] allows.

    In a transaction until it ends, else for the session. Returns the former maintenance_work_mem where it was changed.
    """
    before = _current_memory(connection)
    after = min(needed + needed // 10 + SPARE_MEMORY, bound())
    if after <= before:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('maintenance_work_mem', %s, %s)", [f"{-(-after // 1024)}kB", connection.in_atomic_block]
        )
    return f"{before // 1024}kB"


def prepare_build(connection: BaseDatabaseWrapper, index: str, needed: int, method: str = "hnsw") -> str | None:
    """Before CREATE INDEX: give the memory, log what is lacking still, and log what the server says of its graph."""
    before = give_memory(connection, needed)
    if lack := describe_lack(index, needed, available_memory(connection), method):
        logger.warning("%s", lack)
    hear_notices(connection, log_notice)
    return before


def describe_lack(index: str, needed: int, available: int, method: str = "hnsw") -> str:
    """Return what to know before a build that needs more memory than it gets, else ""."""
    if needed <= available:
        return ""
    text = _(
        "The graph of %(index)s needs about %(needed)s of memory, and its build has %(available)s: once those are full "
        'it goes on, many times slower. Where the server has more, set PGEMBEDDING["BUILD_MEMORY"].'
    )
    if method == "ivfflat":
        text = _(
            "The lists of %(index)s are made in about %(needed)s of memory, and its build has %(available)s, so the "
            'server may refuse it. Set PGEMBEDDING["BUILD_MEMORY"].'
        )
    return text % {"index": index, "needed": filesizeformat(needed), "available": filesizeformat(available)}


def log_notice(text: str) -> None:
    """Log what the server says of a graph; its other notices are for other people."""
    said = text.strip()
    if "hnsw graph" in said:
        logger.warning("%s", said)


def _current_memory(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
        size: int = cursor.fetchone()[0]
    return size
