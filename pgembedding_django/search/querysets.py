"""What Django's methods do behind nearest() and hybrid(), which return slices."""

from __future__ import annotations

from typing import Any, Self, TypeVar, cast

from django.db import connections
from django.db.models import Model

from pgembedding_django.compat.queries import RowsAs, related_manager_filters
from pgembedding_django.compat.rows import is_fetched
from pgembedding_django.loading.querysets import LoadingQuerySet
from pgembedding_django.search.arguments import checked_cut
from pgembedding_django.search.facets import count_facets
from pgembedding_django.search.hybrid import get_fusion
from pgembedding_django.search.rankable import check_unranked
from pgembedding_django.search.ranking import cut, plan
from pgembedding_django.search.relations import sees_all
from pgembedding_django.search.running import is_ranking, run_rankings
from pgembedding_django.search.search import Ranking, get_ranking

__all__ = ["RankedQuerySet"]

M = TypeVar("M", bound=Model)

#: What to do instead of grouping a ranking.
AGGREGATE = "Aggregate the rows of filter(pk__in=rows.values('pk'))."


class RankedQuerySet(LoadingQuerySet[M]):
    """The part of EmbeddingQuerySet that runs a ranking, and keeps it one."""

    _iterable_class = RowsAs(run_rankings)

    def filter(self, *args: Any, **kwargs: Any) -> Self:
        """As Django's; of what nearest() found, keep the rows within a distance: `filter(distance__lt=0.5)`."""
        ranked_by = self._ranked_by() if args or kwargs else ""
        if ranked_by and related_manager_filters(self):
            raise TypeError(f'A Prefetch of what {ranked_by} returned needs a to_attr: Prefetch(..., to_attr="near").')
        if ranked_by == "nearest()":
            ranking = cast(Ranking, get_ranking(self.query))
            return cut(self, checked_cut(ranking.search.alias, args, kwargs))
        check_unranked(ranked_by, "filter()")
        return super().filter(*args, **kwargs)

    def exclude(self, *args: Any, **kwargs: Any) -> Self:
        """As Django's, before nearest() and hybrid()."""
        check_unranked(self._ranked_by() if args or kwargs else "", "exclude()")
        return super().exclude(*args, **kwargs)

    def annotate(self, *args: Any, **kwargs: Any) -> Self:
        """As Django's; behind nearest() and hybrid(), it aggregates for each row, and not for groups of rows."""
        rows = super().annotate(*args, **kwargs)
        if isinstance(rows.query.group_by, tuple):
            check_unranked(self._ranked_by(), "annotate() with an aggregate over values()", AGGREGATE)
        ranking = get_ranking(rows.query)
        if ranking is not None and ranking.search.path and sees_all(rows.query):
            raise TypeError(
                "annotate() with an aggregate or a window cannot stand behind nearest() across a relation, which joins "
                f"one row to each. {AGGREGATE}"
            )
        return rows

    def facets(self, *names: str) -> dict[str, dict[Any, int]]:
        """
        Return how many of the rows that nearest() or hybrid() found have each value of some fields.

        names: of fields, also of related rows ("section__name") and of transforms ("published__year").
        Returns for each name its values and counts, the most frequent first; a row that several related rows give
            several values counts for each.
        One query; of rows that were read already, those. Raises TypeError on rows that are not ranked.
        """
        if not self._ranked_by():
            raise TypeError(
                "facets() counts what nearest() or hybrid() found. Count other rows by annotate(Count(...))."
            )
        return count_facets(self, names)

    def contains(self, obj: Model) -> bool:
        """As Django's; reads what nearest() or hybrid() found."""
        if self._ranked_by():
            len(self)
        return super().contains(obj)

    def count(self) -> int:
        """As Django's; without ranking, since the order changes nothing in how many rows there are."""
        if is_fetched(self) or not is_ranking(self.query):
            return super().count()
        query = self.query.clone()
        query.clear_ordering(force=True)
        return query.get_count(using=self.db)

    def explain(self, *, format: str | None = None, **options: Any) -> str:
        """As Django's, of the statement by which nearest() runs first."""
        if not is_ranking(self.query):
            return super().explain(format=format, **options)
        return plan(self.query, connections[self.db]).explain(using=self.db, format=format, **options)

    def _ranked_by(self) -> str:
        """Return the method that made this a ranking that nothing filters any more, or nothing."""
        if is_ranking(self.query):
            return "nearest()"
        query = self.query
        return "hybrid()" if get_fusion(query) and query.is_sliced and not query.combinator else ""
