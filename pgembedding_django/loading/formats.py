"""The server's binary formats of the types that Django's fields have."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from struct import Struct
from typing import Any, cast
from zoneinfo import ZoneInfo

__all__ = ["NO_NUL", "NULL", "TYPES", "Encode", "Write", "int16", "int32", "write_array", "write_json", "write_zoned"]

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


def write_json(value: Any, encoder: type[json.JSONEncoder] | None) -> bytes:
    """Write the version of the format, 1, and the text."""
    text = json.dumps(value, cls=encoder, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text and JSON_NUL.search(text):
        raise ValueError(NO_NUL)
    return b"\x01" + text.encode()


def write_zoned(value: datetime.datetime, zone: ZoneInfo) -> bytes:
    """
    Take a naive time (USE_TZ=False) for the session's own, as every other INSERT does.

    Of two offsets, where clocks change, Postgres takes the lesser (DetermineTimeZoneOffset in its datetime.c).
    """
    if value.tzinfo is not None:
        return _timestamp(value)
    offset = min(cast(datetime.timedelta, zone.utcoffset(value.replace(fold=fold))) for fold in (0, 1))
    return _timestamp(value.replace(fold=0) - offset)


def write_array(oid: int, encode: Encode) -> Encode:
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
