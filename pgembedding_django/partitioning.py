"""The migration operations by which a model's table is partitioned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from django.db import NotSupportedError, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState
from django.db.models import ManyToManyField, Model, UniqueConstraint

from pgembedding_django.bounds import is_integer
from pgembedding_django.compat.schemas import create_table

__all__ = ["AddPartition", "PartitionTable", "TableOperation", "check_unique_keys"]

METHODS = ("list", "range", "hash")


class TableOperation(Operation):
    """Change the table of a model in PostgreSQL databases; others are left alone."""

    reversible = True
    category = OperationCategory.ALTERATION
    model_name: str

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def references_model(self, name: str, app_label: str) -> bool:
        return name.lower() == self.model_name.lower()

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._run(self.apply, app_label, schema_editor, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        # The state of the model is the same before and behind.
        self._run(self.revert, app_label, schema_editor, to_state)

    def apply(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        """Change the table of a model, in a database that has it."""
        raise NotImplementedError

    def revert(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        """Undo that."""
        raise NotImplementedError

    def _run(
        self,
        change: Callable[[BaseDatabaseSchemaEditor, type[Model], ProjectState], None],
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        state: ProjectState,
    ) -> None:
        model, connection = state.apps.get_model(app_label, self.model_name), schema_editor.connection
        if connection.vendor == "postgresql" and router.allow_migrate_model(connection.alias, model):
            change(schema_editor, model, state)


class PartitionTable(TableOperation):
    """
    Make the table of a model partitioned, right behind the CreateModel of the same migration.

    by: "list", "range" or "hash". fields: those whose values say which partition a row is in; the primary key must
        hold them, which Django calls CompositePrimaryKey.
    partitions: how many a table by "hash" gets, "<table>_0" and so on; for the others AddPartition makes each one.
    Other vendors are left alone.
    Raises NotSupportedError if the table has rows or is referred to: it is made anew.
    Reversing makes it a plain table again, under the same conditions.
    Source: PostgreSQL documentation, "Declarative Partitioning".
    """

    model_name: str
    fields: Sequence[str]
    partitions: int | None

    def __init__(self, model_name: str, by: str, *, fields: Sequence[str], partitions: int | None = None) -> None:
        if by not in METHODS:
            raise ValueError(f'PartitionTable.by must be "list", "range" or "hash", got {by!r}.')
        if (by == "hash") != (partitions is not None) or (partitions is not None and not is_integer(partitions, 1)):
            raise ValueError(
                'PartitionTable.partitions must be a positive integer by "hash" and left out by "list" and "range", '
                f'where AddPartition makes each one, got {partitions!r} by "{by}".'
            )
        if isinstance(fields, str) or not fields or (by == "list" and len(fields) > 1):
            how = 'name one field by "list"' if by == "list" else "be a list of the names of fields"
            raise ValueError(f"PartitionTable.fields must {how}, got {fields!r}.")
        self.model_name, self.by, self.fields, self.partitions = model_name, by, fields, partitions

    def apply(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        fields: list[Any] = [model._meta.get_field(name) for name in self.fields]
        check_unique_keys(model, fields, "partitioned")
        quote = schema_editor.quote_name
        clause = f"PARTITION BY {self.by.upper()} ({', '.join(quote(field.column) for field in fields)})"
        _make_anew(schema_editor, model, state, clause)
        table = model._meta.db_table
        for part in range(self.partitions or 0):
            bounds = f"WITH (MODULUS {self.partitions}, REMAINDER {part})"
            schema_editor.execute(
                f"CREATE TABLE {quote(f'{table}_{part}')} PARTITION OF {quote(table)} FOR VALUES {bounds}", params=None
            )

    def revert(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        _make_anew(schema_editor, model, state, "")

    def describe(self) -> str:
        return f"Partitions the table of {self.model_name} by {self.by} of {', '.join(self.fields)}"

    @property
    def migration_name_fragment(self) -> str:
        return f"partition_{self.model_name.lower()}"


class AddPartition(TableOperation):
    """
    Add a partition to the table of a model, with an index of its own for each index of the table.

    name: of its table. values: the values of a partition by "list". start, end: of one by "range", the first value in
        it and the first behind it, a list of them where the table is partitioned by several fields; None is without
        a bound. With none of these it is the default partition, for what no other one takes.
    Searches and writes of the table wait while it is added. Reversing drops it with its rows.
    Source: PostgreSQL documentation, "CREATE TABLE".
    """

    category: ClassVar[OperationCategory] = OperationCategory.ADDITION

    model_name: str
    name: str
    values: Sequence[Any]
    start: Any
    end: Any

    def __init__(
        self, model_name: str, name: str, *, values: Sequence[Any] = (), start: Any = None, end: Any = None
    ) -> None:
        ranged = start is not None or end is not None
        if values and ranged:
            raise ValueError("AddPartition takes values, or start and end, or neither for the default partition.")
        if isinstance(values, str):
            raise ValueError(f"AddPartition.values must be a list of values, got {values!r}.")
        self.model_name, self.name, self.values, self.start, self.end = model_name, name, values, start, end

    def apply(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        name, table = map(schema_editor.quote_name, (self.name, model._meta.db_table))
        schema_editor.execute(f"CREATE TABLE {name} PARTITION OF {table} {self._bounds(schema_editor)}", params=None)

    def revert(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        schema_editor.execute(f"DROP TABLE {schema_editor.quote_name(self.name)}", params=None)

    def describe(self) -> str:
        return f"Adds the partition {self.name} to the table of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"add_partition_{self.name.lower()}"

    def _bounds(self, schema_editor: BaseDatabaseSchemaEditor) -> str:
        def quote(values: Sequence[Any], unbounded: str) -> str:
            return ", ".join(unbounded if value is None else str(schema_editor.quote_value(value)) for value in values)

        if self.values:
            return f"FOR VALUES IN ({quote(self.values, 'NULL')})"
        if self.start is None and self.end is None:
            return "DEFAULT"
        start, end = (list(bound) if isinstance(bound, list | tuple) else [bound] for bound in (self.start, self.end))
        return f"FOR VALUES FROM ({quote(start, 'MINVALUE')}) TO ({quote(end, 'MAXVALUE')})"


def check_unique_keys(model: type[Model], fields: Sequence[Any], how: str) -> None:
    """
    Refuse a primary key or a unique constraint without some fields, which the server would refuse in its own words.

    how: what the table is by these fields, "partitioned" or "distributed".
    """
    for what, key, remedy in _unique_keys(model):
        lacking = [field for field in fields if field not in key]
        if lacking:
            names = ", ".join(f'"{field.attname}"' for field in [*lacking, *key])
            raise NotSupportedError(
                f"The {what} of {model.__name__} must hold {lacking[0].attname}, by which its table is {how}: declare "
                f"{remedy.format(names)}."
            )


def _unique_keys(model: type[Model]) -> Iterator[tuple[str, list[Any], str]]:
    """Yield each key that Postgres holds unique: what it is, its fields, and how it is declared with more of them."""
    options = model._meta
    yield "primary key", list(options.pk_fields), "pk = models.CompositePrimaryKey({})"
    for field in options.concrete_fields:
        if field.unique and not field.primary_key:
            yield f"unique field {field.name}", [field], "UniqueConstraint(fields=[{}])"
    for names in options.unique_together:
        yield "unique_together", [options.get_field(name) for name in names], "unique_together = [({})]"
    for constraint in options.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.fields:
            fields = [options.get_field(name) for name in constraint.fields]
            yield f"constraint {constraint.name}", fields, "UniqueConstraint(fields=[{}])"


def _make_anew(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState, clause: str) -> None:
    """Drop the empty table of a model, and create it again with a clause."""
    state, app_label, model_name = state.clone(), model._meta.app_label, str(model._meta.model_name)
    fields = state.models[app_label, model_name].fields
    for name in [name for name, field in fields.items() if isinstance(field, ManyToManyField)]:
        state.remove_field(app_label, model_name, name)  # Whose table stays.
    model = state.apps.get_model(app_label, model_name)
    table = schema_editor.quote_name(model._meta.db_table)
    if not schema_editor.collect_sql:
        _check_free(schema_editor, model, table)
    schema_editor.execute(f"DROP TABLE {table}", params=None)
    create_table(schema_editor, model, clause)


def _check_free(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], table: str) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")
        (filled,) = cursor.fetchone()
        cursor.execute(
            "SELECT conrelid::regclass::text FROM pg_constraint "
            "WHERE confrelid = to_regclass(%s) AND conrelid <> confrelid",
            [table],
        )
        others = [name for (name,) in cursor.fetchall()]
    reason = "has rows" if filled else f"is referred to by {others[0]}" if others else ""
    if reason:
        raise NotSupportedError(
            f"The table of {model.__name__} is made anew where it is partitioned or no longer so, and {reason}: put "
            "PartitionTable behind CreateModel in the same migration, or move the rows away first."
        )
