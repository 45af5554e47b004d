"""EmbeddingAdminMixin: a ModelAdmin that shows vectors, searches by them, and cares for their indexes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from pgembedding_django.admin.access import chosen_action
from pgembedding_django.admin.columns import ReadableVector
from pgembedding_django.admin.embedding import embed_rows, source_fields
from pgembedding_django.admin.panels import panels
from pgembedding_django.admin.rebuilding import can_rebuild, rebuild_url
from pgembedding_django.admin.search import MeaningMixin
from pgembedding_django.admin.templates import extend
from pgembedding_django.fields import EmbeddingField, SparseVectorField

__all__ = ["EmbeddingAdminMixin"]

#: The name of the button that saves a row and embeds it.
EMBED_VAR = "_embed"

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object


class EmbeddingAdminMixin(_ModelAdmin):
    """
    Show vectors in one readable line, search by meaning, list similar rows, and care for the model's indexes.

    Put it before ModelAdmin, or before an inline: `class ArticleAdmin(EmbeddingAdminMixin, admin.ModelAdmin)`. Without
    it, Django's admin shows every number of a vector: in list_display, in readonly_fields, to users who may only view.
    Searching by meaning embeds the text, once for each page that is shown, which may cost money.
    """

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(css={"all": ["pgembedding_django/admin.css"]})

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
        return ReadableVector(field) if isinstance(field, EmbeddingField | SparseVectorField) else name

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return type("MeaningChangeList", (MeaningMixin, super().get_changelist(request, **kwargs)), {})

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        if chosen_action(request) == "rebuild_indexes":
            # It is about the model's indexes, so that Django need not ask for a selection of rows.
            return self.rebuild_indexes(request, self.model._default_manager.none())
        response = super().changelist_view(request, extra_context)
        extend(response, "pgembedding_django/change_list.html")
        return response

    # The page of a row

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().render_change_form(request, context, *args, **kwargs)
        row = context.get("original")
        if row is not None:
            found = panels(row, self.get_queryset(request))
            old = [panel for panel in found if panel.can_be_embedded and self.has_change_permission(request, row)]
            extend(response, "pgembedding_django/change_form.html", vector_panels=found, old_panels=old)
        return response

    def response_change(self, request: HttpRequest, obj: Any) -> Any:
        if EMBED_VAR not in request.POST:
            return super().response_change(request, obj)
        # Django has saved the row in a transaction, and none should wait for an embedder.
        rows = self.get_queryset(request).filter(pk=obj.pk)
        transaction.on_commit(partial(self.embed_selected, request, rows), using=obj._state.db)
        return HttpResponseRedirect(request.get_full_path())

    # Actions

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        # Django passes a location from 6.1 on.
        where = () if action_location is None else (action_location,)
        actions = super().get_actions(request, *where)
        if self.actions is None or IS_POPUP_VAR in request.GET:
            return actions
        offered = {
            "embed_selected": bool(source_fields(self.model)) and self.has_change_permission(request),
            "rebuild_indexes": can_rebuild(self, request),
        }
        ours = {name: self.get_action(name, *where) for name, allowed in offered.items() if allowed}
        return actions | {name: action for name, action in ours.items() if action}

    @admin.action(description=_("Re-embed selected %(verbose_name_plural)s"))
    def embed_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for level, text in embed_rows(queryset):
            self.message_user(request, text, level)

    @admin.action(description=_("Rebuild the HNSW indexes of %(verbose_name_plural)s"))
    def rebuild_indexes(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseRedirect:
        if not can_rebuild(self, request):
            raise PermissionDenied
        return HttpResponseRedirect(rebuild_url(self))
