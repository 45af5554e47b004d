"""Checks of databases: the extension is there, new enough and within reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

from pgembedding_django.checks.common import AppConfigs, embedding_models, postgres_aliases
from pgembedding_django.engines import Engine, get_engine_for
from pgembedding_django.fields import embedding_fields
from pgembedding_django.indexes import VectorIndex, vector_indexes
from pgembedding_django.migrating import APP_LABEL
from pgembedding_django.operations import find_other_engine

FIRST_MIGRATION = "0001_create_embedding_extension"


def check_databases(
    app_configs: AppConfigs = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that each database asked about has the extension of its engine, new enough and within reach."""
    models = list(embedding_models(app_configs))
    return [
        message
        for alias in databases or ()
        if connections[alias].vendor == "postgresql"
        for message in _check_database(
            connections[alias], [model for model in models if alias in postgres_aliases(model)]
        )
    ]


def _check_database(connection: BaseDatabaseWrapper, models: list[type[Model]]) -> Iterator[CheckMessage]:
    if not models:
        return
    try:
        engine = get_engine_for(connection.alias)
    except ImproperlyConfigured:
        return  # E007 says so.
    engine.forget_version(connection)
    version = engine.version(connection)
    if not version:
        yield from _check_missing(connection, engine)
        return
    if version < engine.advised_version:
        yield _too_old(connection, engine, version)
    yield from _check_schema(connection, engine)
    for model in models:
        for index in vector_indexes(model):
            yield from _check_built(connection, model, index, engine)


def _check_missing(connection: BaseDatabaseWrapper, engine: Engine) -> Iterator[CheckMessage]:
    """Return no message where `migrate` is about to create the extension."""
    missing = f'Extension "{engine.extension}" is missing in database "{connection.alias}"'
    other = find_other_engine(connection, engine)
    if other is not None:
        yield Error(
            f'{missing}, which has extension "{other.extension}" in its place.',
            hint=f'Set PGEMBEDDING["ENGINE"] to "{other.name}" for this database, or move it to {engine.name}.',
            id="pgembedding.E023",
        )
    elif not _may_create(connection, engine):
        yield Error(
            f'{missing}, and role "{_role(connection)}" cannot create it.',
            hint=f"Install {engine.package} {_dotted(engine.advised_version)} or newer on the server, and let a "
            f'superuser run: psql -d {connection.settings_dict["NAME"]} -c "CREATE EXTENSION {engine.extension}"',
            id="pgembedding.E020",
        )
    elif (APP_LABEL, FIRST_MIGRATION) in MigrationRecorder(connection).applied_migrations():
        yield Warning(
            f"{missing}, although the migration that creates it has run.",
            hint="Run migrate, which creates it again.",
            id="pgembedding.W021",
        )


def _may_create(connection: BaseDatabaseWrapper, engine: Engine) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT bool_or(r.rolsuper OR ((v.trusted OR NOT v.superuser) "
            "AND has_database_privilege(current_database(), 'CREATE'))) "
            "FROM pg_available_extension_versions v, pg_roles r WHERE v.name = %s AND r.rolname = current_user",
            [engine.extension],
        )
        return bool(cursor.fetchone()[0])


def _role(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _too_old(connection: BaseDatabaseWrapper, engine: Engine, version: tuple[int, ...]) -> Warning:
    installed, advised = _dotted(version), _dotted(engine.advised_version)
    return Warning(
        f'Extension "{engine.extension}" {installed} of database "{connection.alias}" is older than {advised}.',
        hint=f"Install {engine.package} {advised} on the server, then run: ALTER EXTENSION {engine.extension} UPDATE",
        id="pgembedding.W024",
    )


def _check_schema(connection: BaseDatabaseWrapper, engine: Engine) -> Iterator[CheckMessage]:
    schema = engine.hidden_schema(connection)
    if schema is not None:
        yield Error(
            f'Extension "{engine.extension}" of database "{connection.alias}" lies in schema "{schema}", which is not '
            "on the search path.",
            hint=f"Run: ALTER EXTENSION {engine.extension} SET SCHEMA public, or add the schema to the search_path.",
            id="pgembedding.E022",
        )


def _check_built(
    connection: BaseDatabaseWrapper, model: type[Model], index: VectorIndex, engine: Engine
) -> Iterator[CheckMessage]:
    """Compare the dimensions that an index was built for with the field's (pg_embedding keeps them as an option)."""
    field = next((field for field in embedding_fields(model, local=True) if index.fields == [field.name]), None)
    if field is None:
        return  # E010 says so, or models.E012 of Django.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT o.option_value FROM pg_class c, pg_options_to_table(c.reloptions) o "
            "WHERE c.relname = %s AND pg_table_is_visible(c.oid) AND o.option_name = 'dims'",
            [index.name],
        )
        row = cursor.fetchone()
    if row is not None and row[0] != str(field.dimensions):
        yield Error(
            f"{index.name} was built for {row[0]} dimensions, but {field.label} has {field.dimensions}, so every write "
            "and search through it fails.",
            hint="Remove the index in one migration and add it in the next.",
            obj=model,
            id="pgembedding.E026",
        )
