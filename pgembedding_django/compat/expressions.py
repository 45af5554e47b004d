"""What is asked of Django's expressions that its documentation does not speak of."""

from __future__ import annotations

from typing import Any

__all__ = ["output_field_of"]


def output_field_of(expression: Any) -> Any:
    """Return the field of an expression's values, None where it does not know: `output_field` would raise."""
    return getattr(expression, "_output_field_or_none", None)
