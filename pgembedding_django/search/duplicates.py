"""near_duplicates(): pairs of rows that are near each other, found by asking for the neighbours of each row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
from django.db.models import Model
from django.db.models.query import ModelIterable

from pgembedding_django.bounds import is_integer
from pgembedding_django.compat.queries import rows_as
from pgembedding_django.search.arguments import checked_limit
from pgembedding_django.search.rankable import check_each, check_groups, check_unsliced
from pgembedding_django.search.search import Ranking, get_ranking
from pgembedding_django.vectors import is_zero

__all__ = ["Pair", "find_pairs"]

M = TypeVar("M", bound=Model)

#: Neighbours that each row is asked for at first, and how many times more where all of them are near enough.
NEIGHBOURS, MORE = 10, 10


class Pair(NamedTuple, Generic[M]):
    """Two rows of which the first has the lesser primary key, and their distance."""

    one: M
    other: M
    distance: float


def find_pairs(
    rows: Any, max_distance: float, *, field: str | None, batch_size: int, **options: Any
) -> Iterator[Pair[Any]]:
    """Yield the pairs of rows, of an EmbeddingQuerySet, that near_duplicates() documents."""
    check_unsliced(rows, "near_duplicates()", "Filter by filter(pk__in=rows.values('pk')).")
    check_groups(rows, "near_duplicates()")
    check_each(rows, "near_duplicates()")
    limit = checked_limit(max_distance)
    name = rows.get_searched_field(field).name
    if rows_as(rows) is not ModelIterable:
        raise TypeError("near_duplicates() pairs instances of a model. Leave out values().")
    if not is_integer(batch_size, 1):
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
    return _pairs(rows, limit, name, batch_size, {"field": field, **options})


def _pairs(rows: Any, limit: float, name: str, size: int, options: dict[str, Any]) -> Iterator[Pair[Any]]:
    #: The rows that a row is paired with before it is asked for itself.
    paired = defaultdict[Any, set[Any]](set)
    for page in _pages(rows.filter(**{f"{name}__isnull": False}).order_by("pk"), size):
        asked = [row for row in page if _has_neighbours(rows, row, name, options)]
        for row, near in _neighbours(rows, asked, limit, options):
            there = paired.pop(row.pk, set())
            for other in near:
                if other.pk not in there:
                    paired[other.pk].add(row.pk)
                    first, second = sorted((row, other), key=lambda each: each.pk)
                    yield Pair(first, second, other.distance)


def _pages(rows: Any, size: int) -> Iterator[list[Any]]:
    """Yield all rows in pages by primary key, so that each statement reads one page."""
    page = list(rows[:size])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1].pk)[:size]) if len(page) == size else []


def _has_neighbours(rows: Any, row: Any, name: str, options: dict[str, Any]) -> bool:
    """Tell whether a row has a distance to others, which by cosine one of zeros has not."""
    vector = getattr(row, name)
    if not is_zero(vector):
        return True
    ranking = cast(Ranking, get_ranking(rows.nearest(np.ones(len(vector)), 1, **options).query))
    return ranking.search.distance.distance != "cosine"


def _neighbours(
    rows: Any, asked: Sequence[Any], limit: float, options: dict[str, Any]
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Yield each row with all others within a distance; asks for more where all that it got are near enough."""
    k = NEIGHBOURS
    while asked:
        answers = rows.nearest_each(asked, k, max_distance=limit, **options)
        yield from ((row, near) for row, near in zip(asked, answers, strict=True) if len(near) < k)
        asked = [row for row, near in zip(asked, answers, strict=True) if len(near) == k]
        k *= MORE
