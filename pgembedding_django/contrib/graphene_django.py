"""graphene-django: a DjangoObjectType has a list of numbers for an EmbeddingField, text for bits and sparse vectors."""

from __future__ import annotations

from typing import Any

import graphene
from graphene_django.converter import convert_django_field

from pgembedding_django.fields import BitField, EmbeddingField, MeasuredField, SparseVectorField

__all__ = ["register"]


def register() -> None:
    convert_django_field.register(EmbeddingField, to_list)
    for field in (BitField, SparseVectorField):
        convert_django_field.register(field, to_text)


def to_list(field: EmbeddingField, registry: Any = None) -> graphene.List:
    return graphene.List(graphene.NonNull(graphene.Float), description=field.help_text, required=not field.null)


def to_text(field: MeasuredField, registry: Any = None) -> graphene.String:
    return graphene.String(description=field.help_text, required=not field.null)
