"""Hybrid search: by meaning and by words, joined by reciprocal rank fusion in one statement."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db.models import F, Func, IntegerField, Q, QuerySet, Value
from django.db.models.functions import Coalesce

__all__ = ["fuse_ranks", "rank_by_words"]

#: How strongly the first ranks count before the later ones (Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion
#: outperforms Condorcet and individual Rank Learning Methods", 2009: k = 60).
RANK_CONSTANT = 60


def rank_by_words(rows: QuerySet[Any], text: str, fields: list[str], config: str | None) -> Any:
    """Return the rows that have the words of a text in some fields, the best first, by Postgres's full-text search."""
    options: dict[str, Any] = {} if config is None else {"config": config}
    vector = SearchVector(*fields, **options)
    query = SearchQuery(text, search_type="websearch", **options)
    matching = rows.annotate(_words=vector, _rank=SearchRank(vector, query)).filter(_words=query)
    return matching.order_by("-_rank", "pk")


def fuse_ranks(rows: QuerySet[Any], rankings: list[Any], alias: str) -> Any:
    """Annotate the rows of some rankings with the sum of 1 / (60 + rank), the greatest first."""
    places = [Position(ArraySubquery(ranking.values("pk")), F("pk")) for ranking in rankings]
    score = sum((Coalesce(1.0 / (RANK_CONSTANT + place), Value(0.0)) for place in places), Value(0.0))
    found = Q()
    for ranking in rankings:
        found |= Q(pk__in=ranking.values("pk"))
    return rows.filter(found).annotate(**{alias: score}).order_by(F(alias).desc(), "pk")


class Position(Func):
    """The place of a value in an array, from 1; NULL where it is not in it."""

    function = "array_position"
    output_field = IntegerField()
