"""A page of a query: cut from all of its rows by a CTE, so that each page has the plan of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import ColPairs
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import mixed

__all__ = ["paged"]


def paged(query: Query, rows: int) -> Query:
    """
    Return a slice of a query as a page of its first rows.

    Postgres plans a MATERIALIZED CTE without its outer limit, so every page has the plan, and the order of ties, of all
    others, and reads the CTE no further than it must.
    """
    page = query.clone()
    page.__class__ = mixed(type(page), PageQuery)
    cast(PageQuery, page).rows = rows
    return page


class PageQuery(Query):
    """Compiles to a CTE of its rows, and a slice of that."""

    rows: int

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> PageCompiler:
        compiler = super().get_compiler(using, connection, elide_empty)
        compiler.__class__ = mixed(type(compiler), PageCompiler)
        return cast(PageCompiler, compiler)


class PageCompiler(SQLCompiler):
    query: PageQuery

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        asked, ops = self.query, self.connection.ops
        self.query = whole = cast(PageQuery, asked.clone())
        whole.low_mark, whole.high_mark, whole.explain_info = 0, asked.rows, None
        whole.subquery = True  # A vector is not sent in it, but by the outer SELECT.
        try:
            sql, params = super().as_sql()
            named = list(self._name_columns())
        finally:
            self.query = asked
        explain = asked.explain_info
        prefix = f"{ops.explain_query_prefix(explain.format, **explain.options)} " if explain else ""
        names = ", ".join(name for columns in named for name in columns)
        selected = ", ".join(
            self._select(whole, columns, expression[0]) for columns, expression in zip(named, self.select, strict=True)
        )
        limits = ops.limit_offset_sql(asked.low_mark, asked.high_mark)
        page = f'WITH "ranking" ({names}) AS MATERIALIZED ({sql}) SELECT {selected} FROM "ranking" {limits}'
        return f"{prefix}{page}", tuple(params)

    def _name_columns(self) -> Iterator[list[str]]:
        """Yield the names of the columns of the CTE that each selected expression has: a composite key has several."""
        numbers = count(1)
        for expression, _, _ in self.select:
            width = len(expression) if isinstance(expression, ColPairs) else 1
            yield [f'"c{number}"' for number in islice(numbers, width)]

    def _select(self, whole: PageQuery, names: list[str], expression: Any) -> str:
        """Return what the outer SELECT makes of columns: what a field leaves out of a subquery is done here."""
        joined = ", ".join(names)
        asked, done = self.query, expression.select_format(self, joined, ())[0]
        self.query = whole
        in_subquery = expression.select_format(self, joined, ())[0]
        self.query = asked
        return joined if in_subquery == done else done
