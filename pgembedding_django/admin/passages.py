"""PassageInline: the passages of a row on its own page of the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pgembedding_django.fields import embedding_fields
from pgembedding_django.passages import Passage

__all__ = ["PassageInline"]

if TYPE_CHECKING:
    _TabularInline = admin.TabularInline[Any, Any]
else:
    _TabularInline = admin.TabularInline


class PassageInline(_TabularInline):
    """
    Show the passages of a row in their order, without their vectors; embed() writes them, so nobody edits them here.

    A subclass names the model: `class ArticlePassageInline(PassageInline): model = ArticlePassage`.
    """

    fields = readonly_fields = ("position", "excerpt", "is_embedded")
    ordering = ("position",)
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*(field.name for field in embedding_fields(self.model)))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(boolean=True, description=_("embedded"))
    def is_embedded(self, passage: Passage) -> bool:
        (field,) = embedding_fields(type(passage))
        return getattr(passage, field.digest_name) is not None
