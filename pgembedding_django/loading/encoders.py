"""Writes values of fields as the server's binary formats."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from struct import Struct
from typing import Any, cast
from zoneinfo import ZoneInfo

from django.db import NotSupportedError, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import MeasuredField

__all__ = ["NULL", "NUMBERS", "get_encoder", "get_packer", "int16", "int32"]

#: Writes a value; None for one that its field stores as NULL.
Encode = Callable[[Any], bytes | None]
Write = Callable[[Any], bytes]

#: What stands for the length of a value that is not there.
NULL = b"\xff\xff\xff\xff"

NO_NUL = "Postgres stores no NUL character in text"

#: A NUL as JSON writes it: an even number of backslashes before it are characters of the text.
JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

int16: Callable[..., bytes] = Struct(">h").pack
int32: Callable[..., bytes] = Struct(">i").pack
_EPOCH_DATE = datetime.date(2000, 1, 1)
_EPOCH = datetime.datetime(2000, 1, 1)
_EPOCH_UTC = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
#: The sign of what is no number of digits (PostgreSQL source, numeric.c).
_SPECIAL = {"nan": 0xC000, "infinity": 0xD000, "-infinity": 0xF000}
_MICROSECOND = datetime.timedelta(microseconds=1)


def _packer(form: str) -> Write:
    return Struct(form).pack


def _text(value: Any) -> bytes:
    # str() of a member of a str enumeration would be its name.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if "\0" in text:
        raise ValueError(NO_NUL)
    return text.encode()


def _numeric(value: Any) -> bytes:
    """Write groups of four decimal digits: count, weight of the first, sign, digits after the point."""
    # A float stands for its shortest decimal form, as the driver writes it.
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if not number.is_finite():
        return Struct(">hhHh").pack(0, 0, _SPECIAL["nan" if number.is_nan() else str(number).lower()], 0)
    sign, digits, exponent = number.as_tuple()
    scale = max(0, -int(exponent))
    text = "".join(map(str, digits)) + "0" * max(0, int(exponent))
    whole, fraction = (text[:-scale], text[-scale:].rjust(scale, "0")) if scale else (text, "")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
    head = Struct(">hhHh").pack(len(groups), len(whole) // 4 - 1, 0x4000 if sign else 0, scale)
    return head + b"".join(map(int16, groups))


def _microseconds(delta: datetime.timedelta) -> bytes:
    return Struct(">q").pack(delta // _MICROSECOND)


def _timestamp(value: datetime.datetime) -> bytes:
    return _microseconds(value - (_EPOCH if value.tzinfo is None else _EPOCH_UTC))


def _time(value: datetime.time) -> bytes:
    return _microseconds(datetime.datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH)


def _interval(value: datetime.timedelta) -> bytes:
    """Write microseconds, days and months, as the drivers do: not every number of days has 64 bits of microseconds."""
    return Struct(">qii").pack(value.seconds * 1_000_000 + value.microseconds, value.days, 0)


def _inet(value: Any) -> bytes:
    """Write address family (2 and 3 are Postgres's own numbers), bits, whether it is a cidr, length, address."""
    address = ipaddress.ip_interface(str(value))
    family, bits = 2 if address.version == 4 else 3, address.network.prefixlen
    return bytes([family, bits, 0, len(address.packed)]) + address.packed


def _bytes(value: Any) -> bytes:
    # bytes(5) would be five zeros.
    return bytes(memoryview(value))


#: The type's name in Postgres: (its oid, for arrays; how a value of it is written).
TYPES: dict[str, tuple[int, Write]] = {
    "boolean": (16, _packer(">?")),
    "bytea": (17, _bytes),
    "bigint": (20, _packer(">q")),
    "smallint": (21, _packer(">h")),
    "integer": (23, _packer(">i")),
    "text": (25, _text),
    "real": (700, _packer(">f")),
    "double precision": (701, _packer(">d")),
    "varchar": (1043, _text),
    "char": (1042, _text),
    "date": (1082, lambda value: int32((value - _EPOCH_DATE).days)),
    "time": (1083, _time),
    "timestamp": (1114, _timestamp),
    "timestamp with time zone": (1184, _timestamp),
    "interval": (1186, _interval),
    "numeric": (1700, _numeric),
    "inet": (869, _inet),
    "uuid": (2950, lambda value: (value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))).bytes),
}

#: Types of which a table's column may have another than its field says, as where it is older than BigAutoField.
NUMBERS = ("smallint", "integer", "bigint", "real", "double precision", "numeric")

#: Where the drivers' wrappers of bytes, addresses and JSON hold the value.
WRAPPED = ("adapted", "addr", "obj")

#: What Django's field takes only as text.
ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)

#: The type in Postgres: struct's letter for it.
LETTERS = {
    "boolean": "?",
    "bigint": "q",
    "smallint": "h",
    "integer": "i",
    "real": "f",
    "double precision": "d",
}

#: Django's own fields, not their subclasses, and the type of value that they hand on as it is.
PLAIN: dict[type, type] = {
    models.AutoField: int,
    models.BigAutoField: int,
    models.BigIntegerField: int,
    models.BooleanField: bool,
    models.CharField: str,
    models.FloatField: float,
    models.IntegerField: int,
    models.PositiveBigIntegerField: int,
    models.PositiveIntegerField: int,
    models.PositiveSmallIntegerField: int,
    models.SlugField: str,
    models.SmallAutoField: int,
    models.SmallIntegerField: int,
    models.TextField: str,
}


