"""strawberry-django: `auto` is a list of numbers for an EmbeddingField, and text for bits and sparse vectors."""

from __future__ import annotations

from strawberry_django.fields.types import field_type_map

from pgembedding_django.fields import BitField, EmbeddingField, SparseVectorField

__all__ = ["register"]


def register() -> None:
    field_type_map[EmbeddingField] = list[float]
    field_type_map[BitField] = field_type_map[SparseVectorField] = str
