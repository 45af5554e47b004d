"""facets(): how many of the rows that were found have each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, cast

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP
from django.db.models.query import ModelIterable

from pgembedding_django.compat.queries import rows_as
from pgembedding_django.compat.rows import is_fetched
from pgembedding_django.search.search import get_ranking

__all__ = ["count_facets"]


def count_facets(rows: Any, names: Sequence[str]) -> dict[str, dict[Any, int]]:
    """Return for each name its values among some ranked rows with their counts, the most frequent first."""
    if not names:
        raise ValueError("facets() needs the name of a field.")
    values = list(_read(rows, names))
    for place, name in enumerate(names, 1):
        for value in (row[place] for row in values if not isinstance(row[place], Hashable)):
            raise TypeError(
                f"facets() counts equal values, and {name!r} has a {type(value).__name__}, which has no hash."
            )
    counts = {name: Counter(value for _, value in _column(values, place)) for place, name in enumerate(names, 1)}
    return {name: dict(sorted(count.items(), key=_frequent_first)) for name, count in counts.items()}


def _column(values: Iterable[tuple[Any, ...]], place: int) -> set[tuple[Any, Any]]:
    """Return key and value of each row; a row that has a value through two relations has it once."""
    return {(row[0], row[place]) for row in values}


def _frequent_first(item: tuple[Any, int]) -> tuple[int, str]:
    return -item[1], str(item[0])


def _read(rows: Any, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """Return the primary key and the values of each row that was found."""
    is_instances = rows_as(rows) is ModelIterable
    if is_instances and any(_is_many(rows.model, name) for name in names):
        # A join would multiply the rows that the ranking is cut at.
        len(rows)
    is_annotated = any(name.split(LOOKUP_SEP)[0] in rows.query.annotations for name in names)
    if is_instances and not is_annotated and is_fetched(rows):
        found = rows.model._base_manager.using(rows.db).filter(pk__in=[row.pk for row in rows])
        return found.values_list("pk", *names)  # type: ignore[no-any-return]
    ranking = get_ranking(rows.query)
    # nearest() cuts its answer by the distance, which it has to see.
    alias = [ranking.search.alias] if ranking else []
    return rows.values_list("pk", *names, *alias)  # type: ignore[no-any-return]


def _is_many(model: type[Model], name: str) -> bool:
    """Tell whether a path such as tags__name leads through a relation to several rows."""
    for part in name.split(LOOKUP_SEP):
        try:
            field = model._meta.get_field(part)
        except FieldDoesNotExist:
            return False  # An annotation, or a transform such as year.
        if field.many_to_many or field.one_to_many:
            return True
        if not field.is_relation:
            return False
        model = cast("type[Model]", field.related_model)
    return False
