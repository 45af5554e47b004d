"""One ranking over several models."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

from django.db.models import Model

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import get_distance
from pgembedding_django.indexes import declared_index
from pgembedding_django.search.questions import Question, is_instance, query_vector

__all__ = ["search_all"]


def search_all(
    querysets: Sequence[Any],
    query: Question,
    k: int = 10,
    *,
    distance: str | None = None,
    max_distance: float | None = None,
    exact: bool | None = None,
    alias: str = "distance",
) -> list[Model]:
    """
    Return the k nearest rows of several querysets together, nearest first, each an instance of its own model.

    querysets: of models that have one EmbeddingField each, with the same dimensions, embedder and distance.
    query: a vector, a text (embedded once), or an instance of one of the models (itself left out).
    distance, max_distance, exact, alias: as for nearest(), for all of them.
    Sends what nearest() sends for each queryset, and is as complete. Rows at the same distance come in the order of the
    querysets.
    Raises ValueError if two of the fields cannot be compared, and as nearest() does.
    """
    if not querysets:
        raise ValueError("search_all() needs at least one queryset.")
    fields = [cast(EmbeddingField, rows.get_embedding_field(None)) for rows in querysets]
    distances = [distance or _distance_of(field) for field in fields]
    for field, its_distance in zip(fields[1:], distances[1:], strict=True):
        _check_comparable(fields[0], distances[0], field, its_distance)
    vector = _vector_of(querysets, fields, query)
    ranked = [
        rows.nearest(
            query if is_instance(query, rows.model) else vector,
            k,
            distance=distances[0],
            max_distance=max_distance,
            exact=exact,
            alias=alias,
        )
        for rows in querysets
    ]
    return list(heapq.merge(*ranked, key=attrgetter(alias)))[:k]


def _vector_of(querysets: Sequence[Any], fields: Sequence[EmbeddingField], query: Question) -> Any:
    """Return the vector of a query, of an instance by the field of its own model."""
    for rows, field in zip(querysets, fields, strict=True):
        if is_instance(query, rows.model):
            return query_vector(rows.model, field, query)
    return query_vector(querysets[0].model, fields[0], query)


def _distance_of(field: EmbeddingField) -> str:
    """Return the distance that nearest() measures by unless told."""
    declared = declared_index(field, field.chosen_distance)
    return get_distance(field.chosen_distance or (declared or field).distance).distance


def _check_comparable(first: EmbeddingField, its_distance: str, other: EmbeddingField, other_distance: str) -> None:
    facts = {
        "dimensions": (first.dimensions, other.dimensions),
        "embedder": (first.embedder, other.embedder),
        "distance": (its_distance, other_distance),
    }
    for name, (one, two) in facts.items():
        if one != two:
            raise ValueError(
                f"{first.label} and {other.label} cannot be ranked together: {name} {one!r} and {two!r}. "
                "Search each by itself."
            )
