"""The HNSW indexes that a server has, and one of them by its name."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connections
from django.db.models import BigIntegerField, Func, Model, QuerySet, Value

from pgembedding_django.engines import get_engine
from pgembedding_django.models import HnswIndexStatus

__all__ = ["can_read", "counted_statuses", "find_index", "find_on_table", "root_of", "statuses"]


def find_index(index: str | int | HnswIndexStatus, using: str = DEFAULT_DB_ALIAS) -> HnswIndexStatus:
    """
    Return an index of vectors by its name, "schema.name" or oid, or as it is now.

    Raises HnswIndexStatus.DoesNotExist if there is none or it is of another kind,
        HnswIndexStatus.MultipleObjectsReturned if several schemas have one.
    """
    if isinstance(index, HnswIndexStatus):
        found = [each for each in counted_statuses(using) if (each.schema, each.name) == (index.schema, index.name)]
    else:
        found = [each for each in counted_statuses(using) if index in (each.oid, each.name, str(each))]
    if not found:
        raise HnswIndexStatus.DoesNotExist(_why_not_found(str(index), using))
    if len(found) > 1:
        names = " or ".join(map(str, found))
        raise HnswIndexStatus.MultipleObjectsReturned(f"Several indexes are called {index}. Name {names}.")
    return found[0]


def find_on_table(model: type[Model], name: str, using: str) -> HnswIndexStatus | None:
    """Return the index of a name on a model's table; a table of another schema may have an index of that name too."""
    table = Value(connections[using].ops.quote_name(model._meta.db_table))
    oid = Func(table, template="to_regclass(%(expressions)s)::oid::bigint", output_field=BigIntegerField())
    return HnswIndexStatus.objects.using(using).filter(name=name, table_oid=oid).first()


def statuses(using: str) -> QuerySet[HnswIndexStatus]:
    """
    Return the HNSW and IVFFlat indexes that the server has.

    Raises ProgrammingError if the app's migrations have not been run there.
    """
    if not _has_view(using):
        raise ProgrammingError(
            f'Database "{using}" lacks the view {HnswIndexStatus._meta.db_table} of this version. '
            f"Run: manage.py migrate pgembedding_django --database {using}"
        )
    return HnswIndexStatus.objects.using(using).order_by("schema", "table", "name")


def counted_statuses(using: str) -> list[HnswIndexStatus]:
    """Return them with what is counted where the rows are, on other servers too."""
    found, connection = list(statuses(using)), connections[using]
    totals = get_engine(connection).server(connection).index_totals(connection, {each.table_oid for each in found})
    for status in found:
        if total := totals.get((status.table_oid, status.name)):
            status.size, status.rows, status.valid = total.size, total.rows, status.valid and total.valid
            status.scans, status.entries_read = total.scans, total.read
            status.dead_share = total.dead / max(total.live + total.dead, 1)
    return found


def _has_view(using: str) -> bool:
    """Tell whether the app's migrations have been run in a database, those of this version too."""
    columns = [field.column for field in HnswIndexStatus._meta.concrete_fields]
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = ANY(%s::name[])",
            [HnswIndexStatus._meta.db_table, columns],
        )
        return bool(cursor.fetchone()[0] == len(columns))


def can_read(model: type[Model], using: str) -> bool:
    """Tell whether a database has the table or view of a model as this version reads it, and lets the role read it."""
    columns = [field.column for field in model._meta.concrete_fields]
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = ANY(%s::name[]) "
            "AND has_column_privilege(attrelid, attnum, 'SELECT')",
            [model._meta.db_table, columns],
        )
        return bool(cursor.fetchone()[0] == len(columns))


def root_of(status: HnswIndexStatus, found: Iterable[HnswIndexStatus]) -> HnswIndexStatus:
    """Return the index of the whole table for the index of a partition, and any other as it is."""
    by_oid = {each.oid: each for each in found}
    while status.parent_oid in by_oid:
        status = by_oid[status.parent_oid]
    return status


def _why_not_found(index: str, using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT m.amname FROM pg_class c JOIN pg_am m ON m.oid = c.relam JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I') AND m.amname NOT IN ('hnsw', 'ivfflat') "
            "AND %s IN (c.relname, n.nspname || '.' || c.relname)",
            [index.replace("\0", "")],  # No name and no parameter can hold a NUL.
        )
        row = cursor.fetchone()
    if row:
        return f'Index {index} of database "{using}" is no HNSW index but a {row[0]} index, which is left alone.'
    return f'Database "{using}" has no HNSW index {index}. manage.py hnsw_indexes lists those that it has.'
