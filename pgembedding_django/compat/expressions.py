"""What is asked of Django's expressions that its documentation does not speak of."""

from __future__ import annotations

from typing import Any, cast

from django.db.models import Expression, F
from django.db.models.constants import LOOKUP_SEP
from django.db.models.sql import Query
from django.db.models.sql.where import AND

__all__ = ["add_condition", "add_resolved", "output_field_of", "replaced", "resolved"]


def output_field_of(expression: Any) -> Any:
    """Return the field of an expression's values, None where it does not know: `output_field` would raise."""
    return getattr(expression, "_output_field_or_none", None)


def resolved(expression: Any, query: Query) -> Any:
    """Return an expression as a query compiles it; of a column of the query's own table, in a fifth of the time."""
    if type(expression) is F:
        meta, name = query.get_meta(), cast(Any, expression).name
        field: Any = None if name in query.annotations or LOOKUP_SEP in name else meta.get_field(name)
        if field is not None and field.model is meta.concrete_model:
            return field.get_col(query.get_initial_alias())
    return expression.resolve_expression(query)


def add_condition(query: Query, condition: Expression) -> None:
    """Do what filter() does, in place, with a condition that is resolved."""
    query.where.add(condition, AND)


def add_resolved(query: Query, expression: Expression, alias: str) -> None:
    """Do what annotate() does, in place, with an expression that is resolved."""
    query.append_annotation_mask([alias])
    query.annotations[alias] = expression
    if query.selected:
        query.selected[alias] = alias


def replaced(expression: Expression, names: dict[str, Expression]) -> Any:
    """Return an expression with each F() of some names replaced by another expression."""
    names_replaced: dict[Any, Expression] = {F(name): other for name, other in names.items()}
    return expression.replace_expressions(names_replaced)
