"""Reads vectors as matrices through COPY, with the keys of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Any

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import BigIntegerField, F, Field, IntegerField, QuerySet, TextField
from django.db.models.functions import Cast
from numpy.typing import NDArray

from pgembedding_django.compat.literals import with_literals
from pgembedding_django.compat.queries import compiled
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.copying import copy_out
from pgembedding_django.vectors.matrices import Form

__all__ = ["check_lengths", "read_pages"]

Page = tuple[list[Any], NDArray[np.float32]]

#: Bytes of the head and the end of a binary COPY.
HEAD, END = 19, 2

_COUNT, _SIZE, _INTEGER = Struct(">h"), Struct(">i"), Struct(">q")


def read_pages(rows: QuerySet[Any], field: EmbeddingField, size: int) -> Iterator[Page]:
    """
    Yield primary keys and vectors of a queryset, in pages by primary key where that is its order.

    Raises ValueError if vectors of a page have different lengths.
    """
    query = rows.query
    if query.is_sliced or query.combinator or query.distinct or query.group_by is not None:
        yield from _read_rows(rows, field, size)
    elif get_engine(connections[rows.db]).copies:
        yield from _copy_rows(rows.filter(**{f"{field.name}__isnull": False}).order_by("pk"), field, size)
    else:
        yield from _read_rows(rows.order_by("pk"), field, size)


def _read_rows(rows: QuerySet[Any], field: EmbeddingField, size: int) -> Iterator[Page]:
    """Read by Django what no other statement may change, such as a ranking, and where there is no COPY."""
    pairs = [(pk, vector) for pk, vector in rows.values_list("pk", field.name) if vector is not None]
    for start in range(0, len(pairs), size):
        keys, vectors = zip(*pairs[start : start + size], strict=True)
        check_lengths(field, set(map(len, vectors)))
        yield list(keys), np.array(list(map(np.asarray, vectors)))


def _copy_rows(rows: QuerySet[Any], field: EmbeddingField, size: int) -> Iterator[Page]:
    keys: list[Any] = []
    while True:
        page = rows.filter(pk__gt=keys[-1]) if keys else rows
        keys, matrix = _copy_page(page[:size], field)
        if keys:
            yield keys, matrix
        if len(keys) < size:
            return


def _copy_page(page: QuerySet[Any], field: EmbeddingField) -> Page:
    connection = connections[page.db]
    parts: list[Field[Any, Any]] = list(page.model._meta.pk_fields)
    keys = [Cast(F(part.attname), BigIntegerField() if _is_integer(part) else TextField()) for part in parts]
    try:
        # In binary, COPY sends a vector as its field would ask for it.
        sql, params = compiled(page.values_list(*keys, field.name), connection, as_stored=True)
    except EmptyResultSet:
        return [], np.empty((0, 0), np.float32)
    statement = with_literals(f"COPY ({sql}) TO STDOUT (FORMAT binary)", params, connection)
    data = memoryview(copy_out(statement, connection))[HEAD:-END]
    return _Decoder(field, parts, get_engine(connection).binary_form(field.storage)).decode(data)


def _is_integer(field: Field[Any, Any]) -> bool:
    return isinstance(getattr(field, "target_field", field), IntegerField)


def check_lengths(field: EmbeddingField, lengths: set[int]) -> int:
    if len(lengths) > 1:
        raise ValueError(
            f"{field.label} holds vectors of {' and '.join(map(str, sorted(lengths)[:2]))} dimensions here, which make "
            "no matrix. Filter the rows."
        )
    return lengths.pop()


class _Decoder:
    """Reads rows of a binary COPY: the parts of the primary key, then the vector."""

    def __init__(self, field: EmbeddingField, parts: Sequence[Field[Any, Any]], form: Form) -> None:
        self.field, self.parts, self.form = field, parts, form
        self.base = form.dtype(1).itemsize
        self.step = form.dtype(2).itemsize - self.base

    def decode(self, data: memoryview) -> Page:
        """Return the rows: at once where all have one size, else one by one."""
        if not data:
            return [], np.empty((0, 0), np.float32)
        return self._decode_equal(data) or self._decode_each(data)

    def _decode_equal(self, data: memoryview) -> Page | None:
        if not all(map(_is_integer, self.parts)):
            return None
        before = _COUNT.size + len(self.parts) * (_SIZE.size + _INTEGER.size)
        vector = self.form.dtype(self._dimensions(_SIZE.unpack_from(data, before)[0]))
        parts = [part for i in range(len(self.parts)) for part in ((f"size{i}", ">i4"), (f"key{i}", ">i8"))]
        row = np.dtype([("count", ">i2"), *parts, ("size", ">i4"), ("vector", vector)])
        if len(data) % row.itemsize:
            return None
        rows = np.frombuffer(data, row)
        if (rows["size"] != vector.itemsize).any():
            return None
        keys = [rows[f"key{i}"].tolist() for i in range(len(self.parts))]
        return self._keys(zip(*keys, strict=True)), self.form.read(rows["vector"])

    def _decode_each(self, data: memoryview) -> Page:
        keys, vectors, offset = [], [], 0
        while offset < len(data):
            offset += _COUNT.size
            values = []
            for _ in range(len(self.parts) + 1):
                (size,) = _SIZE.unpack_from(data, offset)
                values.append(data[offset + _SIZE.size : offset + _SIZE.size + size])
                offset += _SIZE.size + size
            *key, vector = values
            keys.append([self._read_part(part, value) for part, value in zip(self.parts, key, strict=True)])
            vectors.append(vector)
        dimensions = check_lengths(self.field, {self._dimensions(len(vector)) for vector in vectors})
        records = np.frombuffer(b"".join(vectors), self.form.dtype(dimensions))
        return self._keys(keys), self.form.read(records)

    def _dimensions(self, size: int) -> int:
        """Return how many dimensions a vector of so many bytes has."""
        return (size - self.base) // self.step + 1

    def _read_part(self, part: Field[Any, Any], value: memoryview) -> Any:
        return _INTEGER.unpack(value)[0] if _is_integer(part) else part.to_python(str(value, "utf-8"))

    def _keys(self, keys: Iterable[Sequence[Any]]) -> list[Any]:
        return [tuple(key) for key in keys] if len(self.parts) > 1 else [key for (key,) in keys]
