"""The model field, the attribute that holds its value, and the text that the value stands for."""

from __future__ import annotations

from pgembedding_django.fields.embedding import EmbeddingField
from pgembedding_django.fields.lookup import embedding_fields

__all__ = ["EmbeddingField", "embedding_fields"]
