"""The indexes that models declare, and the tables that models have in a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.apps import apps
from django.db import connections, router
from django.db.migrations import AddIndex, CreateModel, Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model
from django.utils.translation import gettext as _

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import VectorIndex, vector_indexes

__all__ = ["Declaration", "advise_missing", "creation_times", "declarations", "load_migrations", "model_tables"]


@dataclass(frozen=True)
class Declaration:
    """
    An index in some model's Meta, and the oid of the model's table.

    Not an index in the database (HnswIndexStatus), which may lack it.
    """

    model: type[Model]
    index: VectorIndex
    table_oid: int

    @property
    def field(self) -> EmbeddingField:
        return self.index.get_field(self.model)


def model_tables(using: str, *, unmanaged: bool = False) -> dict[int, type[Model]]:
    """
    Return the models whose tables are in a database, by the oid of the table.

    unmanaged: whether to include models with managed=False, where no other model has the table.
    """
    connection = connections[using]
    models = [
        model
        for model in apps.get_models()
        if not model._meta.proxy and (model._meta.managed or unmanaged) and router.allow_migrate_model(using, model)
    ]
    models.sort(key=lambda model: model._meta.managed)
    names = [connection.ops.quote_name(model._meta.db_table) for model in models]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass(name)::oid::bigint FROM unnest(%s::text[]) WITH ORDINALITY t (name, n) ORDER BY n",
            [names],
        )
        oids = [oid for (oid,) in cursor.fetchall()]
    return {oid: model for oid, model in zip(oids, models, strict=True) if oid is not None}


def declarations(tables: dict[int, type[Model]]) -> dict[tuple[int, str], Declaration]:
    """Return what models declare, by the oid of the table and the name of the index."""
    return {
        (oid, index.name): Declaration(model, index, oid)
        for oid, model in tables.items()
        for index in vector_indexes(model)
    }


def load_migrations(using: str) -> MigrationLoader | None:
    """Return the migrations of the project; None where the role may not read which of them have run."""
    table = MigrationRecorder.Migration._meta.db_table
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT has_table_privilege(to_regclass(%s), 'SELECT')", [table])
        # NULL where the table is missing: then none has run.
        forbidden = cursor.fetchone()[0] is False
    return None if forbidden else MigrationLoader(connections[using], ignore_no_migrations=True)


def creation_times(declared: Iterable[Declaration], using: str) -> dict[tuple[int, str], datetime]:
    """Return when the migrations ran that add some indexes, as far as known, by table oid and name of the index."""
    wanted = list(declared)
    loader = load_migrations(using) if wanted else None
    if loader is None:
        return {}
    times: dict[tuple[int, str], datetime] = {}
    for each in wanted:
        migration, applied = _find_migration(loader, each.model, each.index.name) or (None, False)
        if migration and applied:
            record = cast("MigrationRecorder.Migration", loader.applied_migrations[migration.app_label, migration.name])
            times[each.table_oid, each.index.name] = record.applied
    return times


def advise_missing(loader: MigrationLoader | None, model: type[Model], name: str, using: str) -> tuple[str, bool]:
    """Say how a declared index comes into the database, and whether repair should create it."""
    if loader is None:
        return _("This role may not read which migrations have run. Ask one that may."), False
    added_by = _find_migration(loader, model, name)
    if added_by is None:
        return _("No migration adds it. Run makemigrations and migrate, or let repair create it."), True
    migration, applied = added_by
    if not applied:
        return _("Run: manage.py migrate %(app)s --database %(using)s") % {
            "app": migration.app_label,
            "using": using,
        }, False
    return _("It was dropped after migration %(migration)s had created it. Repair creates it again.") % {
        "migration": str(migration)
    }, True


def _find_migration(loader: MigrationLoader, model: type[Model], name: str) -> tuple[Migration, bool] | None:
    """Return the last migration that adds an index, and whether it has run; None where none does."""
    adding = [
        (migration, key in loader.applied_migrations)
        for key, migration in sorted(loader.disk_migrations.items())
        if key[0] == model._meta.app_label and any(_adds(operation, name) for operation in migration.operations)
    ]
    return adding[-1] if adding else None


def _adds(operation: object, name: str) -> bool:
    if isinstance(operation, AddIndex):
        return operation.index.name == name
    return isinstance(operation, CreateModel) and name in {index.name for index in operation.options.get("indexes", [])}
