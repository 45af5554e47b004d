"""Writes and reads rows in the binary form of COPY: the fastest way into Postgres, and out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.loading.formats import NULL, int16, int32

__all__ = ["copy_in", "copy_out", "copy_rows", "pack_row"]

#: Signature, flags and header extension (PostgreSQL documentation, "COPY", "Binary Format").
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

#: Bytes that are handed to the driver at once.
CHUNK = 1 << 18


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
    """A file that psycopg2 reads the data from; it reports an error in read() as one of the server's."""

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
