"""Writes and reads rows in the binary form of COPY: the fastest way into Postgres, and out of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

from django.core.exceptions import ValidationError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model, Value

from pgembedding_django.loading.encoders import NULL, get_encoder, int16, int32

__all__ = ["RowEncoder", "copy_in", "copy_out", "copy_rows", "pack_row"]

#: Signature, flags and header extension (PostgreSQL documentation, "COPY", "Binary Format").
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

#: Bytes that are handed to the driver at once.
CHUNK = 1 << 18


class RowEncoder:
    """
    Encode instances of a model as rows of a binary COPY.

    fields: the concrete fields to write, in order. types: name of a column: its type in the table, for numbers.
    raw: write what an instance holds, without the fields' pre_save().
    Raises NotSupportedError for a field whose type has no encoder here.
    """

    def __init__(
        self,
        fields: list[Field[Any, Any]],
        connection: BaseDatabaseWrapper,
        types: Mapping[str, str],
        *,
        raw: bool = False,
    ) -> None:
        self.fields, self.connection, self.raw = fields, connection, raw
        self._encoders = [get_encoder(field, connection, types.get(str(field.column))) for field in fields]

    def encode(self, row: Model, position: int) -> bytes:
        """
        Return one row.

        Raises ValidationError naming the row's position, its primary key and the field, if a value cannot be written.
        """
        values: list[bytes | None] = []
        for field, encode in zip(self.fields, self._encoders, strict=True):
            try:
                value = getattr(row, field.attname) if self.raw else field.pre_save(row, add=True)
                if hasattr(value, "resolve_expression") and not _is_json_null(value, field):
                    raise TypeError("bulk_load() writes values, not expressions; use bulk_create() for them")
                values.append(None if value is None else encode(value))
            except (TypeError, ValueError, ArithmeticError, RecursionError, struct.error, ValidationError) as error:
                raise self._bad_row(row, position, field, error) from error
        return pack_row(values)

    def _bad_row(self, row: Model, position: int, field: Field[Any, Any], error: Exception) -> ValidationError:
        reason = error.messages[0] if isinstance(error, ValidationError) else str(error)
        label = f"{type(row).__name__}.{field.name}"
        named = reason if reason.startswith(label) else f"{label}: {reason}"
        return ValidationError(f"Row {position} (pk {row.pk!r}): {named}", code="row")


def _is_json_null(value: Any, field: Field[Any, Any]) -> bool:
    """Tell whether an expression is Value(None, JSONField()), Django's way to write the null of JSON."""
    return isinstance(value, Value) and isinstance(field, JSONField)


def pack_row(values: Sequence[bytes | None]) -> bytes:
    """Return one row of a binary COPY, of values that are encoded already."""
    parts = [int16(len(values))]
    for value in values:
        parts += (NULL,) if value is None else (int32(len(value)), value)
    return b"".join(parts)


def copy_rows(table: str, columns: list[str], data: Iterable[bytes], connection: BaseDatabaseWrapper) -> None:
    """Send encoded rows to a table; table and columns are quoted already."""
    copy_in(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)", _chunks(data), connection)


def copy_in(sql: str, chunks: Iterator[bytes], connection: BaseDatabaseWrapper) -> None:
    """Run a COPY FROM STDIN with its data, which may come in pieces of any size."""
    with connection.cursor() as cursor, connection.wrap_database_errors:
        if hasattr(cursor.cursor, "copy_expert"):
            _Reader(chunks).copy(cursor.cursor, sql)
        else:  # pragma: no cover - psycopg 3, on which tox runs the tests
            with cursor.cursor.copy(sql) as copy:
                for chunk in chunks:
                    copy.write(chunk)


def copy_out(sql: str, connection: BaseDatabaseWrapper) -> bytes:
    """Run a COPY TO STDOUT, and return what it sends; all of it is in memory, so ask for a page."""
    data = BytesIO()
    with connection.cursor() as cursor, connection.wrap_database_errors:
        if hasattr(cursor.cursor, "copy_expert"):
            cursor.cursor.copy_expert(sql, data)
        else:  # pragma: no cover - psycopg 3, on which tox runs the tests
            with cursor.cursor.copy(sql) as copy:
                for chunk in copy:
                    data.write(chunk)
    return data.getvalue()


def _chunks(rows: Iterable[bytes]) -> Iterator[bytes]:
    held, size = [HEADER], 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join([*held, TRAILER])


class _Reader:
    """A file for psycopg2, which pulls what psycopg 3 is handed, and reports an error in it as one of the server's."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.rest = chunks, b""
        self.error: BaseException | None = None

    def copy(self, cursor: Any, sql: str) -> None:
        try:
            cursor.copy_expert(sql, self, size=CHUNK)
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    def read(self, size: int) -> bytes:
        try:
            self.rest = self.rest or next(self.chunks, b"")
        except BaseException as error:
            self.error = error
            raise
        data, self.rest = self.rest[:size], self.rest[size:]
        return data
