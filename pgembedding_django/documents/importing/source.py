"""The database that has the tables of LangChain's stores, read as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from pgembedding_django.compat.database_urls import entry_of
from pgembedding_django.documents.importing.tables import Column, StoreTable, is_own_table, own_table, shared_table

__all__ = ["Row", "Source", "SourceError"]

#: Rows that one FETCH brings: vectors of 1,536 dimensions are 12 kB each on their way.
BATCH = 500

#: The tables of the retired PGEmbedding and of both PGVector classes.
SHARED, COLLECTIONS = "langchain_pg_embedding", "langchain_pg_collection"

#: id, text, metadata and values of other columns as JSON, and the vector as array_send() writes it.
Row = tuple[str, str | None, str | None, str | None, bytes | None]


class SourceError(ValueError):
    """What the source lacks, in a sentence."""


class Source:
    """
    A connection to the source, which only reads.

    All that it reads is of one moment: others may write meanwhile, and the counts still agree.
    """

    def __init__(self, url: str) -> None:
        entry = entry_of(url, "--from")
        self.connection: BaseDatabaseWrapper = load_backend(entry["ENGINE"]).DatabaseWrapper(entry, "import_langchain")

    def __enter__(self) -> Self:
        self._fetch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def find(self, names: Sequence[str] = ()) -> list[StoreTable]:
        """
        Return the collections of these names, or all that can be told by LangChain's own names of tables and columns.

        A name that no collection has is that of a table, with or without its schema.
        Raises SourceError for a name that is neither, and where there is nothing.
        """
        tables = {table.name: table for table in (*self._shared(), *self._own())}
        if not names and not tables:
            raise SourceError(
                f"The source has no documents of LangChain: neither a table {SHARED} nor one with langchain_id, "
                "content and embedding. Name a table that has other columns by --collection."
            )
        return [tables.get(name) or self._named(name, tables) for name in names or tables]

    def count(self, table: StoreTable) -> int:
        """Return how many documents a collection has."""
        return int(self._fetch(f"SELECT count(*) FROM {table.body}", table.params)[0][0])

    def metadata(self, table: StoreTable) -> str | None:
        """Return the metadata of a collection as JSON."""
        if not table.params:
            return None
        sql = f"SELECT min(cmetadata::text) FROM {COLLECTIONS} WHERE name = %s"
        metadata: str | None = self._fetch(sql, table.params)[0][0]
        return metadata

    def rows(self, table: StoreTable) -> Iterator[list[Row]]:
        """Yield the documents of a collection, batch by batch."""
        self._fetch(f"DECLARE documents NO SCROLL CURSOR FOR SELECT {table.columns} FROM {table.body}", table.params)
        while batch := self._fetch(f"FETCH {BATCH} FROM documents"):
            yield batch
        self._fetch("CLOSE documents")

    def _shared(self) -> Iterable[StoreTable]:
        columns = self._columns("c.oid = to_regclass(%s)", SHARED)
        if not columns:
            return []
        names = self._fetch(f"SELECT DISTINCT name FROM {COLLECTIONS} WHERE name IS NOT NULL ORDER BY name")
        return [shared_table(name, SHARED, COLLECTIONS, next(iter(columns.values()))) for (name,) in names]

    def _own(self) -> Iterable[StoreTable]:
        tables = self._columns("n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'p')")
        for (schema, name, visible), columns in tables.items():
            if is_own_table(columns):
                yield self._own_table(name if visible else f"{schema}.{name}", schema, name, columns)

    def _named(self, name: str, others: Iterable[str]) -> StoreTable:
        schema, _, table = name.rpartition(".")
        tables = self._columns(
            "c.relname = %s AND pg_table_is_visible(c.oid) OR (n.nspname, c.relname) = (%s, %s)", name, schema, table
        )
        for (its_schema, its_name, _), columns in tables.items():
            return self._own_table(name, its_schema, its_name, columns)
        there = ", ".join(f'"{each}"' for each in others) or "none"
        raise SourceError(f'The source has no collection and no table "{name}". There are: {there}.')

    def _own_table(self, name: str, schema: str, table: str, columns: Sequence[Column]) -> StoreTable:
        quote = self.connection.ops.quote_name
        try:
            return own_table(name, f"{quote(schema)}.{quote(table)}", columns, quote)
        except ValueError as error:
            raise SourceError(str(error)) from error

    def _columns(self, condition: str, *params: str) -> dict[tuple[str, str, bool], list[Column]]:
        """Return (schema, table, whether it needs no schema): columns, of the tables that meet a condition."""
        rows = self._fetch(
            "SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), a.attname, t.typname, "
            "coalesce(a.attnum = ANY (i.indkey) AND i.indnatts = 1, false) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary "
            f"WHERE {condition} ORDER BY 1, 2, a.attnum",
            params,
        )
        return {
            table: [Column(*row[3:]) for row in group] for table, group in groupby(rows, key=lambda row: tuple(row[:3]))
        }

    def _fetch(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return cursor.fetchall() if cursor.description else []
        except Error as error:
            raise SourceError(f"The source cannot be read: {(str(error).splitlines() or [''])[0]}") from error
