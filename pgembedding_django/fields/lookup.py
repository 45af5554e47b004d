"""The embedding fields of a model."""

from __future__ import annotations

from django.db.models import Model

from pgembedding_django.fields.embedding import EmbeddingField

__all__ = ["embedding_fields"]


def embedding_fields(model: type[Model], *, local: bool = False) -> list[EmbeddingField]:
    """Return the embedding fields of a model; local: without those that it inherits from another table."""
    fields = model._meta.local_fields if local else model._meta.concrete_fields
    return [field for field in fields if isinstance(field, EmbeddingField)]
