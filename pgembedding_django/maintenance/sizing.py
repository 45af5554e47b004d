"""What the indexes of a project would need at another number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import cast

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines import Engine, get_engine
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.maintenance.indexes.declared import Declaration, declarations, model_tables

__all__ = ["Need", "plan_indexes"]

#: Rows from which on the table itself tells how large a row is.
MANY = 1_000

#: Bytes of a row without its columns: header, line pointer and alignment (PostgreSQL documentation, "Database Page
#: Layout"), and an entry of the primary key.
BARE_ROW = 28 + 8 + 20

#: Bytes of what the vectors' indexes leave of a table, with TOAST and all other indexes, and its rows, over partitions.
TABLE = """
WITH RECURSIVE tree AS (
    SELECT %s::oid AS oid UNION ALL SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid
)
SELECT coalesce(sum(pg_total_relation_size(c.oid) - v.size), 0)::bigint,
    coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
FROM tree JOIN pg_class c ON c.oid = tree.oid
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pg_relation_size(i.indexrelid)), 0) AS size
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND m.amname IN ('hnsw', 'ivfflat')
) v
WHERE c.relkind = 'r'
"""


@dataclass(frozen=True)
class Need:
    """
    What one index would need, in bytes.

    precision: of the index, or of the column where the index has none of its own. declared: whether it is as the model
        declares it; the others show what another precision would need.
    size: of the index; 0 for vectors of unknown size. memory: that a build needs to be fast. table: with all that is no
        vector's index; measured: whether by its own rows, else by the vector alone.
    disk: of table, index, and the new index beside the old one during a rebuild; 0 where the size is not known.
    """

    index: str
    model: str
    rows: int
    precision: str
    declared: bool
    size: int
    memory: int
    table: int
    measured: bool
    disk: int


def plan_indexes(rows: int, using: str = DEFAULT_DB_ALIAS, *, partitions: int = 1) -> list[Need]:
    """
    Return what each HnswIndex that a model declares would need if its table had so many rows with a vector.

    partitions: of the table; an index is built and rebuilt one partition at a time. They are taken for equal.
    A partial index is taken for one of all rows. Reads the catalogue alone.
    """
    engine = get_engine(connections[using])
    declared = declarations(model_tables(using)).values()
    return [need for each in declared for need in _needs(each, engine, rows, partitions, using)]


def _needs(each: Declaration, engine: Engine, rows: int, partitions: int, using: str) -> Iterator[Need]:
    if not isinstance(each.index, HnswIndex) or each.field.dimensions is None:
        return
    table, measured = _table_size(each, rows, connections[using])
    for precision in dict.fromkeys([each.index.precision, None, *engine.precisions]):
        if precision != each.index.precision and not _fits(each, engine, precision):
            continue
        sizes = _sizes(each, engine, precision, rows // partitions)
        if sizes is None:
            continue
        size, memory = sizes
        yield Need(
            index=each.index.name,
            model=each.model._meta.label,
            rows=rows,
            precision=precision or each.field.storage,
            declared=precision == each.index.precision,
            size=size * partitions,
            memory=memory,
            table=table,
            measured=measured,
            disk=table + size * (partitions + 1) if size else 0,
        )


def _fits(each: Declaration, engine: Engine, precision: str | None) -> bool:
    options = {name: value for name, value in each.index.options.items() if value is not None}
    most = engine.max_indexed_dimensions(each.field.storage, precision, options)
    # The column of an index of half precision may be of half precision itself.
    return cast(int, each.field.dimensions) <= most and precision != each.field.storage


def _sizes(each: Declaration, engine: Engine, precision: str | None, rows: int) -> tuple[int, int] | None:
    """Return the size of an index and the memory of its build, None where the engine has no such index."""
    index = copy(each.index)
    index.precision = precision
    try:
        _expression, opclass = index.get_expression(each.field, engine)
    except NotSupportedError:
        return None
    options = {name: str(value) for name, value in index.options.items() if value is not None}
    dimensions = cast(int, each.field.dimensions)
    return engine.index_size(opclass, rows, dimensions, options), engine.graph_size(opclass, rows, dimensions, options)


def _table_size(each: Declaration, rows: int, connection: BaseDatabaseWrapper) -> tuple[int, bool]:
    with connection.cursor() as cursor:
        cursor.execute(TABLE, [each.table_oid])
        size, known = cursor.fetchone()
    if known >= MANY:
        return size * rows // known, True
    vector = cast(int, each.field.dimensions) * {"half": 2, "bit": 0.125}.get(each.field.storage, 4)
    return int(rows * (vector + BARE_ROW)), False
