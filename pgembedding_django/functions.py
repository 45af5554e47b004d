"""The distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
from django.core.exceptions import FieldError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate, FloatField, Func, Value
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.expressions import output_field_of
from pgembedding_django.engines import DISTANCES, get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.vectors import SparseVector, Vector, to_bits, to_vector

__all__ = [
    "Centroid",
    "CosineDistance",
    "Distance",
    "HammingDistance",
    "IndexedDistance",
    "JaccardDistance",
    "L1Distance",
    "L2Distance",
    "MaxInnerProduct",
    "VectorValue",
    "get_distance",
]


class VectorValue(Value):
    """A vector that was checked, or None, as a query parameter; told apart by its bytes, not number by number."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        engine, field = get_engine(connection), cast(Any, self.output_field)
        return engine.parameter(field.storage), (None if self.value is None else engine.encode(self.value),)

    @property
    def identity(self) -> tuple[object, ...]:
        value = self.value.tobytes() if isinstance(self.value, np.ndarray) else self.value
        return (type(self), value, self.output_field)


#: The classes of pgvector's Python package, whose values have no hash, which order_by() needs.
OF_PGVECTOR: Mapping[str, Callable[[Any], Any]] = {
    "Bit": to_bits,
    "HalfVector": to_vector,
    "SparseVector": SparseVector,
    "Vector": to_vector,
}


def _hashable(value: Any) -> Any:
    """Return a value as it is, and one of pgvector's Python package as this package has it."""
    convert = OF_PGVECTOR.get(type(value).__name__) if type(value).__module__.startswith("pgvector.") else None
    return convert(value) if convert else value


class Distance(Func):
    """
    Order, annotate or filter rows by the distance of a field to a vector.

    expression: the name of an EmbeddingField or a SparseVectorField, or an expression that has one as its output_field.
    vector: anything that the field accepts, an F() or another expression of a vector; text names a field, unless it is
        a vector such as "[1,2,3]". None gives NULL, as a row without a vector does.
    Raises FieldError if neither side is such a field, ValueError if the vector does not suit the field,
        NotSupportedError (when the query runs) if the engine has no such distance.
    An index serves `order_by(<distance>)` only in ascending order and with a limit, and it may then return too few
    rows under a filter; `nearest()` cares for both.
    """

    arity: int = 2
    output_field = FloatField()
    #: One of the keys of pgembedding_django.engines.DISTANCES.
    distance: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # What Django keeps of the arguments is what tells one expression from another.
        named = {name: _hashable(value) for name, value in kwargs.items()}
        return super().__new__(cls, *map(_hashable, args), **named)

    def __init__(self, expression: Any, vector: Any, **extra: Any) -> None:
        named = isinstance(vector, str) and not self.is_value(vector)
        if not named and not hasattr(vector, "resolve_expression"):
            vector = Value(_hashable(vector))
        super().__init__(expression, vector, **extra)

    @staticmethod
    def is_value(text: str) -> bool:
        """Tell whether a text is a vector rather than the name of a field."""
        return text.lstrip().startswith(("[", "{"))

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Self:
        resolved = super().resolve_expression(*args, **kwargs)
        sources = resolved.get_source_expressions()
        fields = [output_field_of(source) for source in sources]
        field = next((field for field in fields if hasattr(field, "to_vector")), None)
        if field is None:
            raise FieldError(
                f"{type(self).__name__} needs an EmbeddingField, "
                f"got {' and '.join(type(source).__name__ for source in sources)}."
            )
        if self.distance not in field.distances:
            raise FieldError(
                f"{type(self).__name__} cannot measure {field.label}, a {type(field).__name__}. "
                f"Use {' or '.join(DISTANCES[other] for other in field.distances)}."
            )
        resolved.set_source_expressions([_bind(source, field) for source in sources])
        return resolved

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = self.compare(compiler, connection)
        return get_engine(connection).ungated(sql), tuple(params)

    def compare(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the bare `column <operator> vector`, which an index may serve."""
        (left, params), (right, more) = map(compiler.compile, self.get_source_expressions())
        return get_engine(connection).distance_sql(self.distance, left, right), (*params, *more)


class L2Distance(Distance):
    """Euclidean distance, from 0."""

    distance = "l2"


class CosineDistance(Distance):
    """1 minus the cosine of the angle: from 0 to 2, NaN where a vector is zero."""

    distance = "cosine"


class L1Distance(Distance):
    """Sum of the absolute differences, from 0."""

    distance = "l1"


class MaxInnerProduct(Distance):
    """The negative inner product, so that ascending order puts the greatest product first; pgvector only."""

    distance = "inner_product"


class HammingDistance(Distance):
    """How many bits of a BitField differ, from 0; pgvector only."""

    distance = "hamming"

    @staticmethod
    def is_value(text: str) -> bool:
        return not text.strip("01")


class JaccardDistance(HammingDistance):
    """1 minus the share of the bits set in both among those set in either, from 0 to 1; pgvector only."""

    distance = "jaccard"


class Centroid(Aggregate):
    """
    The average of the vectors of some rows, a vector itself; None of no rows. pgvector only.

    expression: the name of an EmbeddingField.
    """

    function: str = "AVG"
    name: str = "Centroid"

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        resolved = super().resolve_expression(*args, **kwargs)
        if not isinstance(resolved.output_field, EmbeddingField):
            raise FieldError(f"Centroid needs an EmbeddingField, got {type(resolved.output_field).__name__}.")
        return resolved

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        get_engine(connection).check_average()
        return super().as_sql(compiler, connection, *args, **extra)


DISTANCE_CLASSES: dict[str, type[Distance]] = {
    cls.distance: cls
    for cls in (L2Distance, CosineDistance, L1Distance, MaxInnerProduct, HammingDistance, JaccardDistance)
}


def get_distance(distance: str | type[Distance]) -> type[Distance]:
    """
    Return the class of a distance given by name ("l2") or as the class itself.

    Raises ValueError for anything else.
    """
    if isinstance(distance, type) and issubclass(distance, Distance) and hasattr(distance, "distance"):
        return distance
    if isinstance(distance, str) and distance in DISTANCE_CLASSES:
        return DISTANCE_CLASSES[distance]
    choices = ", ".join(f'"{name}"' for name in DISTANCE_CLASSES)
    raise ValueError(f"distance must be one of {choices} or a distance class, got {distance!r}.")


class IndexedDistance(Func):
    """The distance as an index holds it whose order is not the exact one."""

    arity: int = 2

    distance: str
    precision: str | None
    dimensions: Any

    def __init__(
        self, operand: Any, field: Any, vector: Vector, distance: type[Distance], precision: str | None
    ) -> None:
        super().__init__(operand, VectorValue(vector, output_field=field), output_field=FloatField())
        self.distance, self.precision, self.dimensions = distance.distance, precision, field.dimensions

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        engine = get_engine(connection)
        (column, params), (vector, more) = map(compiler.compile, self.get_source_expressions())
        if self.precision is None:
            return f"({column} {engine.operator(self.distance)} {vector})", (*params, *more)
        left, right, operator = engine.reduced_operands(self.distance, self.precision, self.dimensions)
        return f"({left % column} {operator} {right % vector})", (*params, *more)


def _bind(source: Any, field: Any) -> Any:
    """Give a bare value the field that encodes it."""
    # Django takes a bare text or bytes for values of a CharField or BinaryField.
    if isinstance(source, Value) and not hasattr(output_field_of(source), "to_vector"):
        return VectorValue(None if source.value is None else field.to_query(source.value), output_field=field)
    return source
