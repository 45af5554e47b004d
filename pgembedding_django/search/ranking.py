"""Turns a queryset into a ranking by distance, cuts one short, and gives one the scan by which it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, FloatField, Q, QuerySet, Value
from django.db.models.functions import Greatest
from django.db.models.lookups import LessThanOrEqual
from django.db.models.sql import Query

from pgembedding_django.compat.expressions import add_condition, add_resolved, resolved
from pgembedding_django.compat.pages import paged
from pgembedding_django.compat.queries import key_names
from pgembedding_django.engines.scan import Scan
from pgembedding_django.fields.sized import HasLength, SizedField
from pgembedding_django.search.conditions import DistanceLimit, Inline, RankingDistance, Scanned
from pgembedding_django.search.direction import HasDirection
from pgembedding_django.search.examples import best_distance, ranking_distance
from pgembedding_django.search.plans import choose_scan
from pgembedding_django.search.relations import NEAREST_KEY, NearestOfEach, join_path, nearest_key
from pgembedding_django.search.search import Ranking, Search, get_ranking, set_ranking

__all__ = ["cut", "plan", "rank", "with_scan"]

Rows = TypeVar("Rows", bound=QuerySet[Any])


def rank(rows: Rows, search: Search) -> Rows:
    """Return the rows nearest to the vector of a search, nearest first, each with its distance."""
    comparable = join_path if search.path else _comparable
    nearest = _nearest_of_each(comparable(rows, search), search).all()
    # What filter(), annotate(), order_by() and [:k] do, on one copy of the query.
    query = nearest.query
    query.standard_ordering = True  # reverse() turned an order that is replaced here.
    distance = _add_conditions(query, search)
    add_resolved(query, RankingDistance(distance), search.alias)
    if search.path:
        query.add_annotation(nearest_key(search), NEAREST_KEY, select=True)
    _order(query, search, breaks_ties=search.exact is not False)
    if search.similarity:
        query.add_annotation(similarity_of(F(search.alias)), search.similarity, select=True)
    query.set_limits(high=search.k)
    set_ranking(query, Ranking(search))
    return nearest if search.max_distance is None else cut(nearest, search.max_distance)


def _add_conditions(query: Query, search: Search) -> Any:
    """Add the conditions of a ranking to a query, and return its distance as the query compiles it."""
    rows, column = query.clone(), resolved(F(search.column), query)
    distance = search.measure(resolved(search.operand, query))
    if search.path:
        add_condition(query, resolved(NearestOfEach(rows, search), query))
    else:
        add_condition(query, Scanned(rows, search, column))
        if search.distance.distance == "cosine":
            add_condition(query, HasDirection(search, column, distance))
    return resolved(ranking_distance(search), query) if search.matches else distance


def _comparable(rows: Rows, search: Search) -> Rows:
    """Leave out rows that are asked for, those nearer to what they shall be unlike, and vectors of another length."""
    if search.own_keys:
        rows = rows.exclude(pk__in=search.own_keys)
    if search.avoids:
        unlike = best_distance(search, search.avoids)
        rows = rows.filter(LessThanOrEqual(ranking_distance(search), unlike))
    return rows.filter(HasLength(search.field)) if isinstance(search.field, SizedField) else rows


def _order(query: Query, search: Search, *, breaks_ties: bool) -> None:
    """Order by the distance, and break ties by primary key where there is no index to lose and nothing is selected."""
    keys = key_names(cast(Any, query.model))
    names = [search.alias, *(keys if breaks_ties and (search.path or not query.distinct) else ())]
    is_composite = len(keys) > 1
    query.clear_ordering(force=True, clear_default=False)
    query.add_ordering(*((Inline(F(name)) if is_composite else F(name)).asc() for name in names))


def plan(query: Query, connection: BaseDatabaseWrapper) -> Query:
    """Return a ranking as it runs first."""
    search = cast(Ranking, get_ranking(query)).search
    return with_scan(query, choose_scan(query, search, connection, fresh=True))


def with_scan(query: Query, scan: Scan, *, cuts_undefined: bool = False) -> Query:
    """Return a ranking that runs by a scan."""
    ranking = cast(Ranking, get_ranking(query))
    planned = query.clone()
    set_ranking(planned, replace(ranking, scan=scan, cuts_undefined=cuts_undefined))
    if scan.reads_in_order != (ranking.search.exact is False):  # Otherwise, rank() has ordered it so.
        _order(planned, ranking.search, breaks_ties=not scan.reads_in_order)
    is_page = (query.low_mark, query.high_mark) != (0, ranking.search.k)
    # Elsewhere, ties are broken, so that a page is the same slice of the whole.
    return paged(planned, ranking.search.k) if is_page and scan.reads_in_order and not query.combinator else planned


def _nearest_of_each(rows: Rows, search: Search) -> Rows:
    """Return the rows behind distinct("author") that are each the nearest of their author; others as they are."""
    names = search.nearest_of_each
    if not names:
        return rows
    each = rows.order_by(*map(F, names), ranking_distance(search), "pk").values("pk")
    plain = rows.order_by()
    plain.query.distinct, plain.query.distinct_fields = False, ()
    return plain.filter(pk__in=each)


def similarity_of(distance: Any) -> Any:
    """Return the similarity of a cosine distance: the cosine itself, and 0 where that is negative."""
    return Greatest(Value(0.0), Value(1.0) - distance, output_field=FloatField())


def cut(ranked: Rows, limit: float) -> Rows:
    """Cut a ranking, or a page of it, where the distance passes a limit: what is left out is the end of it."""
    nearer = ranked.all()
    ranking = cast(Ranking, get_ranking(nearer.query))
    set_ranking(nearer.query, replace(ranking, search=ranking.search.within(limit)))
    nearer.query.add_q(Q(DistanceLimit(LessThanOrEqual(F(ranking.search.alias), limit))))
    return nearer
