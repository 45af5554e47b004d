"""The sections in the admin; the package's mixin shows each vector in one line, read-only."""

from django.contrib import admin

from example_project.pydocs.models import Section
from pgembedding_django.admin import EmbeddingAdminMixin


@admin.register(Section)
class SectionAdmin(EmbeddingAdminMixin, admin.ModelAdmin):
    list_display = ["title", "topic", "part"]
    list_filter = ["part"]
    search_fields = ["title", "topic", "text"]
    list_per_page = 50
    fields = ["name", "part", "topic", "title", "url", "text", "embedding"]
