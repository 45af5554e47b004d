"""What an instance knows of the digest that its save() has written."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import Model
from django.db.models.signals import class_prepared, post_save

from pgembedding_django.fields.digest import WRITTEN, DigestField
from pgembedding_django.fields.source import BY_HAND

__all__ = ["watch_digests"]


def watch_digests(model: type[Model]) -> None:
    """
    Let instances of a model, its proxies and its heirs know the digest that their row has after save().

    Connected before what copies a row in post_save, such as a history: receivers run in the order of their connection.
    """
    class_prepared.connect(_watch_heirs, dispatch_uid="pgembedding_django.digest")
    post_save.connect(_mark_written, sender=model, dispatch_uid="pgembedding_django.digest")


def _watch_heirs(sender: type[Model], **kwargs: Any) -> None:
    if any(isinstance(field, DigestField) and not field.is_copy for field in sender._meta.concrete_fields):
        post_save.connect(_mark_written, sender=sender, dispatch_uid="pgembedding_django.digest")


def _mark_written(
    sender: type[Model], *, instance: Model, update_fields: Collection[str] | None, **kwargs: Any
) -> None:
    """Mark the digests of assigned vectors as written: the database has them, the instances not yet."""
    for field in sender._meta.concrete_fields:
        if not isinstance(field, DigestField) or instance.__dict__.get(field.attname) != BY_HAND:
            continue
        if update_fields is None or not {field.name, field.vector_name}.isdisjoint(update_fields):
            instance.__dict__[field.attname] = WRITTEN
