"""How nearest() runs: through the index or exactly, and never with fewer rows than match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, takewhile
from typing import Any, cast

from django.core.exceptions import FullResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, OrderBy, QuerySet
from django.db.models.expressions import ColPairs
from django.db.models.sql import Query
from django.db.models.sql.compiler import PositionRef, SQLCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from pgembedding_django.compat.queries import mixed
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.base import Scan
from pgembedding_django.fields import VectorColumn
from pgembedding_django.functions import IndexedDistance
from pgembedding_django.search.direction import without_undefined
from pgembedding_django.search.plans import ESTIMATE, Search, choose_scan

__all__ = ["DistanceLimit", "NearestQuery", "Scanned"]


class NearestQuery(Query):
    """A query whose plan is chosen when it runs; of a queryset with a Query of its own, it is both."""

    search: Search

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> NearestCompiler:
        compiler = super().get_compiler(using, connection, elide_empty)
        compiler.__class__ = mixed(type(compiler), NearestCompiler)
        return cast(NearestCompiler, compiler)

    def get_count(self, using: str) -> int:
        """Count without ranking: the order changes nothing in how many rows there are."""
        if self.order_by:
            query = self.clone()
            query.clear_ordering(force=True)
            return query.get_count(using)
        return super().get_count(using)

    @property
    def is_page(self) -> bool:
        """Whether the ranking was sliced again."""
        return (self.low_mark, self.high_mark) != (0, self.search.k)


class NearestCompiler(SQLCompiler):
    """
    Chooses the scan, runs it, and completes a short answer by an exact scan.

    Where the SQL becomes part of another statement (a subquery, a union), no answer can be completed or cut afterwards,
    so it is exact unless exact=False was asked for, and no max_distance.
    """

    query: NearestQuery
    scan: Scan | None = None
    #: Whether rows without a distance are cut off after they came.
    cuts_undefined: bool = False

    def execute_sql(
        self, result_type: Any = MULTI, chunked_fetch: bool = False, chunk_size: int = GET_ITERATOR_CHUNK_SIZE
    ) -> Any:
        if result_type != MULTI or not self.query.order_by or self.query.combinator:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        self.scan = choose_scan(self.query, self.query.search, self.connection)
        if self.query.explain_info:
            return super().execute_sql(result_type, chunked_fetch, chunk_size)
        if not self.scan.index:
            return self._scan_exactly(chunked_fetch, chunk_size)
        with get_engine(self.connection).scanning(self.connection):
            found = list(chain.from_iterable(super().execute_sql(MULTI) or ()))
        if len(found) < cast(int, self.query.high_mark) - self.query.low_mark:
            self.scan = Scan(reason="the index found too few rows")
            return self._scan_exactly(chunked_fetch, chunk_size)
        return [self._within_distance(found)]

    def _scan_exactly(self, chunked_fetch: bool, chunk_size: int) -> Any:
        search = self.query.search
        is_selected = search.alias in self.query.annotation_select
        self.cuts_undefined = get_engine(self.connection).undefined_is_nan and is_selected
        rows = super().execute_sql(MULTI, chunked_fetch, chunk_size) or ()
        return without_undefined(rows, self._distance_column()) if self.cuts_undefined else rows

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        search = self.query.search
        if self.scan is None and search.exact is False and search.max_distance is None and self.query.order_by:
            scan = choose_scan(self.query, search, self.connection)
            # Candidates are a query of their own, in which a reference to an outer one has no meaning.
            self.scan = scan if scan.reads_in_order else None
        elif self._is_taken_from_ranking():
            return self._take_from_ranking(cast(Scan, self.scan).margin)
        return super().as_sql(with_limits, with_col_aliases)

    def _is_taken_from_ranking(self) -> bool:
        scan, query = self.scan, self.query
        if scan is None or not scan.index or scan is ESTIMATE or query.subquery or query.combinator:
            return False
        return scan.margin > 1 or query.is_page

    def _take_from_ranking(self, margin: int) -> Any:
        """
        Take what was asked for from the whole ranking, and nothing where that has not the margin.

        Postgres plans the CTE without its outer limit, so every page has the plan, and the order of ties, of all
        others, and reads the CTE no further than it must.
        """
        asked, ops = self.query, self.connection.ops
        self.query = ranking = cast(NearestQuery, asked.clone())
        ranking.explain_info = None
        ranking.low_mark, ranking.high_mark = 0, asked.search.k * margin
        ranking.subquery = True
        try:
            sql, params = super().as_sql()
        finally:
            self.query = asked
        explain = asked.explain_info
        prefix = f"{ops.explain_query_prefix(explain.format, **explain.options)} " if explain else ""
        columns = list(self._name_columns())
        names = ", ".join(name for name, _ in columns)
        selected = ", ".join(sql for _, sql in columns)
        enough = f' WHERE (SELECT count(*) FROM "ranking") = {ranking.high_mark}' if margin > 1 else ""
        limits = ops.limit_offset_sql(asked.low_mark, asked.high_mark)
        return (
            f'{prefix}WITH "ranking" ({names}) AS MATERIALIZED ({sql}) '
            f'SELECT {selected} FROM "ranking"{enough} {limits}',
            params,
        )

    def _name_columns(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each column of the ranking, and what to select of it: a vector is sent only here."""
        numbers = count(1)
        for expression, _, _ in self.select:
            for _ in range(len(expression) if isinstance(expression, ColPairs) else 1):
                name = f'"c{next(numbers)}"'
                is_vector = isinstance(getattr(expression, "_output_field_or_none", None), VectorColumn)
                yield name, expression.select_format(self, name, ())[0] if is_vector else name

    def _within_distance(self, rows: list[Any]) -> list[Any]:
        """Cut the ranking where the distance passes max_distance: a filter in SQL would let the index scan on."""
        search = self.query.search
        if search.max_distance is None:
            return rows
        column = self._distance_column()
        return [row for row in rows if row[column] <= search.max_distance]

    def _distance_column(self) -> int:
        """Return where the distance stands in a row; Django counts a composite key as one column (ticket 37354)."""
        before = takewhile(lambda selected: selected[2] != self.query.search.alias, self.select)
        return sum(len(column) if isinstance(column, ColPairs) else 1 for column, _, _ in before)

    def get_order_by(self) -> Any:
        """Break ties by primary key where that costs nothing: no index is there to lose."""
        order = [self._by_column(*each) for each in super().get_order_by()]
        if (
            not (self.scan and self.scan.reads_in_order)
            and self.query.order_by
            and self.query.group_by is None
            and not self.query.combinator
            and not self.query.distinct
        ):
            for field in self.query.get_meta().pk_fields:
                key = field.get_col(self.query.get_initial_alias())
                order.append((OrderBy(key), (*self.compile(key), False)))
        return order

    def _by_column(self, order: Any, sql: Any) -> Any:
        if isinstance(order.expression, PositionRef) and cast(Any, order.expression).refs == self.query.search.alias:
            direction = "DESC" if order.descending else "ASC"
            return order, (f"{self._distance_column() + 1} {direction}", (), True)
        return order, sql


