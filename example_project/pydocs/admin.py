"""The sections in the admin; the package's mixin shows each vector in one line, read-only."""

from django.contrib import admin

from example_project.pydocs.models import Section
from pgembedding_django.admin import EmbeddingAdminMixin


@admin.register(Section)
class SectionAdmin(EmbeddingAdminMixin, admin.ModelAdmin):
    list_display = ["title", "topic", "part", "embedded_by"]
    list_filter = ["part", "embedded_by"]
    search_fields = ["title", "topic", "text"]
    list_per_page = 50
    readonly_fields = ["embedded_by"]
    fields = ["name", "part", "topic", "title", "url", "text", "embedding", "embedded_by"]
