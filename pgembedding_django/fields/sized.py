"""An EmbeddingField without dimensions, as the vectors of one length have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, Func, Index, Model
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import get_engine
from pgembedding_django.fields.embedding import EmbeddingField

__all__ = ["HasLength", "SizedField", "indexed_lengths"]


class SizedField(EmbeddingField):
    """A field of any length, as a search for one length reads it, and an index with dimensions= holds it."""

    model: type[Model]
    column: str | None

    def __init__(self, field: EmbeddingField, dimensions: int) -> None:
        super().__init__(dimensions, embedder=field.embedder, storage=field.storage, distance=field.chosen_distance)
        self.set_attributes_from_name(field.name)
        self.model, self.column = field.model, field.column

    @property
    def label(self) -> str:
        return f"{super().label} of {self.dimensions} dimensions"

    def get_indexes(self) -> Sequence[Index]:
        return [i for i in self.model._meta.indexes if getattr(i, "dimensions", None) == self.dimensions]

    def get_operand(self, name: str | None = None) -> Any:
        return OfLength(F(name or self.name), output_field=self)


def indexed_lengths(field: EmbeddingField) -> set[int]:
    """Return the lengths of which the model declares an index of a field without dimensions."""
    declared = (index for index in field.model._meta.indexes if index.fields == [field.name])
    return {index.dimensions for index in declared if getattr(index, "dimensions", None) is not None}


class OfLength(Func):
    """The column, NULL where its vector has another length than the field."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        field = cast(SizedField, self.output_field)
        return get_engine(connection).sized(sql, field.storage, cast(int, field.dimensions)), tuple(params)


class HasLength(Func):
    """The condition that a vector has the length of a field."""

    output_field = BooleanField()

    def __init__(self, field: SizedField, name: str | None = None) -> None:
        super().__init__(F(name or field.name))
        self.dimensions: int = cast(int, field.dimensions)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        return f"({get_engine(connection).length_function}({sql}) = {self.dimensions:d})", tuple(params)
