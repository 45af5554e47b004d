"""The box of a list of rows that searches by meaning."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ImproperlyConfigured
from django.db.models import F, QuerySet, Value
from django.http import HttpRequest

from pgembedding_django import conf
from pgembedding_django.admin.columns import DISTANCE, distance_column
from pgembedding_django.embedders import EmbeddingError, get_embedder
from pgembedding_django.fields import EmbeddingField, embedding_fields
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.search.search import Ranking, Search, get_ranking

__all__ = ["FIELD_VAR", "MEANING_VAR", "MeaningMixin", "failure_text", "rankable"]

#: The parameters of the address; a filter of Django's own begins with the name of a field.
MEANING_VAR = "_meaning"
FIELD_VAR = "_meaning_field"

if TYPE_CHECKING:
    _ChangeList = ChangeList
else:
    _ChangeList = object


class MeaningMixin(_ChangeList):
    """
    A ChangeList whose rows may be ranked by how near they are to a text.

    Of the rows that filters and words keep, it holds the nearest, as many as "Show all" shows, so that every page is
    cut from one ranking. Each page embeds the text again.
    """

    meaning_var: str = MEANING_VAR
    meaning_field_var: str = FIELD_VAR

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.request = request
        self.meaning: str = request.GET.get(MEANING_VAR, "").strip()
        super().__init__(request, *args, **kwargs)

    @cached_property
    def meaning_fields(self) -> list[EmbeddingField]:
        """The fields that a text can be compared with, those first whose embedder is known to fit."""
        configured = conf.embedders()
        fields = [field for field in embedding_fields(self.model) if field.dimensions and field.embedder in configured]
        made = {field: _made_dimensions(field) for field in fields}
        fitting = [field for field in fields if made[field] in (None, field.dimensions)]
        return sorted(fitting, key=lambda field: made[field] is None)

    @cached_property
    def meaning_field(self) -> EmbeddingField | None:
        """The field that is searched, the first unless the address names another."""
        fields = {field.name: field for field in self.meaning_fields}
        return fields.get(self.request.GET.get(FIELD_VAR, ""), next(iter(fields.values()), None))

    @cached_property
    def search(self) -> Search | None:
        """What is asked for; None where nothing is, or where the text cannot be embedded, which a message says."""
        if not self.meaning or self.meaning_field is None:
            return None
        count = max(self.list_max_show_all, self.list_per_page)
        try:
            rows: EmbeddingQuerySet[Any] = EmbeddingQuerySet(self.model)
            nearest = rows.nearest(self.meaning, count, field=self.meaning_field.name)
        except ValueError as error:
            messages.error(self.request, failure_text(self.meaning_field.label, error))
            return None
        return cast(Ranking, get_ranking(nearest.query)).search

    @property
    def without_meaning(self) -> str:
        """The address of the same list in its ordinary order."""
        return self.get_query_string({MEANING_VAR: None, FIELD_VAR: None, ORDER_VAR: None})

    @property
    def kept_params(self) -> dict[str, Any]:
        """What a search by meaning keeps of the address: words and filters, and not the order."""
        changed = (MEANING_VAR, FIELD_VAR, ORDER_VAR)
        return {name: value for name, value in self.params.items() if name not in changed}

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        kept = super().get_filters_params(params)
        return {name: value for name, value in kept.items() if name not in (MEANING_VAR, FIELD_VAR)}

    def get_ordering_field_columns(self) -> dict[Any, Any]:
        return {} if self.search and ORDER_VAR not in self.params else super().get_ordering_field_columns()

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        if self.search and distance_column not in self.list_display:
            # Beside the name of the row; an order by column number counts it.
            place = 2 if self.list_display[0] == "action_checkbox" else 1
            self.list_display = [*self.list_display[:place], distance_column, *self.list_display[place:]]
        rows = super().get_queryset(request, exclude_parameters)
        return rows if self.search is None else self._rank(request, rows, self.search)

    def _rank(self, request: HttpRequest, rows: QuerySet[Any], search: Search) -> QuerySet[Any]:
        nearest = rankable(rows).nearest(search.vector, search.k, field=search.field.name)
        found: QuerySet[Any] = self.root_queryset.filter(pk__in=list(nearest.values_list("pk", flat=True)))
        measured = search.distance(search.field.name, Value(search.vector, output_field=search.field))
        found = self.apply_select_related(found).annotate(**{DISTANCE: measured})
        if ORDER_VAR in self.params:
            return found.order_by(*self.get_ordering(request, found))
        # The sum keeps Postgres from reading them in the order of the index, which would leave some out.
        return found.order_by(F(DISTANCE) + Value(0.0), "pk")


def _made_dimensions(field: EmbeddingField) -> int | None:
    """Return how many numbers a field's embedder makes; None where only a call would tell."""
    try:
        return get_embedder(field.embedder).dimensions
    except ImproperlyConfigured:
        return None  # A search says what is wrong.


def failure_text(label: str, error: ValueError) -> str:
    """Return the message that a search failed; the field first, because Django capitalizes it, a dotted path too."""
    return f"{label}: {error}" if isinstance(error, EmbeddingError) else str(error)


def rankable(rows: QuerySet[Any]) -> EmbeddingQuerySet[Any]:
    """Return the rows of any queryset as one that has nearest()."""
    ranked: EmbeddingQuerySet[Any] = EmbeddingQuerySet(rows.model, using=rows.db)
    limited = rows.query.where or rows.query.distinct
    return ranked.filter(pk__in=rows.order_by().values("pk")) if limited else ranked
