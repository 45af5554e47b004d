"""What every load through COPY shares: batches, transactions, columns, and errors that name the row."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from django.db import Error, NotSupportedError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model

from pgembedding_django.loading.columns import Column, make_column
from pgembedding_django.loading.copying import copy_rows
from pgembedding_django.loading.errors import place_of
from pgembedding_django.loading.indexes import add_missing_indexes, drop_indexes
from pgembedding_django.loading.primary import on_primary
from pgembedding_django.loading.progress import Progress
from pgembedding_django.loading.statistics import analyze, analyze_grown

__all__ = ["CHUNK", "Fields", "Loader"]

#: Rows that are encoded at once. 256 and 1,024 take as long, and 512 vectors of 1,536 dimensions 3 MB.
CHUNK = 512

logger = logging.getLogger("pgembedding_django")

Fields = tuple["Field[Any, Any]", ...]
Batch = TypeVar("Batch", bound="Sequence[Any]")


class Loader(Generic[Batch]):
    """
    One load of rows into the table of a model.

    method: what messages call it. raw: write values as they are held, and of a model with a parent's table only
    its own columns.
    """

    method: str

    model: type[Model]
    using: str
    raw: bool

    def __init__(self, model: type[Model], using: str, *, raw: bool = False) -> None:
        # Any: django-stubs does not know composite primary keys.
        self._meta: Any = cast("type[Model]", model._meta.concrete_model)._meta
        if self._meta.parents and not raw:
            raise NotSupportedError(f"{self.method}() cannot load {model.__name__}, which inherits from another table.")
        self.model, self.using, self.raw = model, using, raw
        self.connection: BaseDatabaseWrapper = connections[using]
        self.fields: Fields = tuple(field for field in self._meta.local_concrete_fields if not field.generated)
        self._made_columns: dict[Field[Any, Any], Column] = {}

    def batches(self, batch_size: int | None) -> Iterator[Batch]:
        """Yield what is loaded in one transaction each."""
        raise NotImplementedError

    def load_batch(self, batch: Batch, first: int) -> None:
        """Write a batch whose first row has this place in the load."""
        raise NotImplementedError

    def run(self, batch_size: int | None, progress: Progress | None) -> int:
        """Load all batches, and return how many rows there were."""
        with self._on_primary():
            loaded = self._run_batches(batch_size, progress)
            analyze_grown(self.table, loaded, self.connection)
        return loaded

    def run_without_indexes(self, batch_size: int | None, progress: Progress | None) -> int:
        """Load between dropping the HNSW indexes and building them again, all in one transaction."""
        with self._on_primary(), transaction.atomic(using=self.using):
            logger.info("Dropped %s for the load.", ", ".join(drop_indexes(self.model, self.using)))
            loaded = self._run_batches(batch_size, progress)
            names = ", ".join(add_missing_indexes(self.model, self.using))
            analyze(self.table, self.connection)
            logger.info("Built %s again over %s rows loaded.", names, loaded)
        return loaded

    def _on_primary(self) -> AbstractContextManager[None]:
        return on_primary(f"{self.method}() of {self.model.__name__}", self.using)

    def _run_batches(self, batch_size: int | None, progress: Progress | None) -> int:
        loaded = 0
        for batch in self.batches(batch_size):
            with transaction.atomic(using=self.using):
                self.load_batch(batch, loaded)
            loaded += len(batch)
            if progress is not None:
                progress(loaded)
        return loaded

    def copy(
        self, table: str, fields: Fields, data: Iterator[bytes], first: int, get_pk: Callable[[int], object]
    ) -> None:
        """
        Send encoded rows.

        first: the place of the first one in the load. get_pk: returns the primary key of one, by its place here.
        Raises the server's error with the row in place of its line of this COPY.
        """
        try:
            copy_rows(table, [self.column_name(field) for field in fields], data, self.connection)
        except Error as error:
            raise _with_row(error, first, get_pk) from error.__cause__

    def get_column(self, field: Field[Any, Any]) -> Column:
        if field not in self._made_columns:
            column_type = self._types.get(str(field.column))
            self._made_columns[field] = make_column(field, self.connection, column_type, raw=self.raw)
        return self._made_columns[field]

    def column_name(self, field: Field[Any, Any]) -> str:
        return self.connection.ops.quote_name(cast(str, field.column))

    @property
    def table(self) -> str:
        return self.connection.ops.quote_name(self.model._meta.db_table)

    @cached_property
    def _types(self) -> dict[str, str]:
        """The types of the table's columns, since a binary COPY converts nothing."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
                "WHERE attrelid = to_regclass(%s) AND attnum > 0",
                [self.table],
            )
            return dict(cursor.fetchall())


def _with_row(error: Error, first: int, get_pk: Callable[[int], object]) -> Error:
    """Return a server's error with the row of the load in place of its line of this COPY; any other as it is."""
    diagnosis: Any = getattr(error.__cause__, "diag", None)
    line = re.search(r"^COPY .*, line (\d+)", getattr(diagnosis, "context", None) or "", re.MULTILINE)
    if line is None:
        return error
    place = int(line[1]) - 1
    detail = f" {diagnosis.message_detail}" if diagnosis.message_detail else ""
    return type(error)(f"{place_of(first + place, get_pk(place))}: {diagnosis.message_primary}.{detail}")
