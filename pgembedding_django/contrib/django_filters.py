"""django-filter: a filter that ranks by nearest(), and `fields = "__all__"` beside vectors and bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.forms import Field, Textarea
from django_filters import CharFilter, Filter, FilterSet

from pgembedding_django.fields import BitField, EmbeddingField, SparseVectorField
from pgembedding_django.forms import EmbeddingFormField, TextFormField

__all__ = ["NearestFilter", "TextFilter", "VectorFilter", "register"]


class VectorFilter(Filter):
    """Keep the rows whose vector is the one given, as a list of numbers."""

    field_class = EmbeddingFormField

    @property
    def field(self) -> Field:
        # A vector is read from the request, so it needs a widget that takes one.
        self.extra.setdefault("widget", Textarea)
        field: Field = super().field
        return field


class CheckedTextField(TextFormField):
    """Read a line of text as a field of the model does, which names what is wrong with it."""

    def __init__(self, *, convert: Callable[[Any], Any], **kwargs: Any) -> None:
        self.convert = convert
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        return self.convert(super().to_python(value))


class TextFilter(Filter):
    """Keep the rows whose bits or sparse vector are the ones given, as text."""

    field_class = CheckedTextField


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
    """Let every FilterSet take the fields of this package by what they are."""
    FilterSet.FILTER_DEFAULTS[EmbeddingField] = {
        "filter_class": VectorFilter,
        "extra": lambda field: {"dimensions": field.dimensions},
    }
    for field in (BitField, SparseVectorField):
        FilterSet.FILTER_DEFAULTS[field] = {
            "filter_class": TextFilter,
            "extra": lambda field: {"convert": field.to_python},
        }
