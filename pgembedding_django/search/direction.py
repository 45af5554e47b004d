"""A vector of zeros has no direction: a ranking by cosine leaves its row out, as one without a vector."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FullResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import get_engine
from pgembedding_django.search.plans import get_scan
from pgembedding_django.search.search import ESTIMATE, Search, get_ranking

__all__ = ["HasDirection"]


class HasDirection(Expression):
    """
    The condition that the distance of a row is a number.

    Left out where the index holds no other rows, and where they are cut off afterwards: in an exact scan it would read
    each vector a second time.
    column, distance: in the query that has this condition, where they are resolved already.
    """

    output_field = BooleanField()

    def __init__(self, search: Search, column: Any = None, distance: Any = None) -> None:
        super().__init__()
        self.column: Any = column or F(search.column)
        self.distance: Any = distance or search.measure(search.operand)

    def get_source_expressions(self) -> list[Any]:
        return [self.column, self.distance]

    def set_source_expressions(self, exprs: Any) -> None:
        self.column, self.distance = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        ranking, scan = get_ranking(compiler.query), get_scan(compiler)
        if (ranking and ranking.cuts_undefined) or scan is ESTIMATE or scan.reads_in_order:
            raise FullResultSet
        engine = get_engine(connection)
        operand, template = (self.distance if engine.undefined_is_nan else self.column), engine.direction
        sql, params = compiler.compile(operand)
        return template % sql, tuple(params)
