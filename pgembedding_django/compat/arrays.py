"""Arrays of a type that the driver does not know."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["register_array"]


def register_array(connection: BaseDatabaseWrapper, name: str, oid: int, array_oid: int) -> None:
    """Make the driver return arrays of a type as lists of the type's text, on this connection."""
    # A project on SQLite has no driver.
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if is_psycopg3:  # pragma: no cover - where psycopg 3 is installed
        from psycopg.types import TypeInfo

        TypeInfo(name, oid, array_oid).register(connection.connection)
    else:
        from psycopg2 import extensions

        array = extensions.new_array_type((array_oid,), f"{name}[]", extensions.UNICODE)
        extensions.register_type(array, connection.connection)
