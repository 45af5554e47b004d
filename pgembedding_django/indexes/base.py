"""How a declared index is built and removed: one declaration that each engine turns into its own DDL."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, cast

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import IndexColumns
from django.db.models import Model

from pgembedding_django.engines import (
    Engine,
    distance_of_opclass,
    get_engine,
)
from pgembedding_django.engines.building import count_indexed, is_left_invalid, prepare_build
from pgembedding_django.fields import EmbeddingField, MeasuredField
from pgembedding_django.fields.sized import SizedField
from pgembedding_django.indexes.declaration import IndexDeclaration, is_option_value
from pgembedding_django.indexes.partitions import create_by_partition, goes_by_partition

__all__ = ["VectorIndex"]


class VectorIndex(IndexDeclaration):
    """
    Index a field for approximate search.

    fields: the name of one field.
    dimensions: the length of the vectors to index, of a field that has none of its own.
    distance: the field's own unless given. `nearest()` uses it unless it or the field says otherwise.
    precision: "half" or "binary" indexes the vectors rounded to 16 bits or to their signs.
    condition: a Q that limits the index to some rows.
    opclasses: pgvector's way to name the distance, such as ["vector_l2_ops"].
    expressions: pgvector's way to say precision="half", OpClass(Cast("embedding", HalfVectorField(...)), name=...).
    """

    def get_expression(self, field: EmbeddingField, engine: Engine) -> tuple[str, str]:
        """Return the template of what the index holds of a field's column, and its operator class."""
        engine.check_method(self.suffix, field.storage, self.distance)
        dimensions = cast(int, field.dimensions)
        expression, opclass = engine.indexed_expression(field.storage, self.distance, self.precision, dimensions)
        if isinstance(field, SizedField):
            expression = expression.replace("%s", engine.sized("%s", field.storage, dimensions))
        return expression, opclass

    def create_sql(
        self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Any:
        engine = get_engine(schema_editor.connection)
        if not engine.indexes:
            return f"-- {engine.name} has no index {self.name}: a search reads every row"
        field = self.get_field(model)
        if not isinstance(field, MeasuredField):
            raise TypeError(
                f"{self.name} must index an EmbeddingField, but {model.__name__}.{self.fields[0]} is a "
                f"{type(field).__name__}. Let that class inherit from EmbeddingField."
            )
        self._check_sql(engine)
        engine.check_storage(field.storage)
        engine.operator(self.distance)
        if field.dimensions is None:
            raise ValueError(f"{field.label} must have dimensions to be indexed by {self.name}.")
        index, server = copy(self), engine.server(schema_editor.connection)
        if not server.partial_indexes:
            index.condition = None
        if not server.concurrent_builds:
            kwargs["concurrently"] = False
        expression, opclass = self.get_expression(field, engine)
        index.opclasses = (opclass,)
        by_partition = goes_by_partition(model, schema_editor, **kwargs)
        if by_partition:
            kwargs["concurrently"] = False
        elif kwargs.get("concurrently") and not schema_editor.collect_sql:
            self._drop_invalid(model, schema_editor)
        engine.before_create_index(model, schema_editor)
        using = f" USING {self.suffix}"
        statement: Any = super(VectorIndex, index).create_sql(model, schema_editor, using=using, **kwargs)
        statement.parts["columns"] = _IndexedExpression(statement.parts["columns"], expression)
        entries = engine.with_options(self.options, field.dimensions, schema_editor.connection)
        if entries:
            statement.parts["extra"] = f" WITH ({', '.join(entries)}){statement.parts['extra']}"
        if not schema_editor.collect_sql:
            self._prepare_build(field, opclass, str(statement.parts["condition"]), schema_editor)
        return create_by_partition(statement, self.name, model, schema_editor) if by_partition else statement

    def memory_of_build(self, engine: Engine, opclass: str, dimensions: int, rows: Callable[[], int]) -> int:
        """Return the bytes of memory that a build holds; 0 where it holds none, or not known. rows: counts them."""
        raise NotImplementedError

    def _drop_invalid(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Drop what an interrupted AddIndexConcurrently left under the name, so that running it again succeeds."""
        if is_left_invalid(schema_editor.connection, self.name, schema_editor.quote_name(model._meta.db_table)):
            schema_editor.execute(self.remove_sql(model, schema_editor, concurrently=True), params=None)

    def _prepare_build(
        self, field: EmbeddingField, opclass: str, condition: str, schema_editor: BaseDatabaseSchemaEditor
    ) -> None:
        """Give the build the memory that it needs, within PGEMBEDDING["BUILD_MEMORY"], and log what it lacks."""
        connection = schema_editor.connection
        table, column = map(schema_editor.quote_name, (field.model._meta.db_table, str(field.column)))
        rows = partial(count_indexed, connection, table, column, condition)
        needed = self.memory_of_build(get_engine(connection), opclass, cast(int, field.dimensions), rows)
        if not needed:
            return
        before = prepare_build(connection, self.name, needed, self.suffix)
        if before is not None and not connection.in_atomic_block:
            schema_editor.deferred_sql.append(f"SET maintenance_work_mem = '{before}'")

    def remove_sql(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, **kwargs: Any) -> Any:
        self._check_name()
        if not get_engine(schema_editor.connection).indexes:
            return f"-- There is no index {self.name} to remove"
        server = get_engine(schema_editor.connection).server(schema_editor.connection)
        if not server.concurrent_builds or goes_by_partition(model, schema_editor, **kwargs):
            kwargs["concurrently"] = False
        statement = super().remove_sql(model, schema_editor, **kwargs)
        get_engine(schema_editor.connection).after_remove_index(model, schema_editor)
        return statement

    def _check_sql(self, engine: Engine) -> None:
        """Refuse what Django would put into DDL as it is: migrations can run without system checks."""
        self._check_name()
        kind = self.kind
        if self.opclasses and distance_of_opclass(self.opclasses[0]) is None:
            raise ValueError(f"{kind}.opclasses must be an operator class of HNSW, got {self.opclasses[0]!r}.")
        for name, option in self.get_options(engine).items():
            value = self.options[name]
            if value is not None and not is_option_value(value, option):
                raise ValueError(
                    f"{kind}.{name} must be an integer from {option.minimum} to {option.maximum}, got {value!r}."
                )

    def _check_name(self) -> None:
        if '"' in self.name:
            raise ValueError(f"{self.kind}.name must not contain a double quote, got {self.name!r}.")


class _IndexedExpression(IndexColumns):
    """The indexed column, or the expression of it that an index of reduced precision holds."""

    def __init__(self, columns: Any, expression: str) -> None:
        super().__init__(columns.table, columns.columns, columns.quote_name, opclasses=columns.opclasses)
        self.expression = expression

    def __str__(self) -> str:
        return f"{self.expression.replace('%s', self.quote_name(self.columns[0]))} {self.opclasses[0]}"
