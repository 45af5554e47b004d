"""The fields of a model that hold vectors."""

from __future__ import annotations

from django.db.models import Model

from pgembedding_django.fields.embedding import EmbeddingField
from pgembedding_django.fields.measured import MeasuredField

__all__ = ["embedding_fields", "measured_fields"]


def measured_fields(model: type[Model], *, local: bool = False) -> list[MeasuredField]:
    """Return the fields that nearest() ranks; local: without those that a model inherits from another table."""
    fields = model._meta.local_fields if local else model._meta.concrete_fields
    return [field for field in fields if isinstance(field, MeasuredField)]


def embedding_fields(model: type[Model], *, local: bool = False) -> list[EmbeddingField]:
    """Return those of them that are embedding fields."""
    return [field for field in measured_fields(model, local=local) if isinstance(field, EmbeddingField)]
