"""What the fields of this package share: a column of vectors of some kind, which nearest() can rank."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from django.core.exceptions import ValidationError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import StateApps
from django.db.models import F, Field, Index, Model, Value
from django.db.models.lookups import Exact
from django.db.models.query_utils import DeferredAttribute
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.base import Converter
from pgembedding_django.forms import EmptyValues
from pgembedding_django.vectors import InvalidVector, SparseVector, Vector

__all__ = ["ColumnAttribute", "MeasuredField"]

if TYPE_CHECKING:
    _Field = Field[Any, Any]
else:
    _Field = Field


class MeasuredField(_Field):
    """
    A column whose values the server can measure distances between.

    dimensions: how many numbers, or bits, a value has; None for any. storage: what the engine calls its type.
    """

    empty_strings_allowed = False
    empty_values: EmptyValues = EmptyValues((None,))
    dimensions: int | None
    storage: str
    #: The distances that it can be ranked by.
    distances: ClassVar[tuple[str, ...]]
    #: What nearest() ranks by where neither its caller nor an index says otherwise.
    distance = "l2"
    #: The distance that the field names, before what any index says.
    chosen_distance: str | None = None

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        # A migration has this in writing, and an abstract model leaves it to those that inherit.
        if cls._meta.abstract or isinstance(cls._meta.apps, StateApps):
            return
        for index in cls._meta.indexes:
            if self.name in index.fields and hasattr(index, "adopt_field"):
                index.adopt_field(self)

    @property
    def label(self) -> str:
        """How messages call the field: "Article.embedding"."""
        model = getattr(self, "model", None)
        return f"{model.__name__}.{self.name}" if model is not None else type(self).__name__

    def to_query(self, value: Any) -> Any:
        """Return a value to measure distances to, which need not be one that a row may hold; raise InvalidVector."""
        raise NotImplementedError

    def to_vector(self, value: Any) -> Any:
        """Return a value as a row may hold it; raise InvalidVector."""
        return self.to_query(value)

    def get_indexes(self) -> Sequence[Index]:
        """Return the indexes among which nearest() finds the field's own."""
        return self.model._meta.indexes

    def get_operand(self, name: str | None = None) -> Any:
        """
        Return what nearest() measures the distance of: the column, as its index holds it.

        name: by which a query knows the column, of another model's rows a path.
        """
        return F(name or self.name)

    # The column

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return get_engine(connection).column_type(self.dimensions, self.storage)

    def db_check(self, connection: BaseDatabaseWrapper) -> str | None:
        if not hasattr(self, "column"):
            return None  # The output_field of a GeneratedField, of which no column is its own.
        return get_engine(connection).column_check(connection.ops.quote_name(str(self.column)), self.dimensions)

    # From Python to the database

    def to_python(self, value: Any) -> Any:
        # An empty text is how a CSV file writes None.
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            return self.to_vector(value)
        except InvalidVector as error:
            raise ValidationError(error.message, error.code, error.params) from error

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if hasattr(value, "resolve_expression") else self.to_python(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        return get_engine(connection).encode(value) if isinstance(value, Vector | SparseVector) else value

    def get_placeholder(self, value: Any, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> str:
        """Cast a parameter, and leave an expression as it is (Django 5.2 and 6.0)."""
        return "%s" if hasattr(value, "as_sql") else get_engine(connection).parameter(self.storage)

    def get_placeholder_sql(self, value: Any, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Cast a parameter, and compile an expression (from Django 6.1 on)."""
        if hasattr(value, "as_sql"):
            return compiler.compile(value)
        return get_engine(connection).parameter(self.storage), (value,)

    # From the database to Python

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> tuple[str, Any]:
        # A subquery's column is compared or selected again as what it is, so only the outermost one is sent as bytes.
        if compiler.query.subquery:
            return sql, params
        return get_engine(compiler.connection).sent(sql, self.storage), params

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Converter]:
        return [get_engine(connection).converter(self.storage)]

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """Read an element of an array: ArrayField asks for each."""
        return get_engine(connection).converter(self.storage)(value, expression, connection)

    def value_to_string(self, obj: Model) -> Any:
        value = self.value_from_object(obj)
        return str(value) if isinstance(value, SparseVector) else value


class ColumnAttribute(DeferredAttribute):
    """Hold a value in the field's own type from assignment on; what is none stays as it came, to be refused."""

    field: MeasuredField

    def __set__(self, instance: Model, value: Any) -> None:
        if value is not None and not hasattr(value, "resolve_expression"):
            with suppress(InvalidVector):
                value = self.field.to_query(value)
        instance.__dict__[self.field.attname] = value


@MeasuredField.register_lookup
class VectorExact(Exact):
    """Compare with a vector as a parameter that is cast to the column's type."""

    def get_prep_lookup(self) -> Any:
        value = super().get_prep_lookup()
        is_vector = isinstance(value, np.ndarray | SparseVector)
        return Value(value, output_field=self.lhs.output_field) if is_vector else value
