"""What writes the values of a field in the server's binary formats."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Any
from zoneinfo import ZoneInfo

from django.db import NotSupportedError, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import MeasuredField
from pgembedding_django.loading.formats import (
    NO_NUL,
    NULL,
    TYPES,
    Encode,
    Write,
    int32,
    write_array,
    write_json,
    write_zoned,
)

__all__ = ["NUMBERS", "get_encoder", "get_packer"]

#: Types that may differ between column and field, as where a table is older than BigAutoField.
NUMBERS = ("smallint", "integer", "bigint", "real", "double precision", "numeric")

#: Attributes in which the drivers' wrappers of bytes, addresses and JSON hold the value.
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

#: Django's own fields, without subclasses: the type of value that they pass to the driver unchanged.
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

    The set is empty where each value must go through the field.
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
        return write_array(*_scalar(field.base_field, connection))  # type: ignore[union-attr]
    return _scalar(field, connection, column_type)[1]


def _scalar(
    field: Field[Any, Any], connection: BaseDatabaseWrapper, column_type: str | None = None
) -> tuple[int, Encode]:
    name = _type_name(field, connection, column_type)
    plain = PLAIN.get(type(field))
    oid, write = _writer(name, field, connection)

    def encode(value: Any) -> bytes | None:
        # Django's own field would pass it on unchanged.
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
        return 3802, partial(write_json, encoder=getattr(field, "encoder", None))
    if name not in TYPES:
        raise NotSupportedError(
            f"{field.model.__name__}.{field.name} is of type {name!r}, which bulk_load() does not write. "
            "Use bulk_create()."
        )
    oid, write = TYPES[name]
    if name == "timestamp with time zone":
        return oid, partial(write_zoned, zone=ZoneInfo(str(connection.timezone_name)))
    if name == "interval":
        # Django leaves the text of a duration to the driver.
        return oid, lambda value: write(field.to_python(value))
    return oid, write


def _unwrapped(prepared: Any) -> Any:
    """Return the value in a driver's wrapper, as a field hands it on, which may encrypt or convert it."""
    name = next((name for name in WRAPPED if hasattr(prepared, name)), None)
    return getattr(prepared, name) if name else prepared
