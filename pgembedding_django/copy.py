"""Writes rows in the binary form of COPY: the fastest way into Postgres."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from struct import Struct
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import NotSupportedError, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField

__all__ = ["RowEncoder", "copy_rows", "get_encoder", "pack_row"]

Encode = Callable[[Any], bytes]

#: Signature, flags and header extension (PostgreSQL documentation, "COPY", "Binary Format").
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

#: Bytes that are handed to the driver at once.
CHUNK = 1 << 18

_int16, _int32 = Struct(">h").pack, Struct(">i").pack
_EPOCH_DATE = datetime.date(2000, 1, 1)
_EPOCH = datetime.datetime(2000, 1, 1)
_EPOCH_UTC = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def _packer(form: str) -> Encode:
    return Struct(form).pack


def _text(value: Any) -> bytes:
    # str() of a member of a str enumeration would be its name.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if "\0" in text:
        raise ValueError("Postgres stores no NUL character in text")
    return text.encode()


def _numeric(value: Any) -> bytes:
    """Write groups of four decimal digits: count, weight of the first, sign, digits after the point."""
    number = Decimal(value)
    sign, digits, exponent = number.as_tuple()
    scale = max(0, -int(exponent))
    text = "".join(map(str, digits)) + "0" * max(0, int(exponent))
    whole, fraction = (text[:-scale], text[-scale:].rjust(scale, "0")) if scale else (text, "")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
    head = Struct(">hhHh").pack(len(groups), len(whole) // 4 - 1, 0x4000 if sign else 0, scale)
    return head + b"".join(map(_int16, groups))


def _microseconds(delta: datetime.timedelta) -> bytes:
    return Struct(">q").pack(delta // _MICROSECOND)


def _timestamp(value: datetime.datetime) -> bytes:
    return _microseconds(value - (_EPOCH if value.tzinfo is None else _EPOCH_UTC))


def _time(value: datetime.time) -> bytes:
    return _microseconds(datetime.datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH)


def _interval(value: datetime.timedelta) -> bytes:
    return Struct(">qii").pack(value // _MICROSECOND, 0, 0)


def _inet(value: Any) -> bytes:
    """Write address family (2 and 3 are Postgres's own numbers), bits, whether it is a cidr, length, address."""
    address = ipaddress.ip_address(str(value))
    return bytes([2 if address.version == 4 else 3, address.max_prefixlen, 0, len(address.packed)]) + address.packed


#: The type's name in Postgres: (its oid, for arrays; how a value of it is written).
TYPES: dict[str, tuple[int, Encode]] = {
    "boolean": (16, _packer(">?")),
    "bytea": (17, bytes),
    "bigint": (20, _packer(">q")),
    "smallint": (21, _packer(">h")),
    "integer": (23, _packer(">i")),
    "text": (25, _text),
    "real": (700, _packer(">f")),
    "double precision": (701, _packer(">d")),
    "varchar": (1043, _text),
    "char": (1042, _text),
    "date": (1082, lambda value: _int32((value - _EPOCH_DATE).days)),
    "time": (1083, _time),
    "timestamp": (1114, _timestamp),
    "timestamp with time zone": (1184, _timestamp),
    "interval": (1186, _interval),
    "numeric": (1700, _numeric),
    "inet": (869, _inet),
    "uuid": (2950, lambda value: (value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))).bytes),
}


#: Types whose fields leave a value to the driver, or wrap it for one.
PREPARED = ("bytea", "inet", "interval")


#: Django's own fields, not their subclasses, and the type of value that they hand on as it is.
PLAIN: dict[type, type] = {
    models.BigIntegerField: int,
    models.BooleanField: bool,
    models.CharField: str,
    models.FloatField: float,
    models.IntegerField: int,
    models.SmallIntegerField: int,
    models.TextField: str,
}


