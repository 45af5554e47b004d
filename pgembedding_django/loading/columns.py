"""Writes rows for a binary COPY column by column, many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model, Value

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.encoders import get_encoder, get_packer
from pgembedding_django.loading.formats import NULL, int16, int32
from pgembedding_django.vectors import Vector
from pgembedding_django.vectors.conversion import Floats
from pgembedding_django.vectors.matrices import Form, is_matrix_of_vectors

__all__ = ["Column", "VectorColumn", "join_rows", "make_column"]

#: The value of one row, with its length before it.
Part = bytes | memoryview

#: What of a field's own way to a value needs no call for each row.
PLAIN_PRE_SAVE = (Field.pre_save, EmbeddingField.pre_save)


class Column:
    """
    One field of the rows of a binary COPY.

    column_type: of the table's column, where that is another type of number than the field's. raw: write what an
    instance holds, without the field's pre_save().
    Raises NotSupportedError for a field whose type has no encoder here.
    """

    field: Field[Any, Any]
    name: str

    def __init__(
        self,
        field: Field[Any, Any],
        connection: BaseDatabaseWrapper,
        column_type: str | None = None,
        *,
        raw: bool = False,
    ) -> None:
        self.field, self.name = field, field.attname
        self.label: str = f"{field.model.__name__}.{field.name}"
        self.holds_value: bool = raw or type(field).pre_save in PLAIN_PRE_SAVE
        self._encode = get_encoder(field, connection, column_type)
        self._plain, self._pack = get_packer(field, connection, column_type)

    def read(self, rows: Iterable[Model]) -> list[Any]:
        """Return the field's values of instances, as they would be saved."""
        if self.holds_value:
            # From __dict__ where it is loaded: the descriptor would take longer than all else here.
            return [held[self.name] if self.name in (held := row.__dict__) else getattr(row, self.name) for row in rows]
        return [self.field.pre_save(row, add=True) for row in rows]

    def parts(self, values: Sequence[Any]) -> Sequence[Part]:
        """Return the values of many rows. An error does not name its row."""
        return self._pack(values) if set(map(type, values)) <= self._plain else list(map(self.part, values))

    def part(self, value: Any) -> bytes:
        """Return the value of one row."""
        if hasattr(value, "resolve_expression") and not self._is_json_null(value):
            raise TypeError("bulk_load() writes values, not expressions; use bulk_create() for them")
        data = None if value is None else self._encode(value)
        return NULL if data is None else int32(len(data)) + data

    def _is_json_null(self, value: Any) -> bool:
        """Tell whether an expression is Value(None, JSONField()), by which Django writes a JSON null."""
        return isinstance(value, Value) and isinstance(self.field, JSONField)


class VectorColumn(Column):
    """An EmbeddingField of the rows: vectors of one length are checked and written as one matrix."""

    field: EmbeddingField

    def __init__(
        self,
        field: EmbeddingField,
        connection: BaseDatabaseWrapper,
        column_type: str | None = None,
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(field, connection, column_type, raw=raw)
        self.form: Form = get_engine(connection).binary_form(field.storage)
        self.may_be_missing: bool = field.null or raw
        # A subclass may convert values in its own way.
        self.takes_vectors: bool = type(field).to_vector is EmbeddingField.to_vector

    def part(self, value: Any) -> bytes:
        if not self.may_be_missing:
            self.field.check_present(value)
        return super().part(value)

    def parts(self, values: Sequence[Any]) -> Sequence[Part]:
        vectors = [value for value in values if value is not None]
        matrix = self._stack(vectors) if self.may_be_missing or len(vectors) == len(values) else None
        if matrix is None or not self.accepts(matrix):
            return list(map(self.part, values))
        parts = iter(self.matrix_parts(matrix))
        return (
            list(parts) if len(vectors) == len(values) else [NULL if each is None else next(parts) for each in values]
        )

    def accepts(self, matrix: Floats) -> bool:
        """Tell whether each row of a matrix is a vector of the field."""
        return (
            self.takes_vectors
            and self.field.dimensions in (None, matrix.shape[1])
            and is_matrix_of_vectors(matrix, half=self.field.storage == "half", zeros=self.field.allow_zero)
        )

    def matrix_parts(self, matrix: Floats) -> list[memoryview]:
        """Return the vectors of a matrix that the field accepts."""
        record = self.form.dtype(matrix.shape[1])
        records = np.empty(len(matrix), np.dtype([("size", ">i4"), ("vector", record)]))
        records["size"] = record.itemsize
        self.form.write(records["vector"], matrix)
        data, size = memoryview(records.tobytes()), records.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _stack(self, vectors: list[Any]) -> Floats | None:
        """Return vectors of one length as a matrix, None where they are anything else."""
        if set(map(type, vectors)) != {Vector} or len(lengths := set(map(len, vectors))) > 1:
            return None
        return np.frombuffer(b"".join(vectors), np.float32).reshape(len(vectors), lengths.pop())


def make_column(
    field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None = None, *, raw: bool = False
) -> Column:
    make: Callable[..., Column] = VectorColumn if isinstance(field, EmbeddingField) else Column
    return make(field, connection, column_type, raw=raw)


def join_rows(columns: Sequence[Sequence[Part]]) -> bytes:
    """Return rows of a binary COPY, of the values of each column."""
    return b"".join(chain.from_iterable(zip(repeat(int16(len(columns))), *columns, strict=False)))
