"""The indexes of vectors, and which of them serves a search."""

from __future__ import annotations

from django.db.models import Model

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes.base import VectorIndex
from pgembedding_django.indexes.declaration import is_option_value
from pgembedding_django.indexes.hnsw import HnswIndex
from pgembedding_django.indexes.ivfflat import IvfflatIndex

__all__ = [
    "HnswIndex",
    "IvfflatIndex",
    "VectorIndex",
    "declared_hnsw_index",
    "declared_index",
    "is_option_value",
    "vector_indexes",
]


def vector_indexes(model: type[Model]) -> list[VectorIndex]:
    """Return the indexes of vectors that a model declares, a proxy those of the model behind it."""
    concrete = model._meta.concrete_model or model
    return [index for index in concrete._meta.indexes if isinstance(index, VectorIndex)]


def declared_index(field: EmbeddingField, distance: str | None = None) -> VectorIndex | None:
    """
    Return the index that a field's model declares for it and, where given, for a distance.

    Where there are several, one of all rows comes first, then an HnswIndex, then one for the field's distance, then the
    order of Meta.indexes decides.
    """
    indexes = _all_of(field, distance)
    return min(indexes, key=lambda index: (index.is_partial, not isinstance(index, HnswIndex)), default=None)


def declared_hnsw_index(field: EmbeddingField, distance: str | None = None) -> HnswIndex | None:
    """Return what `declared_index` does of the field's HnswIndexes."""
    indexes = [index for index in _all_of(field, distance) if isinstance(index, HnswIndex)]
    return min(indexes, key=lambda index: index.is_partial, default=None)


def _all_of(field: EmbeddingField, distance: str | None) -> list[VectorIndex]:
    """Return a field's indexes, those for its own distance first."""
    indexes = [
        index
        for index in field.get_indexes()
        if isinstance(index, VectorIndex) and index.fields == [field.name] and distance in (None, index.distance)
    ]
    return sorted(indexes, key=lambda index: index.distance != field.distance)
