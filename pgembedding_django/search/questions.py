"""What rows are compared with: a vector, a text or an instance."""

from __future__ import annotations

from copy import copy
from typing import Any, TypeAlias, TypeGuard, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Model, OuterRef

from pgembedding_django import vectors
from pgembedding_django.embedders import RefusedByServer, TextRejected, get_embedder
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance
from pgembedding_django.vectors import InvalidVector, Vector, VectorLike

__all__ = [
    "Question",
    "check_direction",
    "is_instance",
    "is_row_of",
    "query_vector",
]

#: What nearest() compares the rows with.
Question: TypeAlias = VectorLike | Model


def query_vector(model: type[Model], field: EmbeddingField, query: Any) -> Vector:
    """Return the vector of a query: a vector, a text to embed, or an instance of the model."""
    if isinstance(query, Model):
        query = _vector_of(model, field, query)
    elif isinstance(query, str) and isinstance(field, EmbeddingField):
        query = _embed(field, query)
    remedy = f"Pass a vector, a text or an instance of {model.__name__}."
    if query is None:
        raise ValueError(f"{field.label} cannot be compared with None. {remedy}")
    if isinstance(query, OuterRef):
        raise ValueError(
            f"nearest() ranks {field.label} by one vector, got OuterRef. For each row of another query, use "
            f'annotate(d=L2Distance("{field.name}", OuterRef(...))).order_by("d")[:k] in its subquery.'
        )
    try:
        # A copy, because the query runs later than this.
        return copy(field.to_query(query))
    except InvalidVector as error:
        if error.code != "type":
            raise
        raise ValueError(f"{error} {remedy}") from error


def is_instance(value: object, model: type[Model]) -> TypeGuard[Model]:
    """Tell whether a value is a row of a model; a proxy has the rows of its concrete model."""
    return isinstance(value, cast("type[Model]", model._meta.concrete_model))


def _vector_of(model: type[Model], field: EmbeddingField, instance: Model) -> Any:
    if not is_instance(instance, model):
        raise ValueError(f"query must be an instance of {model.__name__}, got {type(instance).__name__}.")
    vector = getattr(instance, field.attname)
    if vector is None:
        raise ValueError(f"{field.label} of the instance with pk {instance.pk!r} is None, so nothing is near it.")
    return vector


def _embed(field: EmbeddingField, text: str) -> Vector:
    try:
        return get_embedder(field.embedder).embed_query(text)
    except ImproperlyConfigured as error:
        raise ValueError(f"{field.label} cannot be searched by text: {error} Pass a vector, or set it.") from error
    except RefusedByServer:
        # Of whom nobody knows whether it means the text.
        raise
    except TextRejected as error:
        raise ValueError(f"{field.label} cannot be searched by this text: {error}") from error


def is_row_of(alias: str, instance: Model) -> bool:
    """Tell whether a database holds an instance: it came from there, or from one that a router relates to it."""
    if instance._state.db in (None, alias):
        return True
    # As between a primary and its replica, of which only the routers know.
    twin = copy(instance)
    twin._state.db = alias
    return router.allow_relation(instance, twin)


def check_direction(field: EmbeddingField, distance: type[Distance], vector: Vector) -> None:
    if distance.distance == "cosine" and vectors.is_zero(vector):
        raise ValueError(f"{field.label} has no cosine distance to a vector of zeros, which has no direction.")
