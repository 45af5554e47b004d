"""Copies the rows of one table from one database to another, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from django.core.management.color import no_style
from django.db import Error, IntegrityError, NotSupportedError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, QuerySet

from pgembedding_django.compat.literals import with_literals
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import MeasuredField
from pgembedding_django.loading.copying import copy_in, copy_out
from pgembedding_django.loading.staging import staging_table
from pgembedding_django.loading.statistics import analyze

__all__ = ["Page", "Transfer"]

STAGING = "pgembedding_move"

#: Rows of one page, which is read, sent and committed as one.
PAGE = 2_000

#: Types that COPY's binary form cannot exchange, but a cast converts without loss or with an error.
INTEGERS = {"int2", "int4", "int8"}

#: pg_type's name of real[], in which vectors travel between engines.
REALS = "_float4"
VECTORS = {"vector", "halfvec", REALS}

Key = tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """
    What became of some rows.

    copied: rows that were not in the target. kept: rows whose key was there already. differing: keys of those, as text,
    that hold something else there.
    """

    copied: int
    kept: int
    differing: tuple[Key, ...]


class Transfer:
    """
    The move of one table.

    Every column is copied as the server holds it, through binary COPY, whatever its type; a row whose primary key is in
    the target already stays as it is there.
    """

    source: BaseDatabaseWrapper
    target: BaseDatabaseWrapper

    def __init__(self, model: type[Model], source: str, target: str) -> None:
        self.model = model
        self.source, self.target = connections[source], connections[target]
        self.quote: Callable[[str], str] = self.source.ops.quote_name
        self.table: str = self.quote(model._meta.db_table)
        self._known_types: dict[str, dict[str, tuple[str, str]]] = {}
        self.fields: list[Field[Any, Any]] = cast(
            "list[Field[Any, Any]]", [each for each in model._meta.local_concrete_fields if not each.generated]
        )
        self.columns: list[str] = [self.quote(str(field.column)) for field in self.fields]
        self.key: list[str] = [self.quote(str(field.column)) for field in model._meta.pk_fields]

    def count(self, using: str) -> int:
        return int(self._fetch(connections[using], f"SELECT count(*) FROM {self.table}", [])[0][0])

    def check_columns(self) -> None:
        """Raise NotSupportedError where a column is missing, or has another type, in one of the databases."""
        for field in self.fields:
            self._converted(field)

    def run(self) -> Iterator[Page]:
        """Copy what is not in the target, each page in a transaction of its own."""
        after: Key | None = None
        last = False
        while not last:
            until = self._page_end(after)
            last = until is None
            with self._named_rows(after):
                page = self._copy_page(*self._between(after, until))
            yield page
            after = until

    def check_same(self, keys: Sequence[Key]) -> None:
        """
        Refuse a row of the target that is another one than the source's of the same key, as their natural keys tell.

        So rows that `migrate` makes, such as content types, may have other keys in each database.
        """
        if not keys or not hasattr(self.model, "natural_key"):
            return
        wanted = [key if len(key) > 1 else key[0] for key in keys]
        mine, theirs = (
            self._natural_keys(QuerySet(self.model, using=each.alias).filter(pk__in=wanted))
            for each in (self.source, self.target)
        )
        for pk, natural in mine.items():
            if natural != theirs[pk]:
                raise IntegrityError(
                    f'{self.model._meta.label} {pk} is {natural} in database "{self.source.alias}" and {theirs[pk]} in '
                    f'database "{self.target.alias}", so rows that refer to it would refer to another. Delete the rows '
                    f'of {self.model._meta.label} in "{self.target.alias}" first.'
                )

    def _natural_keys(self, rows: QuerySet[Any]) -> dict[Any, tuple[str, ...]]:
        return {row.pk: row.natural_key() for row in rows}

    def finish(self) -> None:
        """Set the sequences after the rows, and let the planner know the table."""
        with self.target.cursor() as cursor:
            for statement in self.target.ops.sequence_reset_sql(no_style(), [self.model]):
                cursor.execute(statement)
        analyze(self.table, self.target)

    def _page_end(self, after: Key | None) -> Key | None:
        condition, params = self._between(after, None)
        keys, order = ", ".join(f"{column}::text" for column in self.key), ", ".join(self.key)
        rows = self._fetch(
            self.source,
            f"SELECT {keys} FROM {self.table} WHERE {condition} ORDER BY {order} OFFSET {PAGE - 1} LIMIT 1",
            params,
        )
        return rows[0] if rows else None

    def _between(self, after: Key | None, until: Key | None) -> tuple[str, list[str]]:
        """Return the condition of the rows after one key, up to another."""
        kinds = [self._types(self.source)[str(field.column)][1] for field in self.model._meta.pk_fields]
        values = ", ".join(f"%s::{kind}" for kind in kinds)
        bounds = [(operator, key) for operator, key in ((">", after), ("<=", until)) if key is not None]
        conditions = [f"({', '.join(self.key)}) {operator} ({values})" for operator, _ in bounds]
        return " AND ".join(["true", *conditions]), [part for _, key in bounds for part in key]

    def _copy_page(self, condition: str, params: list[str]) -> Page:
        select = f"SELECT {', '.join(self._sent)} FROM {self.table} WHERE {condition}"
        data = copy_out(with_literals(f"COPY ({select}) TO STDOUT (FORMAT binary)", params, self.source), self.source)
        names = ", ".join(self.columns)
        staged = staging_table(STAGING, f"SELECT {', '.join(self._staged)} FROM {self.table}", self.target)
        with transaction.atomic(using=self.target.alias), staged, self.target.cursor() as cursor:
            copy_in(f"COPY {STAGING} ({names}) FROM STDIN (FORMAT binary)", iter([data]), self.target)
            differing = self._fetch(self.target, self._differing, [])
            cursor.execute(
                f"INSERT INTO {self.table} ({names}) SELECT {', '.join(self._stored)} FROM {STAGING} s "
                f"ON CONFLICT ({', '.join(self.key)}) DO NOTHING"
            )
            copied = cursor.rowcount
            cursor.execute(f"SELECT count(*) FROM {STAGING}")
            kept = cursor.fetchone()[0] - copied
        return Page(copied, kept, tuple(differing))

    @property
    def _differing(self) -> str:
        keys = ", ".join(f"t.{column}::text" for column in self.key)
        there = ", ".join(f"t.{column}" for column in self.columns)
        # Text, since not every type can be compared.
        return (
            f"SELECT {keys} FROM {STAGING} s JOIN {self.table} t USING ({', '.join(self.key)}) "
            f"WHERE ROW({', '.join(self._stored)})::text <> ROW({there})::text"
        )

    @property
    def _sent(self) -> list[str]:
        """What is read of each column."""
        return [
            f"{name}::{kind}" if (kind := self._converted(field)) else name
            for field, name in zip(self.fields, self.columns, strict=True)
        ]

    @property
    def _staged(self) -> list[str]:
        """What the temporary table holds of each column: what was sent."""
        return [
            f"{name}::real[] AS {name}" if self._converted(field) == "real[]" else name
            for field, name in zip(self.fields, self.columns, strict=True)
        ]

    @property
    def _stored(self) -> list[str]:
        """What is written to each column."""
        engine = get_engine(self.target)
        return [
            f"s.{name}::{engine.cast(field.storage)}" if isinstance(field, MeasuredField) else f"s.{name}"
            for field, name in zip(self.fields, self.columns, strict=True)
        ]

    def _converted(self, field: Field[Any, Any]) -> str | None:
        """Return the type to which a column must be cast when it is read, None where both sides have the same."""
        mine, theirs = (self._type(field, connection) for connection in (self.source, self.target))
        if mine == theirs:
            return None
        if REALS in (mine, theirs) and {mine, theirs} <= VECTORS:
            return "real[]"
        if {mine, theirs} <= INTEGERS:
            return theirs
        raise NotSupportedError(
            f'{self.model._meta.label}.{field.name} is of type {mine} in database "{self.source.alias}" and of type '
            f'{theirs} in database "{self.target.alias}". Migrate both to the same state.'
        )

    def _type(self, field: Field[Any, Any], connection: BaseDatabaseWrapper) -> str:
        column_type = self._types(connection).get(str(field.column))
        if column_type is None:
            raise NotSupportedError(
                f'{self.model._meta.label}.{field.name} has no column in database "{connection.alias}". '
                f"Run: manage.py migrate --database {connection.alias}"
            )
        return column_type[0]

    def _types(self, connection: BaseDatabaseWrapper) -> dict[str, tuple[str, str]]:
        """Return name and full spelling of the type of each column."""
        if connection.alias not in self._known_types:
            rows = self._fetch(
                connection,
                "SELECT a.attname, t.typname, format_type(t.oid, -1) FROM pg_attribute a "
                "JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0",
                [self.table],
            )
            self._known_types[connection.alias] = {column: (name, spelling) for column, name, spelling in rows}
        return self._known_types[connection.alias]

    def _fetch(self, connection: BaseDatabaseWrapper, sql: str, params: Sequence[str]) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    @contextmanager
    def _named_rows(self, after: Key | None) -> Iterator[None]:
        """Raise the server's error again with the table and the page."""
        try:
            yield
        except Error as error:
            place = f" after pk {'/'.join(after)}" if after else ""
            said = " ".join(line.strip() for line in str(error).splitlines()[:2]).rstrip(".")
            raise type(error)(f"{self.model._meta.label}, rows{place}: {said}.") from error.__cause__
