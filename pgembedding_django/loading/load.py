"""bulk_load(): instances of a model through COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby, islice
from typing import Any

from django.db import Error
from django.db.models import NOT_PROVIDED, AutoField, Field, Model
from django.db.models.expressions import DatabaseDefault

from pgembedding_django.compat.rows import prepare_related
from pgembedding_django.fields import EmbeddingField, measured_fields
from pgembedding_django.loading.columns import Column, join_rows
from pgembedding_django.loading.errors import ROW_ERRORS, of_row, place_of
from pgembedding_django.loading.loader import CHUNK, Fields, Loader
from pgembedding_django.loading.staging import staging_table

__all__ = ["BulkLoad", "check_vectors", "is_optional"]

STAGING = "pgembedding_bulk_load"

#: SQLSTATE of an INSERT ... ON CONFLICT that would update a row twice.
TWICE = "21000"

Rows = list[Model]


def check_vectors(model: type[Model], objs: list[Any], names: list[str] | None = None) -> None:
    """
    Check the vectors of some rows, in the fields named or in all.

    Raises RowError, a ValidationError that names the row.
    """
    for field in measured_fields(model):
        if names is not None and field.name not in names:
            continue
        for row, obj in enumerate(objs):
            value = getattr(obj, field.attname)
            if value is None or hasattr(value, "resolve_expression"):
                continue
            with of_row(row, obj.pk, field.label):
                field.to_vector(value)


class BulkLoad(Loader[Rows]):
    """
    One call of bulk_load().

    rows: read batch by batch.
    unique_fields: names of the fields whose conflict turns an insert into an update, or None. update_fields: names of
        those that are updated then, None for all. prepare: called with the instances of each batch, in its transaction.
    raw: write what the instances hold, and of a model with a parent's table only its own columns.
    """

    method = "bulk_load"

    rows: Iterable[Model]
    prepare: Callable[[list[Any]], None]

    def __init__(
        self,
        model: type[Model],
        using: str,
        rows: Iterable[Model],
        unique_fields: Sequence[str] | None,
        update_fields: Sequence[str] | None,
        prepare: Callable[[list[Any]], None],
        *,
        raw: bool = False,
    ) -> None:
        super().__init__(model, using, raw=raw)
        self.rows, self.prepare = rows, prepare
        self.unique: Fields = self._named(unique_fields or (), "unique_fields")
        self.updated: Fields = self.fields if update_fields is None else self._with_digests(update_fields)

    def batches(self, batch_size: int | None) -> Iterator[Rows]:
        remaining = iter(self.rows)
        while batch := list(islice(remaining, batch_size)):
            yield batch

    def load_batch(self, batch: Rows, first: int) -> None:
        self.prepare(batch)
        self._prepare_rows(batch, first)
        for fields, start, group in self._groups(batch):
            self._load(fields, first + start, group)

    def _prepare_rows(self, rows: Rows, first: int) -> None:
        """Check that all are instances of the model, and prepare them as save() does."""
        if set(map(type, rows)) != {self.model}:
            for position, row in enumerate(rows, first):
                if not isinstance(row, self.model):
                    raise TypeError(
                        f"bulk_load() takes instances of {self.model.__name__}, got {type(row).__name__} as row "
                        f"{position}."
                    )
        if self.raw:
            return
        if self._has_relations:
            for row in rows:
                prepare_related(row, "bulk_load")
        for field in self._meta.pk_fields:
            if not isinstance(field, AutoField):
                for row in rows:
                    if getattr(row, field.attname) is None:
                        setattr(row, field.attname, field.get_pk_value_on_save(row))

    @cached_property
    def _has_relations(self) -> bool:
        return bool(self._meta.private_fields) or any(field.is_relation for field in self._meta.concrete_fields)

    def _groups(self, rows: Rows) -> Iterator[tuple[Fields, int, Rows]]:
        """Yield fields to write, the place of the first row, and rows, for each run of rows with the same fields."""
        left = [[_left_to_database(row, field) for row in rows] for field in self._optional]
        first = 0
        for omitted, group in groupby(zip(*left, strict=True)) if left else [((), rows)]:
            fields = {field for field, is_left in zip(self._optional, omitted, strict=False) if is_left}
            count = sum(1 for _ in group)
            yield tuple(field for field in self.fields if field not in fields), first, rows[first : first + count]
            first += count

    @cached_property
    def _optional(self) -> list[Field[Any, Any]]:
        """The fields that the database can fill in: an AutoField, and those with a db_default."""
        return [field for field in self.fields if is_optional(field)]

    def _load(self, fields: Fields, first: int, rows: Rows) -> None:
        if not self.unique:
            self._copy(self.table, fields, first, rows)
            return
        names = ", ".join(map(self.column_name, fields))
        select = f"SELECT {names} FROM {self.table}"
        with staging_table(STAGING, select, self.connection), self.connection.cursor() as cursor:
            self._copy(STAGING, fields, first, rows)
            try:
                cursor.execute(
                    f"INSERT INTO {self.table} ({names}) SELECT {names} FROM {STAGING} {self._on_conflict(fields)}"
                )
            except Error as error:
                raise self._with_pair(error, first, rows) from error.__cause__

    def _copy(self, table: str, fields: Fields, first: int, rows: Rows) -> None:
        columns = [self.get_column(field) for field in fields]
        data = (_encode(columns, first + i, rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK))
        self.copy(table, fields, data, first, lambda place: rows[place].pk)

    def _on_conflict(self, fields: Fields) -> str:
        target = ", ".join(map(self.column_name, self.unique))
        kept = [
            self.column_name(field)
            for field in fields
            if field in self.updated and field not in self.unique and field not in self._meta.pk_fields
            if self.raw or not getattr(field, "auto_now_add", False)
        ]
        if not kept:
            return f"ON CONFLICT ({target}) DO NOTHING"
        return f"ON CONFLICT ({target}) DO UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in kept)

    def _named(self, names: Sequence[str], argument: str) -> Fields:
        known = {field.name: [field] for field in self.fields}
        known["pk"] = list(self._meta.pk_fields)
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise ValueError(
                f"{argument} must name fields of {self.model.__name__} ({', '.join(known)}), got {unknown!r}."
            )
        return tuple(field for name in names for field in known[name])

    def _with_digests(self, names: Sequence[str]) -> Fields:
        """Add the digest of each vector: it is updated with the vector."""
        fields = self._named(names, "update_fields")
        digests = [each.digest_name for each in fields if isinstance(each, EmbeddingField) and each.source is not None]
        return (*fields, *self._named(digests, "update_fields"))

    def _with_pair(self, error: Error, first: int, rows: Rows) -> Error:
        """Return the error of a batch that has a row twice with the two rows; any other as it is."""
        diagnosis: Any = getattr(error.__cause__, "diag", None)
        if getattr(diagnosis, "sqlstate", None) != TWICE:
            return error
        seen: dict[tuple[str, ...], int] = {}
        for position, row in enumerate(rows, first):
            key = tuple(repr(getattr(row, field.attname)) for field in self.unique)
            if key in seen:
                names = ", ".join(field.name for field in self.unique)
                return type(error)(
                    f"{place_of(position, row.pk)} has the {names} of row {seen[key]}, and a batch can update a row "
                    "only once. Load each once."
                )
            seen[key] = position
        return error


def is_optional(field: Field[Any, Any]) -> bool:
    """Tell whether the database fills in a field that is not written."""
    return isinstance(field, AutoField) or field.db_default is not NOT_PROVIDED


def _encode(columns: list[Column], first: int, rows: Rows) -> bytes:
    """
    Return the rows of a COPY, column by column.

    Raises RowError for the first row that cannot be written: a second pass finds it.
    """
    try:
        return join_rows([column.parts(column.read(rows)) for column in columns])
    except ROW_ERRORS:
        return b"".join(_encode_row(columns, position, row) for position, row in enumerate(rows, first))


def _encode_row(columns: list[Column], position: int, row: Model) -> bytes:
    parts = []
    for column in columns:
        with of_row(position, row.pk, column.label):
            (value,) = column.read([row])
            parts.append([column.part(value)])
    return join_rows(parts)


def _left_to_database(row: Model, field: Field[Any, Any]) -> bool:
    value = getattr(row, field.attname)
    return isinstance(value, DatabaseDefault) or (value is None and isinstance(field, AutoField))
