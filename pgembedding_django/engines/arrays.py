"""Arrays of vectors, as ArrayField, ArrayAgg and ArraySubquery select them: lists of vectors."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper

from pgembedding_django.compat.arrays import register_array
from pgembedding_django.engines import get_engine

__all__ = ["read_arrays", "read_new_arrays"]

#: Name, oid and oid of the array, as the driver wants them, of each database that was connected to.
_types: dict[tuple[object, ...], list[tuple[str, int, int]]] = {}


def read_arrays(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Make the driver return an array of vectors as a list; the first connection of a process asks the server how."""
    if connection.vendor != "postgresql" or connection.alias == NO_DB_ALIAS:
        return
    place = tuple(connection.settings_dict[key] for key in ("HOST", "PORT", "NAME"))
    names = get_engine(connection).types_with_arrays
    if names and not _types.get(place):
        # By the driver's own cursor: it is none of the queries that the project sends.
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT typname, oid, typarray FROM pg_type WHERE typname = ANY (%s)", [list(names)])
            _types[place] = cursor.fetchall()
    for name, oid, array_oid in _types.get(place, ()):
        register_array(connection, name, oid, array_oid)


def read_new_arrays(connection: BaseDatabaseWrapper) -> None:
    """Do as `read_arrays`, after the extension was created."""
    _types.clear()
    read_arrays(connection)
