"""A vector as a parameter of raw SQL."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from pgembedding_django.vectors import Vector

__all__ = ["write_vectors"]


def write_vectors(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Let `cursor.execute("... embedding <-> %s", [row.embedding])` send the vector's text on a new connection."""
    if connection.vendor != "postgresql":
        return
    if is_psycopg3:  # pragma: no cover - where psycopg 3 is installed
        from psycopg.adapt import Dumper

        class VectorDumper(Dumper):  # type: ignore[misc, unused-ignore]
            def dump(self, obj: Vector) -> bytes:
                return str(obj).encode()

        connection.connection.adapters.register_dumper(Vector, VectorDumper)
    else:
        from psycopg2 import extensions

        extensions.register_adapter(Vector, lambda vector: extensions.QuotedString(str(vector)))
