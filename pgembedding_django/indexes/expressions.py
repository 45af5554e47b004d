"""Reads the expressions by which pgvector's Django module declares an index of half precision."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.indexes import OpClass
from django.db.models import F
from django.db.models.functions import Cast

from pgembedding_django.engines import distance_of_opclass

__all__ = ["read_expression"]


def read_expression(expressions: tuple[Any, ...], kind: str) -> tuple[str, str | None, str | None]:
    """
    Return field, precision and distance of an expression such as OpClass(Cast("embedding", HalfVectorField(...)), ...).

    kind: the class of the index, for messages. Raises ValueError for another expression.
    """
    expression: Any = expressions[0] if len(expressions) == 1 else None
    distance = precision = None
    if isinstance(expression, OpClass):
        distance = distance_of_opclass(expression.extra["name"])
        (expression,) = expression.get_source_expressions()
    if isinstance(expression, Cast) and _is_half(expression.output_field):
        precision = "half"
        (expression,) = expression.get_source_expressions()
    if type(expression) is not F:
        raise ValueError(
            f"{kind} must be of a field, or of its Cast to a HalfVectorField in an OpClass, got {expressions[0]!r}. "
            'Say fields=["..."], and precision="half" or "binary".'
        )
    return str(vars(expression)["name"]), precision, distance


def _is_half(field: Any) -> bool:
    """Tell whether a field is of half precision, ours or pgvector's."""
    return getattr(field, "storage", "") == "half" or type(field).__name__ == "HalfVectorField"
