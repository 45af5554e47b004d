"""Keeps passages in step with save() of the row that they belong to, where their field has sync="task" or "save"."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_save

from pgembedding_django.compat.background import enqueue
from pgembedding_django.embedders import TextRejected
from pgembedding_django.embedding.tasks import write_pk
from pgembedding_django.passages.models import Passage
from pgembedding_django.passages.parents import Parents, parents_of
from pgembedding_django.passages.run import SplitRun

__all__ = ["watch"]


def watch(model: type[Model]) -> None:
    """Connect the signals of what the passages of a model belong to, if they are to be kept in step."""
    if not issubclass(model, Passage):
        return
    try:
        parents = parents_of(model)
    except (ImproperlyConfigured, TypeError, ValueError):
        return  # A check says so.
    if parents.field.sync == "manual":
        return

    def saved(*, instance: Model, raw: bool, using: str, update_fields: Collection[str] | None, **kwargs: Any) -> None:
        if not raw and (update_fields is None or not set(parents.columns).isdisjoint(update_fields)):
            _bring_in_step(parents, instance, using)

    for sender in apps.get_models():
        if issubclass(sender, parents.model):
            post_save.connect(saved, sender=sender, weak=False, dispatch_uid=f"pgembedding_django.{model._meta.label}")


def _bring_in_step(parents: Parents, instance: Model, using: str) -> None:
    rows = parents.rows(using).filter(pk=instance.pk)
    if not parents.stale(rows).exists():
        return
    if parents.field.sync == "save":
        for _, reason in SplitRun(parents, rows).run().failures:
            raise TextRejected(f"A passage of {instance._meta.object_name} could not be embedded: {reason}")
        return
    from pgembedding_django.passages.tasks import split_rows

    label, keys = parents.passages._meta.label, [write_pk(parents.model, instance.pk)]
    # A queue that is down must not fail what is committed: the row is stale, and embed() finds it.
    transaction.on_commit(lambda: enqueue(split_rows, label, keys, using), using=using, robust=True)
