"""The names of pgvector's Django module: a project moves over by a change of import."""

from __future__ import annotations

from typing import Any

from django import forms

from pgembedding_django.fields import BitField, EmbeddingField, SparseVectorField
from pgembedding_django.fields.embedding import Get, Set
from pgembedding_django.forms import EmbeddingFormField
from pgembedding_django.functions import (
    CosineDistance,
    HammingDistance,
    JaccardDistance,
    L1Distance,
    L2Distance,
    MaxInnerProduct,
)
from pgembedding_django.indexes import HnswIndex, IvfflatIndex
from pgembedding_django.operations import CreateEmbeddingExtension as VectorExtension
from pgembedding_django.vectors import SparseVector, Vector

__all__ = [
    "BitField",
    "CosineDistance",
    "HalfVectorField",
    "HammingDistance",
    "HnswIndex",
    "IvfflatIndex",
    "JaccardDistance",
    "L1Distance",
    "L2Distance",
    "MaxInnerProduct",
    "SparseVector",
    "SparseVectorField",
    "Vector",
    "VectorExtension",
    "VectorField",
]


class VectorFormField(EmbeddingFormField):
    """Show a vector as a line of text that can be edited, as pgvector's field does."""

    widget: Any = forms.TextInput

    def prepare_value(self, value: Any) -> Any:
        value = super().prepare_value(value)
        return value.replace(",", ", ") if isinstance(value, str) and ", " not in value else value


class VectorField(EmbeddingField[Set, Get]):
    """An EmbeddingField, as which a migration has it, that a form shows as text."""

    def __init__(self, *args: Any, dimensions: int | None = None, **kwargs: Any) -> None:
        super().__init__(dimensions, *args, **kwargs)  # type: ignore[misc]

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": VectorFormField, **kwargs})


class HalfVectorField(VectorField[Set, Get]):
    """The same in half precision."""

    def __init__(self, *args: Any, dimensions: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, dimensions=dimensions, **{**kwargs, "storage": "half"})
