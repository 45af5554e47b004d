"""Writes vectors to the rows whose text is still the one that was embedded."""

from __future__ import annotations

from typing import Any, cast

from django.db import connections, transaction
from django.db.models import Field

from pgembedding_django.embedding.rows import Row, base_rows, read_rows
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.copying import copy_rows, pack_row
from pgembedding_django.loading.encoders import NUMBERS, get_encoder
from pgembedding_django.vectors import Vector

__all__ = ["write_vectors"]

STAGING = "pgembedding_embed"


def write_vectors(embedded: list[tuple[Row, Vector]], field: EmbeddingField, using: str) -> set[Any]:
    """
    Write vectors and their digests in one transaction, through binary COPY.

    embedded: vectors as the field's `to_vector` returns them.
    Returns the primary keys of the rows that were written; a row is left as it is if its text has changed since it was
    read, if somebody else has given it a vector of this text, or if it is gone.
    """
    with transaction.atomic(using=using):
        rows = base_rows(field, using).filter(pk__in=[row.pk for row, _ in embedded]).order_by("pk")
        now = {row.pk: row for row in read_rows(rows.select_for_update(), field.text_source, texts=False)}
        wanted = [(row, vector) for row, vector in embedded if row.pk in now and _is_wanted(row, now[row.pk])]
        if wanted:
            _update(wanted, field, using)
    return {row.pk for row, _ in wanted}


def _is_wanted(row: Row, now: Row) -> bool:
    return now.digest == row.digest and (now.missing or now.known != now.digest)


def _update(wanted: list[tuple[Row, Vector]], field: EmbeddingField, using: str) -> None:
    connection = connections[using]
    quote, meta = connection.ops.quote_name, field.model._meta
    fields = cast("list[Field[Any, Any]]", [meta.pk, field, meta.get_field(field.digest_name)])
    columns = [quote(str(field.column)) for field in fields]
    pk, vector, digest = columns
    table = quote(meta.db_table)
    # The vectors are checked, so that no instance and no second check stands between them and the server.
    pack_pk, pack = get_encoder(fields[0], connection), get_engine(connection).binary_encoder(field.storage)
    data = (pack_row((pack_pk(row.pk), pack(value), row.digest.encode())) for row, value in wanted)
    # The server compares numbers of all types, but COPY converts none, and the table's may be older than the model.
    kind = fields[0].db_type(connection)
    staged = f"{pk}::{kind}" if kind in NUMBERS else pk
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE {STAGING} AS SELECT {staged}, {vector}, {digest} FROM {table} WITH NO DATA"
        )
        copy_rows(STAGING, columns, data, connection)
        cursor.execute(
            f"UPDATE {table} SET {vector} = new.{vector}, {digest} = new.{digest} FROM {STAGING} new "
            f"WHERE {table}.{pk} = new.{pk}"
        )
        cursor.execute(f"DROP TABLE {STAGING}")
