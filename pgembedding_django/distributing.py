"""The migration operations by which Citus spreads a model's table over several servers."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState
from django.db.models import Model

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.servers import Server, find_server
from pgembedding_django.partitioning import TableOperation, check_unique_keys

__all__ = ["DistributeTable", "ReferenceTable"]


class _Placement(TableOperation):
    """Place the table of a model; on a server that is one, it stays where it is."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def apply(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        server = _server_now(schema_editor.connection)
        for statement in self.statements(server, schema_editor, model, state):
            schema_editor.execute(statement, params=None)

    def revert(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState) -> None:
        for statement in _server_now(schema_editor.connection).gather(_literal(schema_editor, model)):
            schema_editor.execute(statement, params=None)

    def statements(
        self, server: Server, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState
    ) -> list[str]:
        raise NotImplementedError


class DistributeTable(_Placement):
    """
    Let Citus spread the table of a model over its workers by the values of a column.

    column: a field or its column, such as "tenant_id". Rows of one value are on one worker, so that a search filtered
        by it runs there alone. The primary key and every unique constraint must hold it (CompositePrimaryKey).
    colocate_with: a model of the same app whose rows of one value shall be on the same worker as those of this one.
    Rows that the table has are moved; writes wait meanwhile. Nothing happens in a database without Citus.
    Raises NotSupportedError if a key lacks the column.
    Reversing brings the rows back into one table on the coordinator.
    Source: Citus documentation, "create_distributed_table" and "undistribute_table".
    """

    def __init__(self, model_name: str, *, column: str, colocate_with: str | None = None) -> None:
        super().__init__(model_name)
        self.column, self.colocate_with = column, colocate_with

    def statements(
        self, server: Server, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState
    ) -> list[str]:
        field, beside = self._field_of(model), ""
        if self.colocate_with:
            beside = _literal(schema_editor, state.apps.get_model(model._meta.app_label, self.colocate_with))
        column = str(schema_editor.quote_value(field.column))
        statements = server.distribute(_literal(schema_editor, model), column, beside)
        if statements:
            check_unique_keys(model, [field], "distributed")
        return statements

    def describe(self) -> str:
        return f"Distributes the table of {self.model_name} by {self.column}"

    @property
    def migration_name_fragment(self) -> str:
        return f"distribute_{self.model_name.lower()}"

    def _field_of(self, model: type[Model]) -> Any:
        for field in model._meta.concrete_fields:
            if self.column in (field.name, field.column):
                return field
        fields = ", ".join(field.name for field in model._meta.concrete_fields)
        raise ValueError(f"DistributeTable.column must name a field of {model.__name__} ({fields}), got {self.column}.")


class ReferenceTable(_Placement):
    """
    Let Citus keep a copy of a model's whole table on every worker, so that distributed tables may refer to it.

    For small tables that change seldom. Nothing happens in a database without Citus. Reversing makes it a plain table
    of the coordinator again.
    Source: Citus documentation, "create_reference_table".
    """

    def statements(
        self, server: Server, schema_editor: BaseDatabaseSchemaEditor, model: type[Model], state: ProjectState
    ) -> list[str]:
        return server.copy_everywhere(_literal(schema_editor, model))

    def describe(self) -> str:
        return f"Keeps the table of {self.model_name} on every worker"

    @property
    def migration_name_fragment(self) -> str:
        return f"reference_{self.model_name.lower()}"


def _server_now(connection: BaseDatabaseWrapper) -> Server:
    """Ask anew: the extension may have come by the same migration, and the searches behind it must know."""
    get_engine(connection).forget_version(connection)
    return find_server(connection)


def _literal(schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> str:
    return str(schema_editor.quote_value(schema_editor.quote_name(model._meta.db_table)))
