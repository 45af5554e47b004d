"""What is asked of the partitions of a table, and what an index on all of them lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import truncate_name

__all__ = ["completing_steps", "find_index_oid", "is_partitioned", "part_names"]

#: Bytes of a name (Postgres: NAMEDATALEN - 1).
MOST = 63

#: The tables below the one of an index, itself first, each before its own partitions; foreign ones can have no index.
TABLES = """
WITH RECURSIVE tree AS (
    SELECT indrelid AS oid, NULL::oid AS parent, 0 AS depth FROM pg_index WHERE indexrelid = %s
    UNION ALL SELECT h.inhrelid, h.inhparent, tree.depth + 1 FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid
)
SELECT c.oid::bigint, tree.parent::bigint, n.nspname::text, c.relname::text, c.relkind = 'p'
FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind <> 'f' ORDER BY tree.depth, c.relname
"""

#: The indexes of some tables, each with the oid of what it is attached to, and how it is defined behind its table.
INDEXES = """
SELECT c.oid::bigint, i.indrelid::bigint, h.inhparent::bigint, n.nspname::text, c.relname::text, i.indisvalid,
    substr(pg_get_indexdef(c.oid), 1 + length(format('CREATE INDEX %%I ON %%s%%I.%%I ', c.relname,
        CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END, tn.nspname, t.relname)))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
WHERE i.indrelid = ANY(%s) AND i.indislive AND c.relam = (SELECT relam FROM pg_class WHERE oid = %s)
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
ORDER BY i.indisvalid DESC, c.oid
"""


@dataclass(frozen=True)
class Index:
    """An index as the catalogue has it. definition: from USING on."""

    oid: int
    table: int
    parent: int | None
    schema: str
    name: str
    valid: bool
    definition: str

    @property
    def quoted(self) -> str:
        return _quote(self.schema, self.name)


@dataclass(frozen=True)
class Table:
    """A table of the tree of partitions."""

    oid: int
    parent: int | None
    schema: str
    name: str
    partitioned: bool

    @property
    def quoted(self) -> str:
        return _quote(self.schema, self.name)


def is_partitioned(connection: BaseDatabaseWrapper, quoted_name: str) -> bool:
    """Tell whether a table or an index is partitioned."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind IN ('p', 'I') FROM pg_class WHERE oid = to_regclass(%s)", [quoted_name])
        row = cursor.fetchone()
    return bool(row and row[0])


def find_index_oid(connection: BaseDatabaseWrapper, name: str, quoted_table: str) -> int | None:
    """Return the oid of an index of a table, None where it has none of that name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.oid::bigint FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE c.relname = %s AND i.indrelid = to_regclass(%s)",
            [name, quoted_table],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def part_names(connection: BaseDatabaseWrapper, quoted_table: str, names: list[str]) -> set[str]:
    """Return what some indexes of a table are called on its partitions; nothing where it has none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE tree AS ("
            "SELECT i.indexrelid AS oid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE c.relname = ANY(%s::text[]) AND i.indrelid = to_regclass(%s) "
            "UNION ALL SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid) "
            "SELECT relname::text FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE relkind = 'i' AND relispartition",
            [names, quoted_table],
        )
        return {name for (name,) in cursor.fetchall()}


def completing_steps(connection: BaseDatabaseWrapper, index: int) -> list[str]:
    """
    Return the statements that build an index on each partition that lacks it, without holding up writes.

    index: oid of the index of the partitioned table. What an interrupted build left on a partition is built anew, and
    an index of a partition that is alike is taken.
    """
    with connection.cursor() as cursor:
        cursor.execute(TABLES, [index])
        tables = [Table(*row) for row in cursor.fetchall()]
        cursor.execute(INDEXES, [[table.oid for table in tables], index])
        indexes = [Index(*row) for row in cursor.fetchall()]
    root = next(each for each in indexes if each.oid == index)
    return list(_steps(tables, indexes, root))


def _steps(tables: list[Table], indexes: list[Index], root: Index) -> Iterator[str]:
    #: The index on each table so far: its oid, where it is there already, and its quoted name.
    built: dict[int, tuple[int | None, str]] = {root.table: (root.oid, root.quoted)}
    attach: list[str] = []
    for table in tables[1:]:
        parent, parent_name = built[table.parent or 0]
        alike = [each for each in indexes if each.table == table.oid and each.definition == root.definition]
        attached = next((each for each in alike if each.parent is not None and each.parent == parent), None)
        free = [each for each in alike if each.parent is None]
        if attached:
            built[table.oid] = attached.oid, attached.quoted
            continue
        usable = next((each for each in free if each.valid or table.partitioned), None)
        if usable:
            built[table.oid] = usable.oid, usable.quoted
        else:
            yield from (f"DROP INDEX CONCURRENTLY {each.quoted}" for each in free)
            name = _name(root.name, table.name)
            built[table.oid] = None, _quote(table.schema, name)
            how, only = ("", "ONLY ") if table.partitioned else ("CONCURRENTLY ", "")
            yield f"CREATE INDEX {how}{_quote(name)} ON {only}{table.quoted} {root.definition}"
        attach.append(f"ALTER INDEX {parent_name} ATTACH PARTITION {built[table.oid][1]}")
    yield from attach


def _name(index: str, table: str) -> str:
    """Return the name of the part of an index on a partition, as long as the server keeps."""
    name = f"{table}_{index}"
    return truncate_name(name, MOST - (len(name.encode()) - len(name)), hash_len=8)


def _quote(*names: str) -> str:
    return ".".join('"{}"'.format(name.replace('"', '""')) for name in names)
