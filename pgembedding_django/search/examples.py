"""Several examples in the place of one query: more like these, less like those."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.models.functions import Least
from django.db.models.sql.compiler import SQLCompiler
from numpy.typing import NDArray

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance, VectorValue
from pgembedding_django.search.questions import Question, check_direction, is_instance, is_row_of, query_vector
from pgembedding_django.search.search import Search
from pgembedding_django.vectors import Vector

__all__ = ["Examples", "Match", "Questions", "best_distance", "ranking_distance", "read_examples"]

#: One thing, or several.
Questions: TypeAlias = Question | Sequence[Question]

Match: TypeAlias = Literal["mean", "best"]


@dataclass(frozen=True)
class Examples:
    """The vectors of what rows shall be like and unlike, and the primary keys of those that are rows themselves."""

    like: tuple[Vector, ...]
    unlike: tuple[Vector, ...]
    own_keys: tuple[Any, ...]

    def check_directions(self, field: EmbeddingField, distance: type[Distance]) -> None:
        for vector in (*self.like, *self.unlike):
            check_direction(field, distance, vector)

    def middle(self, field: EmbeddingField, distance: type[Distance]) -> Vector:
        """
        Return the one vector that stands for all: the mean of the likes, moved away from the mean of the unlikes.

        By cosine it is the mean of directions. Source: Qdrant's documentation of recommendations, "Average vector".
        """
        if len(self.like) == 1 and not self.unlike:
            return self.like[0]
        if not isinstance(field, EmbeddingField):
            raise ValueError(f'{field.label} is a {type(field).__name__}, which has no mean. Say match="best".')
        near = _mean(self.like, distance)
        middle: Vector = field.to_query(2 * near - _mean(self.unlike, distance) if self.unlike else near)
        if distance.distance == "cosine" and np.linalg.norm(middle) < 1e-6:
            raise ValueError(f'The examples for {field.label} point in opposite directions. Say match="best".')
        return middle


def read_examples(model: type[Model], using: str, field: EmbeddingField, query: Any, away_from: Any) -> Examples:
    """
    Return the vectors of a query, of one thing or several, each as nearest() takes one; texts are embedded here.

    model: of which an example may be an instance. using: the database that is searched.
    """
    like, unlike = _listed(query), [] if away_from is None else _listed(away_from)
    vectors = [query_vector(model, field, each) for each in (*like, *unlike)]
    any_length = isinstance(field, EmbeddingField) and field.dimensions is None
    if any_length and len({vector.size for vector in vectors}) > 1:
        raise ValueError(f"{field.label} is compared with vectors of one length, got {[v.size for v in vectors]}.")
    own = [each.pk for each in (*like, *unlike) if is_instance(each, model) and is_row_of(using, each)]
    return Examples(tuple(vectors[: len(like)]), tuple(vectors[len(like) :]), tuple(own))


def _listed(query: Any) -> list[Any]:
    """Return the things of a list; a list of numbers is one thing, a vector."""
    is_vector = not isinstance(query, list | tuple) or not query
    return [query] if is_vector or isinstance(query[0], numbers.Number | np.generic | None) else list(query)


def _mean(vectors: Sequence[Vector], distance: type[Distance]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    if distance.distance == "cosine":
        wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    mean: NDArray[np.float64] = wide.mean(axis=0)
    return mean


class BestDistance(Least):
    """The distance to the nearest of several vectors."""

    def compare(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        return compiler.compile(self)


def best_distance(search: Search, vectors: Sequence[Vector]) -> Any:
    """Return the distance of rows to the nearest of some vectors."""
    # Bound to its field already: it is checked, and Django hashes it by its bytes instead of number by number.
    values = (VectorValue(vector, output_field=search.field) for vector in vectors)
    measured = [search.distance(search.operand, value) for value in values]
    return measured[0] if len(measured) == 1 else BestDistance(*measured)


def ranking_distance(search: Search) -> Any:
    """Return the distance by which a search ranks."""
    return best_distance(search, search.matches or (search.vector,))