def get_packer(
    field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None = None
) -> tuple[set[type], Callable[[Sequence[Any]], list[bytes]]]:
    """
    Return what writes many values of a field, each with its length before it, and the types that it takes.

    No types where the field has a way of its own with each value.
    """
    field = getattr(field, "target_field", field)
    plain, name = PLAIN.get(type(field)), _type_name(field, connection, column_type)
    if plain is None or (plain is not str and name not in LETTERS):
        return set(), list
    if plain is str:
        return {plain, type(None)}, _pack_texts
    pack, size = Struct(">i" + LETTERS[name]).pack, Struct(">" + LETTERS[name]).size
    return {plain, type(None)}, lambda values: [NULL if each is None else pack(size, each) for each in values]


def _pack_texts(values: Sequence[str | None]) -> list[bytes]:
    parts = [NULL if each is None else int32(len(data := each.encode())) + data for each in values]
    if any(each is not None and "\0" in each for each in values):
        raise ValueError(NO_NUL)
    return parts


def get_encoder(field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None = None) -> Encode:
    """
    Return what writes values of a field.

    column_type: of the table's column, where that is another type of number than the field's.
    Raises NotSupportedError for a type that has no encoder here.
    """
    field = getattr(field, "target_field", field)
    if isinstance(field, MeasuredField):
        write = get_engine(connection).binary_encoder(field.storage)
        return lambda value: write(field.to_vector(value))
    if re.search(r"\[\d*\]$", field.db_type(connection) or ""):
        return _array(*_scalar(field.base_field, connection))  # type: ignore[union-attr]
    return _scalar(field, connection, column_type)[1]


def _scalar(
    field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None = None
) -> tuple[int, Encode]:
    name = _type_name(field, connection, column_type)
    plain = PLAIN.get(type(field))
    oid, write = _writer(name, field, connection)

    def encode(value: Any) -> bytes | None:
        # What Django's own field would hand on as it is needs no preparation.
        if type(value) is plain or isinstance(value, ADDRESSES):
            return write(value)
        prepared = field.get_db_prep_save(value, connection)
        return None if prepared is None else write(_unwrapped(prepared))

    return oid, encode


def _type_name(field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None) -> str:
    """Return the type of a field's column, without its length."""
    name = re.sub(r"\(.*\)", "", field.db_type(connection) or "")
    return column_type if column_type in NUMBERS and name in NUMBERS else name


def _writer(name: str, field: Field[Any, Any], connection: BaseDatabaseWrapper) -> tuple[int, Write]:
    """Return a type's oid, and what writes the values that its field hands to the driver."""
    if name == "jsonb":
        return 3802, partial(_jsonb, encoder=getattr(field, "encoder", None))
    if name not in TYPES:
        raise NotSupportedError(
            f"{field.model.__name__}.{field.name} is of type {name!r}, which bulk_load() does not write. "
            "Use bulk_create()."
        )
    oid, write = TYPES[name]
    if name == "timestamp with time zone":
        return oid, partial(_zoned, zone=ZoneInfo(str(connection.timezone_name)))
    if name == "interval":
        # Django leaves the text of a duration to the driver.
        return oid, lambda value: write(field.to_python(value))
    return oid, write


def _unwrapped(prepared: Any) -> Any:
    """Return the value in a driver's wrapper, as a field hands it on, which may encrypt or convert it."""
    name = next((name for name in WRAPPED if hasattr(prepared, name)), None)
    return getattr(prepared, name) if name else prepared


def _jsonb(value: Any, encoder: type[json.JSONEncoder] | None) -> bytes:
    """Write the version of the format, 1, and the text."""
    text = json.dumps(value, cls=encoder, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text and JSON_NUL.search(text):
        raise ValueError(NO_NUL)
    return b"\x01" + text.encode()


def _zoned(value: datetime.datetime, zone: ZoneInfo) -> bytes:
    """
    Take a naive time (USE_TZ=False) for the session's own, as every other INSERT does.

    Of two offsets, where clocks change, Postgres takes the lesser (DetermineTimeZoneOffset in its datetime.c).
    """
    if value.tzinfo is not None:
        return _timestamp(value)
    offset = min(cast(datetime.timedelta, zone.utcoffset(value.replace(fold=fold))) for fold in (0, 1))
    return _timestamp(value.replace(fold=0) - offset)


def _array(oid: int, encode: Encode) -> Encode:
    """Write a one-dimensional array: dimensions, whether NULLs are in it, element type, length, lower bound."""

    def encode_array(values: Any) -> bytes:
        if not isinstance(values, list | tuple):
            raise TypeError(f"must be a list, got {type(values).__name__}")
        if not values:
            return Struct(">iii").pack(0, 0, oid)
        written = [None if value is None else encode(value) for value in values]
        items = [NULL if data is None else int32(len(data)) + data for data in written]
        return Struct(">iiiii").pack(1, int(NULL in items), oid, len(items), 1) + b"".join(items)

    return encode_array
