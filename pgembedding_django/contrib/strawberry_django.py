"""strawberry-django: `auto` is a list of numbers for an EmbeddingField."""

from __future__ import annotations

from strawberry_django.fields.types import field_type_map

from pgembedding_django.fields import EmbeddingField

__all__ = ["register"]


def register() -> None:
    field_type_map[EmbeddingField] = list[float]
