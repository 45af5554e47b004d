"""Methods of a queryset that load and read many rows at once: bulk_load(), bulk_load_arrays(), vectors()."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import Model, QuerySet
from numpy.typing import NDArray

from pgembedding_django.bounds import is_integer
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.arrays import ArrayLoad, match_columns
from pgembedding_django.loading.creating import create_rows
from pgembedding_django.loading.load import BulkLoad
from pgembedding_django.loading.progress import Progress
from pgembedding_django.loading.reading import check_lengths, read_pages

__all__ = ["LoadingQuerySet"]

M = TypeVar("M", bound=Model)


class LoadingQuerySet(QuerySet[M]):
    """The part of EmbeddingQuerySet that moves many rows at once."""

    def bulk_load(
        self,
        objs: Iterable[M],
        *,
        batch_size: int | None = 10_000,
        update_conflicts: bool = False,
        unique_fields: Sequence[str] | None = None,
        update_fields: Sequence[str] | None = None,
        progress: Progress | None = None,
        rebuild_indexes: bool = False,
        raw: bool = False,
    ) -> int:
        """
        Load instances through binary COPY, many times faster than bulk_create().

        objs: any iterable; a generator is read batch by batch.
        batch_size: rows of one transaction; None loads all in one.
        update_conflicts, unique_fields: update the rows that conflict in these fields. update_fields: what of them, a
            vector with its digest; unless given, all but the primary key and auto_now_add.
        progress: called with the number of rows loaded so far, after each batch.
        rebuild_indexes: drop the model's HNSW indexes first and build them at the end, which is faster for a load as
            large as the table; all in one transaction, in which the table can be neither read nor written by others.
            Logged to "pgembedding_django".
        raw: keep every value as the instances hold it, as Django's fixtures do, for a copy of rows from elsewhere:
            auto_now and auto_now_add set no time, files are not stored again, a digest stays as it was, and of a model
            with a parent's table only its own columns are loaded.
        Returns how many rows were loaded. Sends no signals and sets no primary key on the instances.
        Raises ValidationError naming the row and the field of a value that cannot be written, and the server's own
            errors, such as IntegrityError, naming the row, but for a foreign key, which is checked last and named by
            its value; rows count from 0 over the whole load. Nothing of its batch is stored, earlier batches are.
            ValueError if unique_fields or update_fields are none of the model. NotSupportedError for a
            model with a parent's table unless raw, or a field of a type that only bulk_create() writes.
        """
        _check_batch_size(batch_size)
        for name, fields in {"unique_fields": unique_fields, "update_fields": update_fields}.items():
            if isinstance(fields, str):
                raise ValueError(f"{name} must be a list of names, got {fields!r}.")
        if update_conflicts != bool(unique_fields):
            raise ValueError("update_conflicts=True and unique_fields go together: which conflicts make an update?")
        if update_fields is not None and not update_conflicts:
            raise ValueError("update_fields needs update_conflicts=True: what else would be updated?")
        self._for_write = True
        if not get_engine(connections[self.db]).copies:
            return create_rows(self, objs, batch_size, unique_fields, update_fields, progress, raw=raw)
        load = BulkLoad(self.model, self.db, objs, unique_fields, update_fields, self._prepare_load, raw=raw)
        run = load.run_without_indexes if rebuild_indexes else load.run
        return run(batch_size, progress)

    async def abulk_load(self, objs: Iterable[M], **options: Any) -> int:
        return await sync_to_async(self.bulk_load)(objs, **options)

    def bulk_load_arrays(
        self,
        matrix: NDArray[Any],
        *,
        field: str | None = None,
        batch_size: int | None = 10_000,
        progress: Progress | None = None,
        rebuild_indexes: bool = False,
        **columns: Sequence[Any] | NDArray[Any],
    ) -> int:
        """
        Load a matrix of vectors and columns beside it, without instances.

        matrix: shape (n, d), a vector in each row; any kind of number, memory-mapped too.
        field: the name of the EmbeddingField; needed only where the model has several.
        columns: the n values of each other field, by its name, lists or arrays: `title=titles, section_id=keys`. A
            field that is left out takes its default.
        batch_size, progress, rebuild_indexes: as for bulk_load().
        Returns how many rows were loaded. Sends no signals. The digest of a text in columns is written with its vector.
        Raises TypeError for a column that is no field, ValueError for another number of values than the matrix has rows
            or another shape, and for a row that cannot be written what bulk_load() raises.
        Where a field makes its value when an instance is saved, such as auto_now, instances are made all the same.
        """
        _check_batch_size(batch_size)
        rows = matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix)
        if rows.ndim != 2:
            raise ValueError(f"matrix must have the shape (rows, dimensions), got {rows.shape}.")
        self._for_write = True
        found = self.get_searched_field(field)
        load = ArrayLoad(self.model, self.db, found, rows, match_columns(self.model, len(rows), columns))
        # Without COPY, and where a queryset prepares instances, such as that of documents, these are made.
        if not load.can_copy or type(self)._prepare_load is not LoadingQuerySet._prepare_load:
            options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
            return self.bulk_load(load.instances(), rebuild_indexes=rebuild_indexes, **options)  # type: ignore[arg-type]
        run = load.run_without_indexes if rebuild_indexes else load.run
        return run(batch_size, progress)

    async def abulk_load_arrays(self, matrix: NDArray[Any], **options: Any) -> int:
        return await sync_to_async(self.bulk_load_arrays)(matrix, **options)

    def vectors(self, *, field: str | None = None) -> tuple[list[Any], NDArray[np.float32]]:
        """
        Return the primary keys of the rows, and their vectors as a matrix, read through COPY without instances.

        field: the name of the EmbeddingField; needed only where the model has several.
        Returns (keys, matrix): n primary keys in ascending order, or in the order of a sliced queryset, such as one
            that nearest() returned; float32 of shape (n, d). Rows without a vector are left out.
        Raises ValueError if the vectors have different lengths. All are held in memory; iter_vectors() reads pages.
        """
        pages = list(self.iter_vectors(field=field))
        keys = [key for page, _ in pages for key in page]
        if not pages:
            return keys, np.empty((0, self.get_searched_field(field).dimensions or 0), np.float32)
        check_lengths(self.get_searched_field(field), {matrix.shape[1] for _, matrix in pages})
        return keys, np.concatenate([matrix for _, matrix in pages])

    async def avectors(self, *, field: str | None = None) -> tuple[list[Any], NDArray[np.float32]]:
        return await sync_to_async(self.vectors)(field=field)

    def iter_vectors(
        self, chunk_size: int = 10_000, *, field: str | None = None
    ) -> Iterator[tuple[list[Any], NDArray[np.float32]]]:
        """
        Yield what vectors() returns, a page of at most chunk_size rows at a time.

        Each page is a statement of its own, which begins after the last primary key; rows that come or go meanwhile are
        in it or not. A sliced queryset is read by one statement.
        """
        if not is_integer(chunk_size, 1):
            raise ValueError(f"chunk_size must be a positive integer, got {chunk_size!r}.")
        return read_pages(self, self.get_searched_field(field), chunk_size)

    def get_searched_field(self, name: str | None) -> EmbeddingField:
        raise NotImplementedError

    def _prepare_load(self, objs: list[M]) -> None:
        """Run in the transaction of a batch of bulk_load(), before its rows are written."""


def _check_batch_size(batch_size: object) -> None:
    if batch_size is not None and not is_integer(batch_size, 1):
        raise ValueError(f"batch_size must be a positive integer or None, got {batch_size!r}.")
