"""The admin: vectors that people can read and search by, and the care of their indexes."""

from django.contrib import admin

from pgembedding_django.admin.index_admin import HnswIndexAdmin
from pgembedding_django.admin.mixin import EmbeddingAdminMixin
from pgembedding_django.admin.passages import PassageInline
from pgembedding_django.models import HnswIndexStatus

__all__ = ["EmbeddingAdminMixin", "HnswIndexAdmin", "PassageInline"]

admin.site.register(HnswIndexStatus, HnswIndexAdmin)
