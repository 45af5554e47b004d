"""bulk_load_arrays(): a matrix of vectors and columns beside it through COPY, without instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from django.db.models import Field, Model
from numpy.typing import NDArray

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.digest import DigestField
from pgembedding_django.loading.columns import PLAIN_PRE_SAVE, Part, VectorColumn, join_rows
from pgembedding_django.loading.errors import ROW_ERRORS, of_row
from pgembedding_django.loading.load import is_optional
from pgembedding_django.loading.loader import CHUNK, Fields, Loader

__all__ = ["ArrayLoad", "match_columns"]

#: The values of each field, one for each row.
Columns = Mapping["Field[Any, Any]", Sequence[Any]]


def match_columns(model: type[Model], rows: int, columns: Mapping[str, Any]) -> Columns:
    """
    Return columns by their fields.

    Raises TypeError for a name that is none of a field, ValueError for another number of values than there are rows.
    """
    fields = {name: field for field in model._meta.concrete_fields for name in (field.name, field.attname)}
    matched: dict[Field[Any, Any], Sequence[Any]] = {}
    for name, values in columns.items():
        if name not in fields:
            raise TypeError(
                f"bulk_load_arrays() takes columns of {model.__name__} ({', '.join(fields)}), got {name!r}."
            )
        listed = values if hasattr(values, "__getitem__") else list(values)
        if len(listed) != rows:
            raise ValueError(f"{name} must have a value for each of the {rows} rows of the matrix, got {len(listed)}.")
        matched[fields[name]] = listed
    return matched


class ArrayLoad(Loader[range]):
    """
    One call of bulk_load_arrays().

    matrix: shape (n, d), a vector of the field in each row. columns: of other fields, n values each.
    """

    method = "bulk_load_arrays"

    matrix: NDArray[Any]
    columns: Columns

    def __init__(
        self, model: type[Model], using: str, field: EmbeddingField, matrix: NDArray[Any], columns: Columns
    ) -> None:
        super().__init__(model, using)
        self.field: EmbeddingField = field
        self.matrix, self.columns = matrix, columns
        self.written: Fields = tuple(
            each for each in self.fields if each in columns or each == field or not is_optional(each)
        )

    @property
    def can_copy(self) -> bool:
        """Whether no field needs an instance for its value, as auto_now and the text of a method do."""
        plain = all(type(each).pre_save in PLAIN_PRE_SAVE or self._is_digest(each) for each in self.written)
        return plain and get_engine(self.connection).copies

    def instances(self) -> Iterator[Model]:
        """Yield the rows as instances."""
        for place in range(len(self.matrix)):
            values = {field.attname: _values(column, place, place + 1)[0] for field, column in self.columns.items()}
            yield self.model(**values, **{self.field.attname: self.matrix[place]})

    def batches(self, batch_size: int | None) -> Iterator[range]:
        rows = len(self.matrix)
        for start in range(0, rows, batch_size or max(1, rows)):
            yield range(start, min(start + (batch_size or rows), rows))

    def load_batch(self, batch: range, first: int) -> None:
        for field in self.written:
            self.get_column(field)  # Before COPY: it may query the server.
        data = (self._encode(batch[start : start + CHUNK]) for start in range(0, len(batch), CHUNK))
        self.copy(self.table, self.written, data, first, lambda place: self._pk(first + place))

    def _encode(self, places: range) -> bytes:
        values = {field: self._read(field, places) for field in self.written if field != self.field}
        try:
            return join_rows([self._parts(field, values, places) for field in self.written])
        except ROW_ERRORS:
            return b"".join(self._encode_row(values, places, i) for i in range(len(places)))

    def _parts(self, field: Field[Any, Any], values: Columns, places: range) -> Sequence[Part]:
        column = self.get_column(field)
        if not isinstance(column, VectorColumn) or field in values:
            return column.parts(values[field])
        rows = self.matrix[places.start : places.stop]
        if np.ma.is_masked(rows) or rows.dtype.kind not in "fiu":
            return list(map(column.part, rows))
        with np.errstate(over="ignore", invalid="ignore"):
            floats = np.ascontiguousarray(rows, np.float32)
        return column.matrix_parts(floats) if column.accepts(floats) else list(map(column.part, rows))

    def _encode_row(self, values: Columns, places: range, i: int) -> bytes:
        parts = []
        for field in self.written:
            column = self.get_column(field)
            with of_row(places[i], self._pk(places[i]), column.label):
                parts.append([column.part(values[field][i] if field in values else self.matrix[places[i]])])
        return join_rows(parts)

    def _read(self, field: Field[Any, Any], places: range) -> Sequence[Any]:
        """Return some values of a field beside the matrix: from its column, else its default."""
        if field in self.columns:
            return _values(self.columns[field], places.start, places.stop)
        if self._is_digest(field):
            source = self.field.text_source
            return source.digests({each.name: self._read(each, places) for each in source.columns}, len(places))
        return [field.get_default() for _ in places]

    def _is_digest(self, field: Field[Any, Any]) -> bool:
        """Tell whether a field is the digest of the matrix's vectors, and the columns hold their text."""
        return (
            isinstance(field, DigestField)
            and field.name == self.field.digest_name
            and field not in self.columns
            and bool(self.field.text_source.columns)
        )

    def _pk(self, place: int) -> object:
        pk = self._meta.pk
        return _values(self.columns[pk], place, place + 1)[0] if pk in self.columns else None


def _values(values: Sequence[Any], start: int, stop: int) -> Sequence[Any]:
    """Return some of a column's values as Python objects, since not every field takes those of numpy."""
    part = values[start:stop]
    return cast("Sequence[Any]", part.tolist() if hasattr(part, "tolist") else part)
