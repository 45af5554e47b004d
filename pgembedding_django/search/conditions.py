"""What nearest() adds to a query: the distance that it orders by, and its conditions, each as the scan needs it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, cast

from django.core.exceptions import FullResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, FloatField, Func, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import key_names
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.scan import Scan
from pgembedding_django.functions import Distance, IndexedDistance
from pgembedding_django.search.plans import get_scan
from pgembedding_django.search.search import ESTIMATE, Ranking, Search, set_ranking

__all__ = ["DistanceLimit", "Inline", "RankingDistance", "Scanned"]

#: The keys of a ranking if there are enough of them, else none.
ENOUGH = (
    'SELECT {keys} FROM (SELECT {keys}, count(*) OVER () AS "found" FROM ({sql}) AS "listed" ({keys})) AS "counted" '
    'WHERE "found" >= {enough}'
)


class RankingDistance(Func):
    """The distance that nearest() orders by, written so that an index serves it only in a scan through the index."""

    arity: int = 1
    output_field = FloatField()

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        (distance,) = self.get_source_expressions()
        sql, params = cast(Distance, distance).compare(compiler, connection)
        in_order = get_scan(compiler).reads_in_order
        return f"({sql})" if in_order else get_engine(connection).exact(sql), tuple(params)


class Inline(Func):
    """What is ordered by, written out; Django names it by its column, and counts a composite key as one (37354)."""

    arity: int = 1
    template = "%(expressions)s"


class Scanned(Expression):
    """
    The condition that a row has a vector and that the scan delivers it.

    Exact scan: `column IS NOT NULL`. Through the index: the settings of this statement too. Through the index, and
    ranked again: `key IN (SELECT ... ORDER BY distance LIMIT n)`.
    rows: what nearest() was called on; not a queryset, of which pickle would read every row.
    column: of the field in the query that has this condition, where it is resolved already.
    """

    output_field = BooleanField()

    rows: Query
    search: Search

    def __init__(self, rows: Query, search: Search, column: Any = None) -> None:
        super().__init__()
        self.rows, self.search = rows, search
        self.column: Any = column or F(search.column)

    def get_source_expressions(self) -> list[Any]:
        return [self.column]

    def set_source_expressions(self, exprs: Any) -> None:
        (self.column,) = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        column, params = compiler.compile(self.column)
        scan = get_scan(compiler)
        if not scan.index or scan is ESTIMATE:
            return f"{column} IS NOT NULL", tuple(params)
        if scan.listed:
            condition, more = self._among_candidates(scan, compiler, connection)
        else:
            table = connection.ops.quote_name(self.search.table)
            condition, more = get_engine(connection).scan_gate(connection, table, scan)
        return f"({condition} AND {column} IS NOT NULL)", (*more, *params)

    def _among_candidates(self, scan: Scan, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        names = key_names(cast(Any, self.rows.model))
        keys = ", ".join(f'"key{number}"' for number in range(len(names)))
        sql, params = self._list_candidates(scan, connection)
        if scan.enough:
            sql = ENOUGH.format(keys=keys, sql=sql, enough=scan.enough)
        columns = (F(name).resolve_expression(compiler.query) for name in names)
        key, key_params = zip(*map(compiler.compile, columns), strict=True)
        return f"({', '.join(key)}) IN ({sql})", (*chain.from_iterable(key_params), *params)

    def _list_candidates(self, scan: Scan, connection: BaseDatabaseWrapper) -> Any:
        search = self.search
        distance = IndexedDistance(search.operand, search.field, search.vector, search.distance, scan.precision)
        rows: QuerySet[Any] = QuerySet(self.rows.model, self.rows).filter(Scanned(self.rows, search))
        query = rows.order_by(distance).values("pk")[: scan.listed].query
        set_ranking(query, Ranking(search, replace(scan, candidates=0, listed=0, enough=0)))
        query.subquery = True
        return query.get_compiler(connection=connection).as_sql()


class DistanceLimit(Expression):
    """
    The condition `distance <= limit`; left out of an index scan, whose ranking is cut afterwards.

    It cuts what a filter on a window has kept, so it is no row of that window's.
    """

    output_field = BooleanField()
    contains_over_clause = False

    condition: Any

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
        if get_scan(compiler).index:
            raise FullResultSet
        sql, params = compiler.compile(self.condition)
        return sql, tuple(params)