class RowEncoder:
    """
    Encode instances of a model as rows of a binary COPY.

    fields: the concrete fields to write, in order.
    Raises NotSupportedError for a field whose type has no encoder here.
    """

    def __init__(self, fields: list[Field[Any, Any]], connection: BaseDatabaseWrapper) -> None:
        self.fields = fields
        self.connection = connection
        self._encoders = [get_encoder(field, connection) for field in fields]

    def encode(self, row: Model, position: int) -> bytes:
        """
        Return one row.

        Raises ValidationError naming the row's position, its primary key and the field, if a value cannot be written.
        """
        values: list[bytes | None] = []
        for field, encode in zip(self.fields, self._encoders, strict=True):
            try:
                value = field.pre_save(row, add=True)
                if hasattr(value, "resolve_expression"):
                    raise TypeError("bulk_load() writes values, not expressions; use bulk_create() for them")
                values.append(None if value is None else encode(value))
            except (TypeError, ValueError, ArithmeticError, struct.error, ValidationError) as error:
                raise self._bad_row(row, position, field, error) from error
        return pack_row(values)

    def _bad_row(self, row: Model, position: int, field: Field[Any, Any], error: Exception) -> ValidationError:
        reason = error.messages[0] if isinstance(error, ValidationError) else str(error)
        label = f"{type(row).__name__}.{field.name}"
        named = reason if reason.startswith(label) else f"{label}: {reason}"
        return ValidationError(f"Row {position} (pk {row.pk!r}): {named}", code="row")


def pack_row(values: Sequence[bytes | None]) -> bytes:
    """Return one row of a binary COPY, of values that are encoded already."""
    parts = [_int16(len(values))]
    for value in values:
        parts += (NULL,) if value is None else (_int32(len(value)), value)
    return b"".join(parts)


def copy_rows(table: str, columns: list[str], data: Iterable[bytes], connection: BaseDatabaseWrapper) -> None:
    """Send encoded rows to a table; table and columns are quoted already."""
    sql = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    chunks = _chunks(data)
    with connection.cursor() as cursor, connection.wrap_database_errors:
        if hasattr(cursor.cursor, "copy_expert"):
            _Reader(chunks).copy(cursor.cursor, sql)
        else:  # pragma: no cover - psycopg 3, on which tox runs the tests
            with cursor.cursor.copy(sql) as copy:
                for chunk in chunks:
                    copy.write(chunk)


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


def get_encoder(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> Encode:
    """
    Return what writes values of a field.

    Raises NotSupportedError for a type that has no encoder here.
    """
    field = getattr(field, "target_field", field)
    if isinstance(field, EmbeddingField):
        write = get_engine(connection).binary_encoder(field.storage)
        return lambda value: write(field.to_vector(value))
    if isinstance(field, JSONField):
        return lambda value: b"\x01" + json.dumps(value, cls=field.encoder).encode()
    if (field.db_type(connection) or "").endswith("[]"):
        return _array(*_scalar(field.base_field, connection))  # type: ignore[union-attr]
    return _scalar(field, connection)[1]


def _scalar(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> tuple[int, Encode]:
    name = re.sub(r"\(.*\)", "", field.db_type(connection) or "")
    if name not in TYPES:
        raise NotSupportedError(
            f"{field.model.__name__}.{field.name} is of type {name!r}, which bulk_load() does not write. "
            "Use bulk_create()."
        )
    oid, write = TYPES[name]
    if name in PREPARED:
        return oid, lambda value: write(field.to_python(value))
    if name == "timestamp with time zone":
        write = _zoned(connection)
    plain = PLAIN.get(type(field))

    def encode(value: Any) -> bytes:
        # What Django's own field would hand on as it is needs no preparation.
        return write(value if type(value) is plain else field.get_db_prep_save(value, connection))

    return oid, encode


def _zoned(connection: BaseDatabaseWrapper) -> Encode:
    """Take a naive time (USE_TZ=False) for the session's own, as every other INSERT does."""
    zone = ZoneInfo(connection.timezone_name)
    return lambda value: _timestamp(value if value.tzinfo else value.replace(tzinfo=zone))


def _array(oid: int, encode: Encode) -> Encode:
    """Write a one-dimensional array: dimensions, whether NULLs are in it, element type, length, lower bound."""

    def encode_array(values: Any) -> bytes:
        if isinstance(values, str):
            raise TypeError("must be a list, got str")
        if not values:
            return Struct(">iii").pack(0, 0, oid)
        items = [NULL if value is None else _int32(len(data := encode(value))) + data for value in values]
        return Struct(">iiiii").pack(1, int(NULL in items), oid, len(items), 1) + b"".join(items)

    return encode_array
