"""Writes vectors to the rows whose text is still the one that was embedded."""

from __future__ import annotations

import secrets
from functools import cached_property
from typing import Any, cast

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Q
from django.db.models.lookups import Exact

from pgembedding_django.embedding.rows import Row, base_rows, read_rows
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.copying import copy_rows, pack_row
from pgembedding_django.loading.encoders import NUMBERS, get_encoder
from pgembedding_django.vectors import Vector

__all__ = ["Writer", "write_vector"]

#: Rows from which COPY and one UPDATE are worth it: from 4 they are faster than an UPDATE for each, but for the table.
COPY_FROM = 8


class Writer:
    """
    Writes the vectors of one run; use as a context manager.

    Many go through binary COPY into a temporary table, which is made once: each CREATE TABLE leaves dead rows in the
    catalogue. Without the right TEMP on the database each row is an UPDATE of its own.
    """

    using: str
    connection: BaseDatabaseWrapper

    def __init__(self, field: EmbeddingField, using: str) -> None:
        self.field: EmbeddingField = field
        self.using, self.connection = using, connections[using]
        # Behind a pooler in transaction mode, another client may get the session with the table.
        self._staging = f"pgembedding_embed_{secrets.token_hex(4)}"
        self._is_made = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._is_made and not self.connection.needs_rollback and self.connection.is_usable():
            self._execute(f"DROP TABLE IF EXISTS {self._staging}")

    def write(self, embedded: list[tuple[Row, Vector]]) -> set[Any]:
        """
        Write vectors and their digests in one transaction.

        embedded: vectors as the field's `to_vector` returns them.
        Returns the primary keys of the rows that were written; a row is left as it is if its text has changed since it
        was read, if somebody else has given it a vector, or if it is gone.
        """
        # ON COMMIT DELETE ROWS does not empty it inside an outer transaction.
        nested = self.connection.in_atomic_block
        with transaction.atomic(using=self.using):
            rows = base_rows(self.field, self.using).filter(pk__in=[row.pk for row, _ in embedded]).order_by("pk")
            locks = get_engine(self.connection).server(self.connection).locks_rows
            locked = rows.select_for_update(no_key=True) if locks else rows
            now = {row.pk: row for row in read_rows(locked, self.field.text_source, texts=False)}
            wanted = [(row, vector) for row, vector in embedded if row.pk in now and _is_wanted(row, now[row.pk])]
            if len(wanted) >= COPY_FROM and self._may_stage:
                self._copy(wanted)
                if nested:
                    self._execute(f"TRUNCATE {self._staging}")
            else:
                for row, vector in wanted:
                    _update(_as_it_was(rows.order_by().filter(pk=row.pk), row, self.field), row, vector, self.field)
        return {row.pk for row, _ in wanted}

    @cached_property
    def _may_stage(self) -> bool:
        if not get_engine(self.connection).copies:
            return False
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT has_database_privilege(current_database(), 'TEMP')")
            return bool(cursor.fetchone()[0])

    def _copy(self, wanted: list[tuple[Row, Vector]]) -> None:
        quote, meta, connection = self.connection.ops.quote_name, self.field.model._meta, self.connection
        pks = cast("list[Field[Any, Any]]", list(meta.pk_fields))
        digest = cast("Field[Any, Any]", meta.get_field(self.field.digest_name))
        columns = [*(quote(str(field.column)) for field in (*pks, self.field, digest)), '"known"']
        table, (vector, digest_column, known) = quote(meta.db_table), columns[-3:]
        self._make_staging(table, columns, pks)
        # The vectors are checked, so that no instance and no second check stands between them and the server.
        encoders = [get_encoder(field, connection) for field in pks]
        pack = get_engine(connection).binary_encoder(self.field.storage)
        data = (
            pack_row((*_encoded(row.pk, encoders), pack(value), _encoded_text(row.digest), _encoded_text(row.known)))
            for row, value in wanted
        )
        copy_rows(self._staging, columns, data, connection)
        same = " AND ".join(f"{table}.{pk} = new.{pk}" for pk in columns[:-3])
        # Of rows that could not be locked, one that another vector was given to in between keeps that.
        self._execute(
            f"UPDATE {table} SET {vector} = new.{vector}, {digest_column} = new.{digest_column} "
            f"FROM {self._staging} new WHERE {same} AND {table}.{digest_column} IS NOT DISTINCT FROM new.{known}"
        )

    def _make_staging(self, table: str, columns: list[str], pks: list[Field[Any, Any]]) -> None:
        # The server compares numbers of all types, but COPY converts none, and the table's may be older than the model.
        kinds = [field.db_type(self.connection) for field in pks]
        staged = [f"{pk}::{kind}" if kind in NUMBERS else pk for pk, kind in zip(columns, kinds, strict=False)]
        # Asked for again in each transaction: a pooler may run it on another of its sessions.
        *others, digest, known = columns[len(staged) :]
        self._execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._staging} ON COMMIT DELETE ROWS AS "
            f"SELECT {', '.join([*staged, *others, digest, f'{digest} AS {known}'])} FROM {table} WITH NO DATA"
        )
        self._is_made = True

    def _execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)


def write_vector(row: Row, vector: Vector | None, field: EmbeddingField, using: str) -> bool:
    """
    Write one vector, or take the one away that has lost its text, if the row is still as it was read.

    Returns whether it was. One statement where columns of the same table are the source.
    """
    rows, source = base_rows(field, using).filter(pk=row.pk), field.text_source
    by_digest = get_engine(connections[using]).server(connections[using]).updates_by_digest
    if by_digest and source.columns and all(column.model is field.model for column in source.columns):
        same_text = Q(Exact(source.digest_expression, row.digest))
        same_vector = {f"{source.name}__isnull": row.missing}
        unchanged = _as_it_was(rows.filter(same_text, **same_vector), row, field)
        return _update(unchanged, row, vector, field) > 0
    with transaction.atomic(using=using):
        now = next(read_rows(rows.select_for_update(no_key=True), source, texts=False), None)
        return now is not None and _is_wanted(row, now) and _update(rows, row, vector, field) > 0


def _update(rows: Any, row: Row, vector: Vector | None, field: EmbeddingField) -> int:
    digest = None if vector is None else row.digest
    return rows.update(**{field.name: vector, field.digest_name: digest})  # type: ignore[no-any-return]


def _as_it_was(rows: Any, row: Row, field: EmbeddingField) -> Any:
    """Return the row if it still has the digest that it was read with."""
    name = field.digest_name
    return rows.filter(**({f"{name}__isnull": True} if row.known is None else {name: row.known}))


def _is_wanted(row: Row, now: Row) -> bool:
    return (now.digest, now.missing, now.known) == (row.digest, row.missing, row.known)


def _encoded(pk: Any, encoders: list[Any]) -> list[bytes]:
    values = pk if len(encoders) > 1 else [pk]
    return [encode(value) for encode, value in zip(encoders, values, strict=True)]


def _encoded_text(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
