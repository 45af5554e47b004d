"""Makes the search of what nearest() is asked: every argument is checked here, before any SQL."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

from django.db import connections
from django.db.models import Model

from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.sized import SizedField
from pgembedding_django.functions import Distance, get_distance
from pgembedding_django.indexes import declared_index
from pgembedding_django.search import arguments
from pgembedding_django.search.examples import Match, Questions, read_examples
from pgembedding_django.search.rankable import check_groups, check_unsliced
from pgembedding_django.search.relations import NEAREST_KEY, field_at, is_every_child, is_path
from pgembedding_django.search.search import Search

__all__ = ["ask"]


def ask(
    rows: Any,
    query: Questions,
    k: int,
    *,
    away_from: Questions | None,
    match: Match,
    similarity: str | None,
    min_similarity: float | None,
    field: str | None,
    distance: str | type[Distance] | None,
    max_distance: float | None,
    exact: bool | None,
    ef_search: int | None,
    probes: int | None,
    alias: str,
) -> Search:
    """
    Return the search of some rows, an EmbeddingQuerySet, that the arguments of nearest() stand for.

    A text is embedded here. Raises as nearest() does.
    """
    check_unsliced(rows, "nearest()", "Rank them through filter(pk__in=rows.values('pk')).")
    check_groups(rows, "nearest()")
    path = str(field) if is_path(field) else ""
    searched = field_at(rows, path) if path else rows.get_measured_field(field)
    model = searched.model if path else rows.model
    k = arguments.checked_k(k)
    arguments.check_exact(exact)
    arguments.check_alias(rows.model, rows.query.annotations, alias)
    arguments.check_match(match)
    if path:
        arguments.check_alias(rows.model, rows.query.annotations, NEAREST_KEY)
    examples = read_examples(model, rows.db, searched, query, away_from)
    if searched.dimensions is None:
        arguments.check_length(searched)
        searched = SizedField(searched, examples.like[0].size)
    declared = declared_index(searched, searched.chosen_distance) if distance is None else None
    distance_class = get_distance(distance or searched.chosen_distance or (declared or searched).distance)
    limit = arguments.checked_limits(max_distance, min_similarity, distance_class)
    arguments.check_similarity(rows.model, rows.query.annotations, similarity, alias, distance_class)
    is_best = match == "best" and len(examples.like + examples.unlike) > 1
    examples.check_directions(searched, distance_class)
    vector = examples.like[0] if is_best else examples.middle(searched, distance_class)
    index = declared or declared_index(searched, distance_class.distance)
    arguments.check_reading(index, ef_search, probes)
    if index is None and exact is not True and get_engine(connections[rows.db]).indexes:
        _warn_of_other_index(searched, distance_class)
    return Search(
        field=searched,
        index=index,
        distance=distance_class,
        vector=vector,
        k=k,
        alias=alias,
        max_distance=limit,
        exact=exact,
        ef_search=arguments.checked_ef_search(ef_search),
        probes=probes,
        nearest_of_each=rows.query.distinct_fields,
        own_keys=examples.own_keys,
        filtered=rows._is_filtered() or bool(examples.own_keys) or not _has_every_row(rows.model, searched, path),
        matches=examples.like if is_best else (),
        avoids=examples.unlike if is_best else (),
        similarity=similarity,
        path=path,
    )


def _has_every_row(model: type[Model], field: EmbeddingField, path: str) -> bool:
    """Tell whether a query without conditions reads every row of the table that has the field's index."""
    return is_every_child(model, path) if path else field.model is model._meta.concrete_model


def _warn_of_other_index(field: EmbeddingField, distance: type[Distance]) -> None:
    """Warn at the line of the caller's code if an index is there, but for another distance."""
    other = declared_index(field)
    if other is not None:
        warnings.warn(
            f'{field.label} is indexed for distance "{other.distance}" by {other.name}, so nearest() by '
            f'"{distance.distance}" reads every row. Add an HnswIndex for it, or say exact=True.',
            RuntimeWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the stacklevel, for the function that asks, of the first frame outside Django and this package."""
    # Frame 0 is this function and 1 the one that warns, which is stacklevel 1.
    level = 1
    while _package_of(sys._getframe(level)) in ("django", __name__.partition(".")[0]):
        level += 1
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
