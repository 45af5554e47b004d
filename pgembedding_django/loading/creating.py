"""bulk_load() where there is no COPY: Django's bulk_create(), batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from django.db import NotSupportedError, transaction
from django.db.models import QuerySet

from pgembedding_django.loading.progress import Progress

__all__ = ["create_rows"]


def create_rows(
    queryset: QuerySet[Any],
    objs: Iterable[Any],
    batch_size: int | None,
    unique_fields: Sequence[str] | None,
    update_fields: Sequence[str] | None,
    progress: Progress | None,
    *,
    raw: bool,
) -> int:
    """
    Create the rows of each batch in a transaction of its own, and return how many there were.

    Raises NotSupportedError for raw, which bulk_create() does not know.
    """
    if raw:
        raise NotSupportedError(
            "bulk_load(raw=True) needs PostgreSQL: without COPY, auto_now columns are written anew."
        )
    conflicts: dict[str, Any] = {}
    if unique_fields:
        written = update_fields or _updated(queryset, unique_fields)
        conflicts = {"update_conflicts": True, "unique_fields": unique_fields, "update_fields": written}
    rows, loaded = iter(objs), 0
    while batch := list(islice(rows, batch_size)):
        with transaction.atomic(using=queryset.db):
            queryset.bulk_create(batch, **conflicts)
        loaded += len(batch)
        if progress is not None:
            progress(loaded)
    return loaded


def _updated(queryset: QuerySet[Any], unique_fields: Sequence[str]) -> list[str]:
    """Return the fields that a conflict updates by default: not the primary key, unique_fields, or auto_now_add."""
    fields = queryset.model._meta.local_concrete_fields
    kept = [f for f in fields if not (f.primary_key or f.generated or getattr(f, "auto_now_add", False))]
    return [field.name for field in kept if field.name not in unique_fields]
