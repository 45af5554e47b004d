"""Maximal marginal relevance: the near, without near duplicates of what was chosen already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

import numpy as np
from django.db.models import Model
from numpy.typing import NDArray

from pgembedding_django.bounds import is_integer, is_number
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.search.fields import embedding_field, find_field
from pgembedding_django.search.questions import query_vector
from pgembedding_django.vectors import Vector, to_vector

__all__ = ["diversify"]

M = TypeVar("M", bound=Model)


def diversify(
    rows: Iterable[M], query: Any, k: int = 10, *, field: str | None = None, diversity: float = 0.5
) -> list[M]:
    """
    Choose k of some rows, each near to the query and unlike those chosen before it.

    rows: more than k candidates, such as `nearest(query, 5 * k)`; instances that have their vector.
    query: what they were found by, as nearest() takes it; a text is embedded once more.
    field: the name of the EmbeddingField; needed only where the model has several.
    diversity: 0 ranks by nearness alone, 1 by unlikeness alone.
    Returns a list in the order of choice. Raises as nearest() does for query and field, and ValueError if k is no
        positive integer, diversity is not from 0 to 1, or a row is no instance or has no vector.
    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries", 1998; similarity is the cosine.
    """
    if not is_number(diversity, 0, 1):
        raise ValueError(f"diversity must be a number from 0 to 1, got {diversity!r}.")
    if not is_integer(k, 1):
        raise ValueError(f"k must be a positive integer, got {k!r}.")
    candidates = list(rows)
    if not candidates:
        return []
    model = type(candidates[0])
    if not issubclass(model, Model):
        raise ValueError(f"diversify() chooses among instances of a model, got {model.__name__}. Leave out values().")
    found = _find_field(rows, model, query, field)
    vector = query_vector(model, found, query)
    vectors = _directions(np.stack([_vector_of(row, found, vector.size) for row in candidates]))
    relevance = vectors @ _directions(vector)
    likeness = np.full(len(candidates), -1.0)
    chosen: list[int] = []
    while len(chosen) < min(k, len(candidates)):
        score = (1 - diversity) * relevance - (diversity * likeness if chosen else 0)
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return [candidates[i] for i in chosen]


def _find_field(rows: Any, model: type[Model], query: Any, name: str | None) -> EmbeddingField:
    """Return the field as the rows' own queryset knows it, or as their model does."""
    if hasattr(rows, "get_embedding_field"):
        return cast(EmbeddingField, rows.get_embedding_field(name))
    # A field of any length may have an embedder for each collection of rows: here, only a vector is clear.
    return (embedding_field if isinstance(query, str) else find_field)(model, name)


def _vector_of(row: Model, field: EmbeddingField, dimensions: int) -> Vector:
    label = f"{type(row).__name__}.{field.name} of the row with pk {row.pk!r}"
    return to_vector(getattr(row, field.attname), name=label, dimensions=dimensions)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / np.where(norms > 0, norms, 1.0)
