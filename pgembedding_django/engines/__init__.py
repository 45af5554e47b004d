"""The engines, and which of them serves a connection."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django import conf
from pgembedding_django.engines.base import DISTANCES, GRAPH, MAX_EF_SEARCH, Engine
from pgembedding_django.engines.pg_embedding import PgEmbeddingEngine
from pgembedding_django.engines.pgvector import PgvectorEngine
from pgembedding_django.engines.sqlite import SqliteEngine

__all__ = [
    "DISTANCES",
    "ENGINES",
    "GRAPH",
    "MAX_EF_SEARCH",
    "Engine",
    "distance_of_opclass",
    "get_engine",
    "get_engine_for",
]

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (PgvectorEngine(), PgEmbeddingEngine())}

#: What serves every connection to SQLite, whatever the setting says.
SQLITE = SqliteEngine()

_OPCLASS_DISTANCES = {
    opclass: distance
    for engine in ENGINES.values()
    for opclasses in engine.opclasses.values()
    for distance, opclass in opclasses.items()
}


def get_engine(connection: BaseDatabaseWrapper) -> Engine:
    """
    Return the engine that serves a connection.

    Raises NotSupportedError if the database is neither PostgreSQL nor SQLite, ImproperlyConfigured if the setting names
    no engine.
    """
    if connection.vendor == "sqlite":
        return SQLITE
    if connection.vendor != "postgresql":
        raise NotSupportedError(
            f'EmbeddingField needs PostgreSQL, or SQLite for tests and small tables, but database "{connection.alias}" '
            f"is {connection.display_name}. Keep its models off this database with a router."
        )
    return _configured(connection.alias)


def get_engine_for(using: str) -> Engine:
    """Return the engine of a database alias, which the settings alone decide."""
    if using in connections and connections[using].vendor == "sqlite":
        return SQLITE
    return _configured(using)


def _configured(using: str) -> Engine:
    name = conf.engine_name(using)
    if name not in ENGINES:
        choices = " or ".join(f'"{choice}"' for choice in ENGINES)
        raise ImproperlyConfigured(f'PGEMBEDDING["ENGINE"] must be {choices}, got "{name}".')
    return ENGINES[name]


def distance_of_opclass(opclass: str) -> str | None:
    """Return the distance that an operator class of any engine orders by, or None for an unknown one."""
    return _OPCLASS_DISTANCES.get(opclass)
