"""The columns of a query and its order, compiled once for all queries of one shape; the rest is compiled each time."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field
from django.db.models.expressions import Col
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import mixed

__all__ = ["forget_columns", "with_known_columns"]

#: How many shapes are known at once.
MOST = 500


@dataclass(frozen=True)
class Columns:
    """
    What SQLCompiler.get_select() and get_order_by() return, without the measured column's expression and parameters.

    fields: of the model when they were compiled; one that was added since makes it another model.
    place: of the measured column.
    """

    fields: Any
    select: list[Any]
    place: int
    klass_info: Any
    annotations: dict[str, int]
    order_by: list[Any]


_known: dict[Hashable, Columns] = {}


def forget_columns() -> None:
    """Compile each shape anew."""
    _known.clear()


def with_known_columns(
    query: Query, shape: Hashable, name: str, params: tuple[Any, ...], formats: Collection[object] = ()
) -> Query:
    """
    Return a query of a model's own columns and one annotation, which is compiled as others of its shape were.

    shape: what the columns and the order depend on beside the query's own state. name: of the annotation.
    params: the annotation's parameters, the only ones among the columns and in the order. formats: the select_format()
        of fields, beside Django's own, that depend on the shape alone.
    A query with anything else in its SELECT or ORDER BY, with a class or a compiler that is not Django's, or with
    fields that write their own SQL, is compiled as ever. FROM, WHERE and LIMIT always are.
    """
    if type(query) is not Query:
        return query
    known = query.clone()
    known.__class__ = ColumnsQuery
    known = cast(ColumnsQuery, known)
    known.shape, known.measured, known.measured_params = shape, name, params
    known.formats = (Field.select_format, *formats)
    return known


class ColumnsQuery(Query):
    """A query whose columns may be known."""

    shape: Hashable
    measured: str
    measured_params: tuple[Any, ...]
    formats: Collection[object]

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> SQLCompiler:
        compiler = super().get_compiler(using, connection, elide_empty)
        if type(compiler).__module__.startswith("django.db.") and _is_plain(self):
            compiler.__class__ = mixed(type(compiler), ColumnsCompiler)
        return cast(SQLCompiler, compiler)


class ColumnsCompiler(SQLCompiler):
    query: ColumnsQuery
    columns: Columns | None = None
    is_aliased = False

    def get_select(self, with_col_aliases: bool = False) -> Any:
        self.is_aliased = with_col_aliases
        self.columns = columns = None if with_col_aliases else self._find()
        if columns is None:
            return super().get_select(with_col_aliases)
        query, select = self.query, columns.select.copy()
        _, (sql, _), alias = select[columns.place]
        select[columns.place] = (query.annotations[query.measured], (sql, query.measured_params), alias)
        return select, columns.klass_info, columns.annotations

    def get_order_by(self) -> Any:
        if self.columns is not None:
            return self.columns.order_by
        order_by = super().get_order_by()
        if not self.is_aliased:
            self._remember(order_by)
        return order_by

    @property
    def _key(self) -> Hashable:
        query = self.query
        names, defers = query.deferred_loading
        # The name of a join may be that of a column, and Django does not quote it then.
        aliases = tuple(query.alias_map) if len(query.alias_map) > 1 else query.base_table
        return query.shape, query.model, self.connection.alias, aliases, frozenset(names), defers, query.measured

    def _find(self) -> Columns | None:
        columns = _known.get(self._key)
        fields = self.query.get_meta().concrete_fields
        return columns if columns is not None and columns.fields is fields else None

    def _remember(self, order_by: list[Any]) -> None:
        """Keep what was compiled, if none of it can be another in the next query of this shape."""
        query, select = self.query, list(cast("list[Any]", self.select))
        place = next(place for place, (_, _, alias) in enumerate(select) if alias == query.measured)
        _, (sql, params), alias = select[place]
        select[place] = None, (sql, ()), alias
        fixed = all(not more and (one is None or _is_bare(one, query.formats)) for one, (_, more), _ in select)
        if fixed and tuple(params) == query.measured_params and not any(more for _, (_, more, _) in order_by):
            if len(_known) >= MOST:
                forget_columns()
            fields, annotations = query.get_meta().concrete_fields, cast("dict[str, int]", self.annotation_col_map)
            _known[self._key] = Columns(fields, select, place, self.klass_info, annotations, order_by)


def _is_plain(query: ColumnsQuery) -> bool:
    """Tell whether a query selects the model's own columns and its one annotation, and nothing else decides which."""
    return (
        query.default_cols
        and query.annotations.keys() == {query.measured}
        and query.annotation_select_mask in cast(Any, (None, {query.measured}))
        and not cast(Any, query.get_meta().concrete_model)._meta.parents
        and not (query.select or query.select_related or query.extra or query.extra_order_by or query.subquery)
        and not (query.distinct or query.combinator or query.external_aliases)
        and query.group_by is None
        and query.standard_ordering
        and not query.where.contains_over_clause
    )


def _is_bare(expression: Any, formats: Collection[object]) -> bool:
    """Tell whether a column's SQL depends on nothing but its name: a field may write its own, with a key in it."""
    return type(expression) is Col and type(expression.target).select_format in formats
