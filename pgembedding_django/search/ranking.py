"""Turns a queryset into a ranking by distance, and cuts one short."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from django.db.models import F, Q, QuerySet
from django.db.models.lookups import LessThanOrEqual

from pgembedding_django.compat.queries import mixed
from pgembedding_django.functions import Distance, VectorValue
from pgembedding_django.search.direction import HasDirection
from pgembedding_django.search.plans import Search
from pgembedding_django.search.scans import DistanceLimit, NearestQuery, Scanned

__all__ = ["cut", "nearest_of_each", "rank"]

Rows = TypeVar("Rows", bound=QuerySet[Any])


def rank(rows: Rows, search: Search) -> Rows:
    """Return the rows nearest to the vector of a search, nearest first, each with its distance."""
    measured = _measure(search)
    measured.ranks = True
    unordered = rows.all()
    unordered.query.standard_ordering = True  # reverse() turned an order that is replaced here.
    found = unordered.filter(Scanned(unordered.query, search))
    if search.distance.distance == "cosine":
        found = found.filter(HasDirection(search))
    # What annotate(), order_by() and [:k] do, on one copy of the query.
    ranked = cast(NearestQuery, found.query.chain(mixed(type(found.query), NearestQuery)))
    ranked.search = search
    ranked.add_annotation(measured, search.alias, select=True)
    ranked.clear_ordering(force=True, clear_default=False)
    ranked.add_ordering(F(search.alias).asc())
    ranked.set_limits(high=search.k)
    vars(found)["_query"] = ranked  # The setter of `query` would turn values_list() into values().
    return found


def nearest_of_each(rows: Rows, search: Search) -> Rows:
    """Return the rows behind distinct("author") that are each the nearest of their author; others as they are."""
    names = search.nearest_of_each
    if not names:
        return rows
    each = rows.order_by(*map(F, names), _measure(search), "pk").values("pk")
    plain = rows.order_by()
    plain.query.distinct, plain.query.distinct_fields = False, ()
    return plain.filter(pk__in=each)


def _measure(search: Search) -> Distance:
    # Bound to its field already: it is checked, and Django hashes it by its bytes instead of number by number.
    return search.distance(search.field.get_operand(), VectorValue(search.vector, output_field=search.field))


def cut(ranked: Rows, limit: float) -> Rows:
    """Cut a ranking, or a page of it, where the distance passes a limit: what is left out is the end of it."""
    nearer = ranked.all()
    query = cast(NearestQuery, nearer.query)
    query.search = query.search.within(limit)
    query.add_q(Q(DistanceLimit(LessThanOrEqual(F(query.search.alias), limit))))
    return nearer
