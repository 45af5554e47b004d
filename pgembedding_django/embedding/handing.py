"""Hands stale rows to the workers of Django's tasks framework, in parts."""

from __future__ import annotations

from itertools import islice
from typing import Any

from django.db.models import QuerySet

from pgembedding_django.compat.background import enqueue
from pgembedding_django.embedders import get_embedder
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.embedding.rows import stale_pks
from pgembedding_django.fields import EmbeddingField

__all__ = ["enqueue_rows"]

#: Rows of one task, about: one that fails is tried again for few.
PART = 1000


def enqueue_rows(queryset: QuerySet[Any], field: EmbeddingField, *, limit: int | None = None) -> int:
    """
    Hand the stale rows of a queryset to Django's tasks, and return how many.

    Rows that a run has claimed are left to it. A task embeds those of its rows that are stale by then, in full batches,
    so that one that is tried again, or rows that are handed over twice, are paid for once.
    Raises TypeError for a field that is another for each row, NotEnqueued if the queue does not take a task.
    """
    # Making a task asks the backend of TASKS, whose models may come later than this module.
    from pgembedding_django.embedding.tasks import embed_rows, write_pk

    model, size = field.model, get_embedder(field.embedder).batch_size
    if model._meta.get_field(field.name) is not field:
        raise TypeError(f"{field.label} cannot be handed to tasks. Run embed() in a worker of your own.")
    part = size * max(1, PART // size)
    pks = islice(stale_pks(Claims(field, queryset.db).free(queryset), field), limit)
    count = 0
    while page := list(islice(pks, part)):
        enqueue(embed_rows, model._meta.label, field.name, [write_pk(model, pk) for pk in page], queryset.db)
        count += len(page)
    return count
