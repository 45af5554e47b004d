"""django-filter: a filter that ranks by nearest(), and `fields = "__all__"` beside an EmbeddingField."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.forms import Field, Textarea
from django_filters import CharFilter, Filter, FilterSet

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.forms import EmbeddingFormField

__all__ = ["NearestFilter", "VectorFilter", "register"]


class VectorFilter(Filter):
    """Keep the rows whose vector is the one given, as a list of numbers."""

    field_class = EmbeddingFormField

    @property
    def field(self) -> Field:
        # A vector is read from the request, so it needs a widget that takes one.
        self.extra.setdefault("widget", Textarea)
        field: Field = super().field
        return field


class NearestFilter(CharFilter):
    """
    Rank the rows that the filters before it keep by their nearness to a text.

    k: how many rows. options: what else nearest() takes, such as max_distance.
    Declare it last in its FilterSet: a ranking is a slice, which nothing filters any more.
    """

    def __init__(self, *args: Any, k: int = 10, options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 1000)
        super().__init__(*args, **kwargs)
        self.k, self.options = k, options or {}

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return queryset
        (name,) = (name for name, each in self.parent.filters.items() if each is self)
        names = list(self.parent.filters)
        behind = names[names.index(name) + 1 :]
        if behind:
            raise ImproperlyConfigured(
                f"{type(self.parent).__name__}.{name} must be its last filter, got {', '.join(behind)} behind "
                "it. Declare it last."
            )
        rows: Any = queryset
        ranked: QuerySet[Any] = rows.nearest(value, self.k, field=self.field_name or None, **self.options)
        return ranked


def register() -> None:
    """Let every FilterSet take an EmbeddingField for a VectorField."""
    FilterSet.FILTER_DEFAULTS[EmbeddingField] = {
        "filter_class": VectorFilter,
        "extra": lambda field: {"dimensions": field.dimensions},
    }
