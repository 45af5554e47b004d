"""What HnswIndex and IvfflatIndex share: one declaration that each engine turns into its own DDL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self, TypedDict, cast

from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import IndexColumns
from django.db.models import Index, Model, Q

from pgembedding_django.bounds import is_integer
from pgembedding_django.engines import (
    DISTANCES,
    ENGINES,
    GRAPH,
    Engine,
    distance_of_opclass,
    get_engine,
    get_engine_for,
)
from pgembedding_django.engines.base import IndexOption
from pgembedding_django.engines.building import count_indexed, is_left_invalid, prepare_build
from pgembedding_django.fields import EmbeddingField, MeasuredField
from pgembedding_django.fields.sized import SizedField
from pgembedding_django.indexes.expressions import read_expression
from pgembedding_django.indexes.partitions import create_by_partition, goes_by_partition

__all__ = ["IndexArguments", "VectorIndex", "is_option_value"]

PRECISIONS = ("half", "binary")


class IndexArguments(TypedDict, total=False):
    """What an index of any kind takes by name."""

    fields: list[str] | tuple[str, ...]
    name: str | None
    distance: str | None
    precision: str | None
    dimensions: int | None
    condition: Q | None
    opclasses: list[str] | tuple[str, ...]
    db_tablespace: str | None


class VectorIndex(Index):
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

    # Not Django's PostgresIndex, which needs "django.contrib.postgres" in INSTALLED_APPS from Django 6.1 on.
    #: The method that builds it, where no model declares it.
    builder = ""
    #: What a user calls it, also where it is of a subclass.
    kind: ClassVar[str]
    #: The names of what deconstruct() adds.
    option_names: ClassVar[tuple[str, ...]]
    #: Links of a row, candidates that a search keeps, and lists that it reads, where the kind of index knows them.
    m: int | None = None
    ef_search: int | None = None
    probes: int | None = None
    lists: int | None = None

    dimensions: int | None

    def __init__(
        self,
        *expressions: Any,
        fields: list[str] | tuple[str, ...] = (),
        name: str | None = None,
        distance: str | None = None,
        precision: str | None = None,
        dimensions: int | None = None,
        condition: Q | None = None,
        opclasses: list[str] | tuple[str, ...] = (),
        db_tablespace: str | None = None,
    ) -> None:
        kind = self.kind
        if expressions:
            field, precision, distance = read_expression(expressions, kind)
            fields = [field]
        super().__init__(
            fields=fields, name=name, condition=condition, opclasses=opclasses, db_tablespace=db_tablespace
        )
        if len(self.fields) != 1 or self.fields[0].startswith("-"):
            raise ValueError(f"{kind}.fields must name one field, without a minus, got {list(fields)!r}.")
        if distance is not None and distance not in DISTANCES:
            choices = ", ".join(f'"{choice}"' for choice in DISTANCES)
            raise ValueError(f"{kind}.distance must be one of {choices}, got {distance!r}.")
        named = distance_of_opclass(opclasses[0]) if opclasses else None
        if distance and named and distance != named:
            raise ValueError(
                f'{kind}.opclasses {opclasses[0]!r} is for distance "{named}", but distance is "{distance}". '
                "Give one of the two."
            )
        if precision not in (None, *PRECISIONS):
            raise ValueError(f'{kind}.precision must be "half", "binary" or None, got {precision!r}.')
        # numpy's are none: a migration could not write them.
        if dimensions is not None and not (isinstance(dimensions, int) and is_integer(dimensions, 1)):
            raise ValueError(f"{kind}.dimensions must be a positive integer, got {dimensions!r}.")
        self.precision, self.dimensions = precision, dimensions
        self.chosen_distance: str | None = distance or named
        self.distance: str = self.chosen_distance or "l2"

    def deconstruct(self) -> Any:
        _path, args, kwargs = super().deconstruct()
        if self.distance != "l2" and not self.opclasses:
            kwargs["distance"] = self.distance
        if self.precision is not None:
            kwargs["precision"] = self.precision
        if self.dimensions is not None:
            kwargs["dimensions"] = self.dimensions
        kwargs.update((name, value) for name, value in self.options.items() if value is not None)
        return f"pgembedding_django.{self.kind}", args, kwargs

    def clone(self) -> Self:
        """As Django's, which gives each model a clone; deconstruct() says nothing of a distance "l2" that is named."""
        index = cast(Self, super().clone())
        index.chosen_distance, index.distance = self.chosen_distance, self.distance
        return index

    def __eq__(self, other: object) -> bool:
        """
        Tell whether a migration from one to the other would leave every index of this project's databases as it is.

        So pgvector's own index is equal if it is defined alike, and an option counts only where an engine of
        PGEMBEDDING["ENGINE"] writes it into the index.
        """
        if isinstance(other, VectorIndex):
            return type(other) is type(self) and self._definition == other._definition
        if isinstance(other, Index) and other.deconstruct()[0] == f"pgvector.django.indexes.{self.kind}":
            return self._definition == self._read(other)
        return NotImplemented

    def _read(self, other: Index) -> tuple[Any, ...] | None:
        """Return the definition of an index of pgvector's Django module, None where it has none here."""
        _path, expressions, kwargs = other.deconstruct()
        try:
            return type(self)(*expressions, **kwargs)._definition
        except (TypeError, ValueError):
            return None

    @property
    def _definition(self) -> tuple[Any, ...]:
        """What the index depends on, as the engines of this project's databases make it."""
        engines = [get_engine_for(alias) for alias in connections]
        written = {name for each in engines for name, option in self.get_options(each).items() if option.server_name}
        _path, args, kwargs = self.deconstruct()
        return args, {name: value for name, value in kwargs.items() if name not in {*self.option_names} - written}

    def adopt_field(self, field: MeasuredField) -> None:
        """
        Take the field's distance where none is named, and name the operator class where vectors are stored otherwise.

        The server keeps an index's operator class when the column's type changes, and fails. With its name in each
        migration, a change of storage removes the index before and adds it after.
        """
        self.distance = self.chosen_distance or field.distance
        opclasses = ENGINES["pgvector"].opclasses
        named = next((name for name, each in opclasses.items() if set(self.opclasses) & set(each.values())), "single")
        known = self.distance in opclasses[field.storage] and all(map(distance_of_opclass, self.opclasses))
        # What no engine knows stays, for the check to name.
        if field.storage != named and known:
            self.opclasses: Sequence[str] = [opclasses[field.storage][self.distance]]

    @property
    def options(self) -> dict[str, Any]:
        """The options as declared, None where the engine chooses."""
        return {name: getattr(self, name) for name in self.option_names}

    def get_options(self, engine: Engine) -> Mapping[str, IndexOption]:
        """Return the options that an engine knows of such an index."""
        return engine.index_options

    def built_options(self, engine: Engine, stored: Mapping[str, str]) -> dict[str, int]:
        """
        Return the options that such an index in a database was built with, its defaults where none was given.

        stored: what the server keeps of them. An option without a default is one of old servers alone, and left out.
        """
        options = self.get_options(engine)
        defaults = {name: GRAPH.get(name, option.default) for name, option in options.items()}
        return {
            name: int(stored.get(options[name].server_name, default))
            for name, default in defaults.items()
            if default is not None and options[name].server_name
        }

    @property
    def is_partial(self) -> bool:
        """Whether it may lack rows that a search of its field must find."""
        return self.condition is not None

    def get_field(self, model: type[Model]) -> EmbeddingField:
        """Return the indexed field of a model, of one length."""
        field: EmbeddingField = model._meta.get_field(self.fields[0])  # type: ignore[assignment]
        if self.dimensions is None or field.dimensions is not None or not isinstance(field, EmbeddingField):
            return field
        return SizedField(field, self.dimensions)

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


def is_option_value(value: object, option: Any) -> bool:
    """Tell whether an index option is an integer that the server accepts."""
    # numpy's are none: a migration could not write them.
    return isinstance(value, int) and is_integer(value, option.minimum, option.maximum)


class _IndexedExpression(IndexColumns):
    """The indexed column, or the expression of it that an index of reduced precision holds."""

    def __init__(self, columns: Any, expression: str) -> None:
        super().__init__(columns.table, columns.columns, columns.quote_name, opclasses=columns.opclasses)
        self.expression = expression

    def __str__(self) -> str:
        return f"{self.expression.replace('%s', self.quote_name(self.columns[0]))} {self.opclasses[0]}"
