"""A statement that begins with a common table of its own, which its conditions and columns can name."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import mixed

__all__ = ["CommonTable", "get_table", "with_table"]

#: How a statement with CTEs begins.
OPENING = re.compile(r"WITH( RECURSIVE)? ")


class CommonTable(Protocol):
    """What stands in WITH: `"name" (columns) AS (SELECT ...)`. Copied with its query, by reference, and pickled."""

    def write(self, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        """Return its SQL and the parameters, chosen anew whenever the statement is compiled."""

    def reading(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[object]:
        """Return what the statement runs inside."""


def with_table(query: Query, table: CommonTable) -> Query:
    """Return a query that begins with a common table."""
    whole = cast(TableQuery, query.chain(mixed(type(query), TableQuery)))
    whole.table = table
    return whole


def get_table(query: Query) -> CommonTable | None:
    """Return what with_table() gave a query."""
    return query.table if isinstance(query, TableQuery) else None


class TableQuery(Query):
    """A query that names a common table."""

    table: CommonTable

    def get_aggregation(self, using: str | None, aggregate_exprs: Any) -> Any:
        with self.table.reading(connections[cast(str, using)]):
            return super().get_aggregation(using, aggregate_exprs)

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> TableCompiler:
        compiler = super().get_compiler(using, connection, elide_empty)
        compiler.__class__ = mixed(type(compiler), TableCompiler)
        return cast(TableCompiler, compiler)


class TableCompiler(SQLCompiler):
    """Writes the table before the statement, once, so that the statement can name it more than once."""

    query: TableQuery

    def execute_sql(self, *args: Any, **kwargs: Any) -> Any:
        with self.query.table.reading(self.connection):
            # What it runs inside may be a short transaction, and the rows are few: no cursor stays open on the server.
            return super().execute_sql(*args, **{**kwargs, "chunked_fetch": False})

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        sql, params = super().as_sql(with_limits, with_col_aliases)
        explain = self.query.explain_info
        prefix = self.connection.ops.explain_query_prefix(explain.format, **explain.options) if explain else ""
        table, more = self.query.table.write(self.connection)
        return f"{prefix} {_join(table, sql.removeprefix(prefix).lstrip())}".lstrip(), (*more, *params)


def _join(table: str, sql: str) -> str:
    """Put a table before a statement, which may begin with WITH where the Query is not Django's own."""
    opening = OPENING.match(sql)
    if opening is None:
        return f"WITH {table} {sql}"
    return f"{opening[0]}{table}, {sql[opening.end() :]}"
