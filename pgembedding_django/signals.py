"""What is made sure of before and after `migrate`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps as installed_apps
from django.core.exceptions import FieldDoesNotExist
from django.db import NotSupportedError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.operations import (
    AlterField,
    DeleteModel,
    RemoveField,
    RunPython,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.models import F, Func, IntegerField, Model

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.operations import create_extension

if TYPE_CHECKING:
    from django.apps.registry import Apps

APP_LABEL = "pgembedding_django"

Plan = list[tuple[Migration, bool]]

#: Operations that may empty or replace a column before a later one alters it.
MAY_EMPTY = (RunPython, RunSQL, SeparateDatabaseAndState, RemoveField, DeleteModel)

#: What tells PgEmbeddingEngine.column_check() from a user's own CHECK, around the part that dimensions decide.
CHECKED_LENGTH = re.compile(r"array_ndims\(.+cardinality\(.+?\) (>?= \d+).+array_position\(")


def prepare_database(
    sender: object, *, using: str, plan: Plan | None = None, apps: Apps | None = None, **kwargs: Any
) -> None:
    """Before `migrate` runs anything: create the extension if a model needs it, refuse what would fail half-way."""
    connection = connections[using]
    plan = plan or []
    if connection.vendor != "postgresql" or any(backwards for _, backwards in plan):
        return
    if _needs_extension(using, plan):
        create_extension(connection)
    if apps is not None:
        _refuse_new_dimensions(connection, plan, apps)


def finish_database(sender: object, *, using: str, apps: Apps | None = None, **kwargs: Any) -> None:
    """After `migrate`: give each column the CHECK of its field, since Django's AlterField leaves it as it was."""
    connection = connections[using]
    if connection.vendor != "postgresql" or apps is None:
        return
    for model, field in _embedding_fields(using, apps):
        check = field.db_check(connection)
        if check is not None:
            _renew_check(connection, model._meta.db_table, field, check)


def _needs_extension(using: str, plan: Plan) -> bool:
    ours = any(migration.app_label == APP_LABEL for migration, _ in plan)
    return (ours and bool(router.allow_migrate(using, APP_LABEL))) or any(_embedding_fields(using, installed_apps))


def _embedding_fields(using: str, apps: Apps) -> Iterator[tuple[type[Model], EmbeddingField]]:
    """Yield the fields that have a column in a database, with their models."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy and router.allow_migrate_model(using, model):
            for field in model._meta.local_fields:
                if isinstance(field, EmbeddingField):
                    yield model, field


def _refuse_new_dimensions(connection: BaseDatabaseWrapper, plan: Plan, before: Apps) -> None:
    """Refuse to alter the dimensions of a field that holds vectors, unless an earlier step may have emptied it."""
    for migration, _ in plan:
        for operation in migration.operations:
            if isinstance(operation, AlterField) and isinstance(operation.field, EmbeddingField):
                _refuse_if_filled(connection, migration.app_label, operation, operation.field, before)
            if isinstance(operation, MAY_EMPTY):
                return


def _refuse_if_filled(
    connection: BaseDatabaseWrapper, app_label: str, operation: AlterField, new: EmbeddingField, before: Apps
) -> None:
    try:
        model = before.get_model(app_label, operation.model_name)
        old = model._meta.get_field(operation.name)
    except (LookupError, FieldDoesNotExist):
        return  # Made by the same plan, so it is empty.
    if not isinstance(old, EmbeddingField) or new.dimensions in (None, old.dimensions):
        return
    if not router.allow_migrate_model(connection.alias, model):
        return
    length = Func(F(old.name), function=get_engine(connection).length_function, output_field=IntegerField())
    rows = model._default_manager.using(connection.alias).filter(**{f"{old.name}__isnull": False})
    if rows.alias(found_length=length).exclude(found_length=new.dimensions).exists():
        raise NotSupportedError(
            f"{old.label} cannot change to {new.dimensions} dimensions while rows hold vectors of another length. "
            "Let the field be null, set it to None in a migration before this one, and embed the rows again after it."
        )


def _renew_check(connection: BaseDatabaseWrapper, table: str, field: EmbeddingField, check: str) -> None:
    quote = connection.ops.quote_name
    constraints = _find_checks(connection, quote(table), str(field.column))
    lengths = {name: CHECKED_LENGTH.findall(definition) for name, definition in constraints if name}
    ours = {name: found for name, found in lengths.items() if found}
    if not constraints or list(ours.values()) == [CHECKED_LENGTH.findall(check)]:
        return
    actions = [f"DROP CONSTRAINT {quote(name)}" for name in ours] + [f"ADD CHECK ({check})"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {quote(table)} {', '.join(actions)}")


def _find_checks(connection: BaseDatabaseWrapper, quoted_table: str, column: str) -> list[tuple[str | None, str]]:
    """Return name and definition of each CHECK of a column: one (None, "") where it has none, [] without the column."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.conname, coalesce(pg_get_constraintdef(c.oid), '') FROM pg_attribute a LEFT JOIN pg_constraint c "
            "ON c.conrelid = a.attrelid AND c.conkey = ARRAY[a.attnum] AND c.contype = 'c' "
            "WHERE a.attrelid = to_regclass(%s) AND a.attname = %s",
            [quoted_table, column],
        )
        return list(cursor.fetchall())