class Scanned(Expression):
    """
    The condition that a row has a vector and that the scan delivers it.

    Of an index whose order is the exact one, it holds the gate in which the engine readies the scan; of any other, it
    asks for a row among the candidates, to be ranked again exactly. rows: what nearest() was called on; not a queryset,
    of which pickle would read every row.
    """

    output_field = BooleanField()

    def __init__(self, rows: Query, search: Search) -> None:
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
        rows: QuerySet[Any] = QuerySet(self.rows.model, self.rows).filter(Scanned(self.rows, search))
        found = rows.order_by(distance).values("pk")[: scan.candidates]
        inner: Any = found.query.get_compiler(connection=connection)
        inner.query.subquery = True
        inner.scan = replace(scan, candidates=0)
        sql, params = inner.as_sql()
        key = compiler.query.get_meta().pk.get_col(compiler.query.get_initial_alias())
        key_sql, key_params = compiler.compile(key)
        return f"({key_sql}) IN ({sql})", [*key_params, *params]


class DistanceLimit(Expression):
    """
    The condition `distance <= limit`; left out of an index scan, whose ranking is cut afterwards.

    It cuts what a filter on a window has kept, so it is no row of that window's.
    """

    output_field = BooleanField()
    contains_over_clause = False

    def __init__(self, condition: Any) -> None:
        super().__init__()
        self.condition = condition

    def get_source_expressions(self) -> list[Any]:
        return [self.condition]

    def set_source_expressions(self, exprs: Any) -> None:
        (self.condition,) = exprs

    def resolve_expression(self, query: Any = None, *args: Any, **kwargs: Any) -> Any:
        resolved = super().resolve_expression(query, *args, **kwargs)
        # As a subquery it is resolved again, in the outer query.
        resolved.contains_over_clause = self.contains_over_clause or query.where.contains_over_clause
        return resolved

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is not None and scan.index:
            raise FullResultSet
        return compiler.compile(self.condition)
