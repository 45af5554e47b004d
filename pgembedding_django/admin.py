"""EmbeddingAdminMixin: a ModelAdmin that shows vectors in one readable line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.http import HttpRequest

from pgembedding_django.fields import EmbeddingField
from pgembedding_django.forms import describe

__all__ = ["EmbeddingAdminMixin"]

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
else:
    _ModelAdmin = object


class EmbeddingAdminMixin(_ModelAdmin):
    """
    Show each EmbeddingField as its dimensions, norm and first values, wherever the admin would print the array.

    Put it before ModelAdmin, or before an inline: `class ArticleAdmin(EmbeddingAdminMixin, admin.ModelAdmin)`. Without
    it, Django's admin compares the array with its empty values and fails, for a vector in list_display or
    readonly_fields and on the page of every user who may only view.
    """

    def get_list_display(self, request: HttpRequest) -> Any:
        return [self._readable(name) for name in super().get_list_display(request)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [self._readable(name) for name in super().get_readonly_fields(request, obj)]

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        # The form leaves out read-only fields by name, and these have become columns of ours.
        excluded = super().get_exclude(request, obj)
        hidden = [name for name in super().get_readonly_fields(request, obj) if self._readable(name) is not name]
        return [*(excluded or ()), *hidden] if hidden else excluded

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        shown = super().get_readonly_fields(request, obj)
        views = not self.has_change_permission(request, obj)

        def swap(item: Any) -> Any:
            if isinstance(item, list | tuple):
                return [swap(name) for name in item]
            return self._readable(item) if views or item in shown else item

        return [(title, {**options, "fields": swap(options["fields"])}) for title, options in fieldsets]

    def _readable(self, name: Any) -> Any:
        try:
            field = self.model._meta.get_field(name) if isinstance(name, str) else None
        except FieldDoesNotExist:
            return name
        return _ReadableVector(field) if isinstance(field, EmbeddingField) else name


@dataclass(frozen=True)
class _ReadableVector:
    """What the admin takes in place of a field's name; equal for one field, as the name would be."""

    field: EmbeddingField

    def __call__(self, row: Model) -> str | None:
        vector = self.field.value_from_object(row)
        return None if vector is None else describe(vector)

    @property
    def __name__(self) -> str:
        return self.field.name

    @property
    def short_description(self) -> str:
        return str(self.field.verbose_name)
