"""Keeps vectors in step with their texts: what save() sets off for a field with sync="task" or "save"."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_save, pre_save

from pgembedding_django.compat.background import enqueue
from pgembedding_django.embedders import get_embedder
from pgembedding_django.embedding.single import embed_one
from pgembedding_django.embedding.tasks import embed_row, write_pk
from pgembedding_django.fields import EmbeddingField, embedding_fields

__all__ = ["watch"]


def watch(model: type[Model]) -> None:
    """Connect the signals of a model that has a field with sync="task" or "save"; other models get none."""
    if _fields(model):
        pre_save.connect(_before_save, sender=model, dispatch_uid="pgembedding_django")
        post_save.connect(_after_save, sender=model, dispatch_uid="pgembedding_django")


def _fields(model: type[Model]) -> list[EmbeddingField]:
    return [field for field in embedding_fields(model) if field.source is not None and field.sync != "manual"]


def _before_save(
    sender: type[Model], *, instance: Model, raw: bool, update_fields: Collection[str] | None, **kwargs: Any
) -> None:
    """Embed the text of an instance whose vector is about to be written."""
    for field in _fields(sender):
        saved = update_fields is None or {field.name, field.digest_name} <= set(update_fields)
        if field.sync == "save" and saved and not raw and field.text_source.is_stale(instance):
            _embed(field, instance)


def _embed(field: EmbeddingField, instance: Model) -> None:
    source = field.text_source
    text = source.text(instance)
    if text:
        (vector,) = get_embedder(field.embedder).embed([text])
        setattr(instance, field.name, vector)
        setattr(instance, field.digest_name, source.digest(text))
    elif field.null:
        setattr(instance, field.name, None)


def _after_save(
    sender: type[Model],
    *,
    instance: Model,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None,
    **kwargs: Any,
) -> None:
    """Have the row embedded if it is stale now; the instance then holds what the row does."""
    for field in _fields(sender):
        if raw or not _may_be_stale(field, update_fields) or not field.text_source.is_stale(instance):
            continue
        if field.sync == "save":
            _embed_saved(field, instance, using)
        else:
            _enqueue(field, instance, using)


def _embed_saved(field: EmbeddingField, instance: Model, using: str) -> None:
    # A run that has claimed the row has read the text before it was saved.
    written = embed_one(field, instance.pk, using, claimed_too=True)
    if written is None:
        instance.refresh_from_db(using=using, fields=[field.name, field.digest_name])
        return
    setattr(instance, field.name, written.vector)
    # Assigning a vector forgets the digest.
    setattr(instance, field.digest_name, written.digest)


def _enqueue(field: EmbeddingField, instance: Model, using: str) -> None:
    meta = instance._meta
    pk = write_pk(type(instance), instance.pk)

    def job() -> None:
        enqueue(embed_row, meta.label, field.name, pk, using)

    # A queue that is down must not fail what is committed: the row is stale, and embed() finds it.
    transaction.on_commit(job, using=using, robust=True)


def _may_be_stale(field: EmbeddingField, update_fields: Collection[str] | None) -> bool:
    """Tell whether a save of some fields only wrote what the vector depends on; a method may read anything."""
    columns = {column.name for column in field.text_source.columns}
    return update_fields is None or not columns or not columns.isdisjoint(update_fields)
