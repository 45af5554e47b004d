"""Maximal marginal relevance: the near, without near duplicates of what was chosen already."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from django.db.models import Model
from numpy.typing import NDArray

from pgembedding_django.vectors import Vector, to_vector

__all__ = ["diversify"]

M = TypeVar("M", bound=Model)


def diversify(
    rows: Iterable[M], query: Any, k: int = 10, *, field: str = "embedding", diversity: float = 0.5
) -> list[M]:
    """
    Choose k of some rows, each near to the query and unlike those chosen before it.

    rows: more than k candidates, such as `nearest(query, 5 * k)`.
    query: the vector that they were found by. field: the attribute that holds the vector of each row.
    diversity: 0 ranks by nearness alone, 1 by unlikeness alone.
    Returns a list in the order of choice. Raises ValueError if k is no positive integer, diversity is not from 0 to 1,
    or query or the vector of a row is none.
    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries", 1998; similarity is the cosine.
    """
    if isinstance(diversity, bool) or not isinstance(diversity, int | float) or not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be a number from 0 to 1, got {diversity!r}.")
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k must be a positive integer, got {k!r}.")
    candidates = list(rows)
    if not candidates:
        return []
    dimensions = _vector_of(candidates[0], field).size
    vectors = _directions(np.stack([_vector_of(row, field, dimensions) for row in candidates]))
    relevance = vectors @ _directions(to_vector(query, name="query", dimensions=dimensions))
    likeness = np.full(len(candidates), -1.0)
    chosen: list[int] = []
    while len(chosen) < min(k, len(candidates)):
        score = (1 - diversity) * relevance - (diversity * likeness if chosen else 0)
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return [candidates[i] for i in chosen]


def _vector_of(row: Model, field: str, dimensions: int | None = None) -> Vector:
    label = f"{type(row).__name__}.{field} of the row with pk {row.pk!r}"
    return to_vector(getattr(row, field), name=label, dimensions=dimensions)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / np.where(norms > 0, norms, 1.0)
