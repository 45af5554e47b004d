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
    RemoveIndex,
    RenameIndex,
    RunPython,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.models import F, FloatField, Func, IntegerField, Model, QuerySet

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField, MeasuredField, measured_fields
from pgembedding_django.indexes import vector_indexes
from pgembedding_django.operations import create_extension
from pgembedding_django.vectors import HALF_LIMIT

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
        _refuse_alterations(connection, plan, apps)


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


def _embedding_fields(using: str, apps: Apps) -> Iterator[tuple[type[Model], MeasuredField]]:
    """Yield the fields that have a column in a database, with their models."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy and router.allow_migrate_model(using, model):
            for field in measured_fields(model, local=True):
                yield model, field


def _refuse_alterations(connection: BaseDatabaseWrapper, plan: Plan, before: Apps) -> None:
    """Refuse to alter a field against its vectors or its indexes, unless an earlier step may have removed those."""
    gone: set[str | None] = set()
    for migration, _ in plan:
        for operation in migration.operations:
            if isinstance(operation, RemoveIndex | RenameIndex):
                gone.add(operation.name if isinstance(operation, RemoveIndex) else operation.old_name)
            if isinstance(operation, AlterField) and isinstance(operation.field, EmbeddingField):
                old = _find_field(connection, migration.app_label, operation, before)
                if old is not None:
                    _refuse_other_length(connection, old, operation.field)
                    _refuse_other_storage(connection, old, operation.field, gone)
            if isinstance(operation, MAY_EMPTY):
                return


def _find_field(
    connection: BaseDatabaseWrapper, app_label: str, operation: AlterField, before: Apps
) -> EmbeddingField | None:
    """Return the field that is altered, if it is an EmbeddingField that the database has."""
    try:
        model = before.get_model(app_label, operation.model_name)
        old = model._meta.get_field(operation.name)
    except (LookupError, FieldDoesNotExist):
        return None  # Made by the same plan, so it is empty.
    here = router.allow_migrate_model(connection.alias, model)
    return old if here and isinstance(old, EmbeddingField) else None


def _refuse_other_length(connection: BaseDatabaseWrapper, old: EmbeddingField, new: EmbeddingField) -> None:
    if new.dimensions in (None, old.dimensions):
        return
    length = Func(F(old.name), function=get_engine(connection).length_function, output_field=IntegerField())
    if _filled(connection, old).alias(found_length=length).exclude(found_length=new.dimensions).exists():
        raise NotSupportedError(
            f"{old.label} cannot change to {new.dimensions} dimensions while rows hold vectors of another length. "
            "Let the field be null, set it to None in a migration before this one, and embed the rows again after it."
        )


def _refuse_other_storage(
    connection: BaseDatabaseWrapper, old: EmbeddingField, new: EmbeddingField, gone: set[str | None]
) -> None:
    if new.storage == old.storage:
        return
    get_engine(connection).check_storage(new.storage)
    for index in vector_indexes(old.model):
        if index.fields == [old.name] and index.name not in gone:
            raise NotSupportedError(
                f'{old.label} cannot change to storage="{new.storage}" while index {index.name} stands, which is for '
                "the other one. Put RemoveIndex before AlterField and AddIndex after it, as makemigrations does."
            )
    largest = Func(
        F(old.name), template="(SELECT max(abs(x)) FROM unnest(%(expressions)s::real[]) x)", output_field=FloatField()
    )
    if (
        new.storage == "half"
        and _filled(connection, old).alias(largest=largest).filter(largest__gte=HALF_LIMIT).exists()
    ):
        raise NotSupportedError(
            f'{old.label} cannot change to storage="half" while rows hold numbers of {HALF_LIMIT:.0f} or more in size, '
            "which half precision cannot hold. Scale those vectors or set them to None in a migration before this one."
        )


def _filled(connection: BaseDatabaseWrapper, field: EmbeddingField) -> QuerySet[Model]:
    return field.model._default_manager.using(connection.alias).filter(**{f"{field.name}__isnull": False})


def _renew_check(connection: BaseDatabaseWrapper, table: str, field: MeasuredField, check: str) -> None:
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
