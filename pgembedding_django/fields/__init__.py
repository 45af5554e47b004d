"""The model fields, the attributes that hold their values, and the text that a value stands for."""

from __future__ import annotations

from pgembedding_django.fields.bit import BitField
from pgembedding_django.fields.embedding import EmbeddingField
from pgembedding_django.fields.half import HalfVectorField
from pgembedding_django.fields.lookup import embedding_fields, measured_fields
from pgembedding_django.fields.measured import MeasuredField
from pgembedding_django.fields.sparse import SparseVectorField

__all__ = [
    "BitField",
    "EmbeddingField",
    "HalfVectorField",
    "MeasuredField",
    "SparseVectorField",
    "embedding_fields",
    "measured_fields",
]
