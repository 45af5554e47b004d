"""How nearest() runs: through the index or exactly, and never with fewer rows than match."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, cast

from django.core.exceptions import FullResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, OrderBy, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.base import Scan
from pgembedding_django.functions import IndexedDistance
from pgembedding_django.plans import ESTIMATE, Search, choose_scan

__all__ = ["DistanceLimit", "NearestQuery", "Scanned"]


class NearestQuery(Query):
    """A query whose plan is chosen when it runs."""

    search: Search

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> NearestCompiler:
        chosen = connections[using] if using else cast(BaseDatabaseWrapper, connection)
        return NearestCompiler(self, chosen, using, elide_empty)

    def get_count(self, using: str) -> int:
        """Count without ranking: the order changes nothing in how many rows there are."""
        query = self.clone()
        query.clear_ordering(force=True)
        return Query.get_count(query, using)


class NearestCompiler(SQLCompiler):
    """
    Chooses the scan, runs it, and completes a short answer by an exact scan.

    Where the SQL becomes part of another statement (a subquery, a union), no answer can be completed afterwards, so it
    is exact unless exact=False was asked for.
    """

    query: NearestQuery
    scan: Scan | None = None

    def execute_sql(
        self, result_type: Any = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI or not self.query.order_by or self.query.combinator:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        self.scan = choose_scan(self.query, self.query.search, self.connection)
        if not self.scan.index or self.query.explain_info:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        found, wanted = self._run_index_scan(), cast(int, self.query.high_mark) - self.query.low_mark
        if len(found) < wanted * self.scan.margin:
            self.scan = Scan(reason=f"the index found only {len(found)} rows")
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        return [self._within_distance(found[:wanted])]

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        if self.scan is None and self.query.search.exact is False and self.query.order_by:
            scan = choose_scan(self.query, self.query.search, self.connection)
            # Candidates are a query of their own, in which a reference to an outer one has no meaning.
            self.scan = scan if scan.reads_in_order else None
        return super().as_sql(with_limits, with_col_aliases)

    def _run_index_scan(self) -> list[Any]:
        """Fetch what was asked for, times the margin that shows whether the candidates would have held more."""
        if cast(Scan, self.scan).margin == 1:
            return list(chain.from_iterable(super().execute_sql(MULTI) or ()))
        asked = self.query
        self.query = cast(NearestQuery, asked.clone())
        high, low = cast(int, asked.high_mark), asked.low_mark
        self.query.high_mark = low + (high - low) * cast(Scan, self.scan).margin
        try:
            return list(chain.from_iterable(super().execute_sql(MULTI) or ()))
        finally:
            self.query = asked

    def _within_distance(self, rows: list[Any]) -> list[Any]:
        """Cut the ranking where the distance passes max_distance: a filter in SQL would let the index scan on."""
        search = self.query.search
        if search.max_distance is None:
            return rows
        column = self.annotation_col_map[search.alias]
        return [row for row in rows if row[column] <= search.max_distance]

    def get_order_by(self) -> Any:
        """Break ties by primary key where that costs nothing: no index is there to lose."""
        order = super().get_order_by()
        if (
            not (self.scan and self.scan.reads_in_order)
            and self.query.order_by
            and self.query.group_by is None
            and not self.query.combinator
            and not self.query.distinct
        ):
            key = self.query.get_meta().pk.get_col(self.query.get_initial_alias())
            sql, params = self.compile(key)
            order.append((OrderBy(key), (sql, params, False)))
        return order


class Scanned(Expression):
    """
    The condition that a row has a vector and that the scan delivers it.

    Of an index whose order is the exact one, it holds the gate in which the engine readies the scan; of any other, it
    asks for a row among the candidates, to be ranked again exactly. rows: the queryset that nearest() was called on.
    """

    output_field = BooleanField()

    def __init__(self, rows: QuerySet[Any], search: Search) -> None:
        super().__init__()
        self.rows, self.search = rows, search
        self.column: Any = F(search.field.name)

    def get_source_expressions(self) -> list[Any]:
        return [self.column]

    def set_source_expressions(self, exprs: Any) -> None:
        (self.column,) = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        column, params = compiler.compile(self.column)
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is None or not scan.index or scan is ESTIMATE:
            return f"{column} IS NOT NULL", params
        if scan.candidates:
            condition, more = self._among_candidates(scan, compiler, connection)
        else:
            table = connection.ops.quote_name(self.search.table)
            condition, more = get_engine(connection).scan_gate(connection, table, scan)
        return f"({condition} AND {column} IS NOT NULL)", [*more, *params]

    def _among_candidates(self, scan: Scan, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        search = self.search
        distance = IndexedDistance(search.field, search.vector, search.distance, scan.precision)
        found = self.rows.filter(Scanned(self.rows, search)).order_by(distance).values("pk")[: scan.candidates]
        inner: Any = found.query.get_compiler(connection=connection)
        inner.query.subquery = True
        inner.scan = replace(scan, candidates=0)
        sql, params = inner.as_sql()
        key = compiler.query.get_meta().pk.get_col(compiler.query.get_initial_alias())
        key_sql, key_params = compiler.compile(key)
        return f"({key_sql}) IN ({sql})", [*key_params, *params]


class DistanceLimit(Expression):
    """The condition `distance <= limit`; left out of an index scan, whose ranking is cut afterwards."""

    output_field = BooleanField()

    def __init__(self, condition: Any) -> None:
        super().__init__()
        self.condition = condition

    def get_source_expressions(self) -> list[Any]:
        return [self.condition]

    def set_source_expressions(self, exprs: Any) -> None:
        (self.condition,) = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is not None and scan.index:
            raise FullResultSet
        return compiler.compile(self.condition)
