"""How Django writes CREATE TABLE."""

from __future__ import annotations

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Model

__all__ = ["create_table"]


def create_table(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], clause: str) -> None:
    """
    Create the table of a model with a clause behind its columns, such as PARTITION BY.

    What the end of the migration makes of the table already, such as its indexes, is not made twice.
    """
    known = {str(statement) for statement in schema_editor.deferred_sql}
    before = len(schema_editor.deferred_sql)
    template = schema_editor.sql_create_table
    schema_editor.sql_create_table = f"{template} {clause.replace('%', '%%')}".rstrip()
    try:
        schema_editor.create_model(model)
    finally:
        schema_editor.sql_create_table = template
    added = schema_editor.deferred_sql[before:]
    schema_editor.deferred_sql[before:] = [statement for statement in added if str(statement) not in known]
