"""The admin of collections and documents."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import router
from django.db.models import (
    BigIntegerField,
    BooleanField,
    Count,
    F,
    Func,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
)
from django.db.models.deletion import Collector, ProtectedError, RestrictedError
from django.db.models.functions import Cast, Coalesce
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from pgembedding_django import conf
from pgembedding_django.admin import EmbeddingAdminMixin
from pgembedding_django.admin.search import failure_text
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.documents.scope import INDEX_NAME

__all__ = ["CollectionAdmin", "DocumentAdmin"]

if TYPE_CHECKING:
    _CollectionAdmin = admin.ModelAdmin[Collection]
else:
    _CollectionAdmin = admin.ModelAdmin

#: Documents that a search by meaning shows.
SEARCH_RESULTS = 50

#: The index of a collection, by the name that it has.
INDEX = Func(
    Func(Value(INDEX_NAME), Value("{}"), Cast("pk", TextField()), function="replace"),
    function="to_regclass",
    output_field=TextField(),
)


@admin.register(Collection)
class CollectionAdmin(_CollectionAdmin):
    """Collections with what is in them; a deletion counts the documents instead of loading them."""

    list_display = ("name", "documents_count", "dimensions", "distance", "embedder", "index_state", "created")
    search_fields = ("name",)
    fields = ("name", "metadata", "embedder", "distance")
    read_only = ("dimensions", "documents_count", "size", "index_state", "created")

    def get_fields(self, request: HttpRequest, obj: Collection | None = None) -> Any:
        return self.fields if obj is None else (*self.fields, *self.read_only)

    def get_readonly_fields(self, request: HttpRequest, obj: Collection | None = None) -> Any:
        # The vectors that are there were made by this embedder, and their index for this distance.
        return () if obj is None else ("embedder", "distance", *self.read_only)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name != "embedder":
            return super().formfield_for_dbfield(db_field, request, **kwargs)
        # A collection of ready-made vectors needs none.
        aliases = dict.fromkeys([db_field.default, *conf.embedders()])
        return forms.ChoiceField(
            label=capfirst(db_field.verbose_name),
            choices=[(alias, alias) for alias in aliases],
            initial=db_field.default,
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        same = Document.objects.filter(collection=OuterRef("pk")).order_by()
        counted = same.values("collection").annotate(number=Count("pk")).values("number")
        return (
            super()
            .get_queryset(request)
            .annotate(
                documents_count=Coalesce(Subquery(counted), 0),
                index_size=Func(INDEX, function="pg_relation_size", output_field=BigIntegerField()),
                index_valid=Func(
                    INDEX,
                    template="(SELECT indisvalid FROM pg_index WHERE indexrelid = %(expressions)s)",
                    output_field=BooleanField(),
                ),
            )
        )

    @admin.display(description=_("documents"), ordering="documents_count")
    def documents_count(self, collection: Any) -> int:
        return int(collection.documents_count)

    @admin.display(description=_("index"))
    def index_state(self, collection: Any) -> str:
        if collection.index_valid is None:
            return gettext("None: each search reads the whole collection")
        if not collection.index_valid:
            return gettext("Not ready: being built, or left by an interrupted build")
        if collection.hnsw is None:
            return gettext("Not used: of other dimensions, or unfinished. Each search reads the whole collection")
        return gettext("Ready, %(size)s") % {"size": filesizeformat(collection.index_size)}

    @admin.display(description=_("size of texts, metadata and vectors"))
    def size(self, collection: Collection) -> str:
        columns = [Func(F(name), function="pg_column_size") for name in ("content", "metadata", "embedding")]
        sums = {f"size{i}": Sum(column, output_field=BigIntegerField(), default=0) for i, column in enumerate(columns)}
        return filesizeformat(sum(collection.documents.aggregate(**sums).values()))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        collector = Collector(using=router.db_for_write(Collection), origin=objs)
        protected: list[str] = []
        try:
            collector.collect(objs)
        except ProtectedError as error:
            protected = [str(held) for held in error.protected_objects]
        except RestrictedError as error:
            protected = [str(held) for held in error.restricted_objects]
        counts: Counter[Any] = Counter({model: len(rows) for model, rows in collector.data.items()})
        for rows in collector.fast_deletes:
            counts[rows.model] += rows.count()
        denied = {model._meta.verbose_name for model in counts if not self._may_delete(model, request)}
        names = [f"{capfirst(collection._meta.verbose_name)}: {collection}" for collection in objs]
        return names, {model._meta.verbose_name_plural: count for model, count in counts.items()}, denied, protected

    def _may_delete(self, model: Any, request: HttpRequest) -> bool:
        if not self.admin_site.is_registered(model):
            return True
        return self.admin_site.get_model_admin(model).has_delete_permission(request)


class CollectionFilter(admin.RelatedFieldListFilter):
    """Django's, also where there is one collection to choose."""

    def has_output(self) -> bool:
        return True


@admin.register(Document)
class DocumentAdmin(EmbeddingAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Documents, to be read: within one collection the search box searches by meaning, else by words."""

    list_display = ("__str__", "key", "collection", "distance", "updated")
    list_filter = (("collection", CollectionFilter),)
    list_select_related = ("collection",)
    search_fields = ("key", "content")
    search_help_text = _("By meaning where a collection is chosen, else by words.")
    fields = ("collection", "key", "content", "shown_metadata", "embedding", "digest", "created", "updated")
    readonly_fields = ("shown_metadata",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("embedding")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # Django's name for the parameter of the filter by collection.
        if not search_term.strip() or "collection__id__exact" not in request.GET:
            return super().get_search_results(request, queryset, search_term)
        try:
            found: Any = queryset
            return found.nearest(search_term, SEARCH_RESULTS), False
        except ValueError as error:
            self.message_user(request, failure_text("Document.embedding", error), messages.ERROR)
            return queryset, False
        except Collection.DoesNotExist:
            return queryset.none(), False

    @admin.display(description=_("distance"))
    def distance(self, document: Document) -> str | None:
        distance = getattr(document, "distance", None)
        return None if distance is None else f"{distance:.4f}"

    @admin.display(description=_("metadata"))
    def shown_metadata(self, document: Document) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(document.metadata, indent=2, ensure_ascii=False))
