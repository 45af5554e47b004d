"""SQL with its parameters written into it, for statements that take none, such as COPY (SELECT ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["with_literals"]


def with_literals(sql: str, params: Sequence[object], connection: BaseDatabaseWrapper) -> str:
    """Return a statement of PostgreSQL with each parameter as the driver writes its literal."""
    return cast(str, connection.ops.compose_sql(sql, params))  # type: ignore[attr-defined]
