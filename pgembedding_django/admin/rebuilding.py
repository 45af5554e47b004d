"""From the list of a model's rows to the rebuild of the model's indexes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin
from django.db import router
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from pgembedding_django.admin.access import database, is_served, may_rebuild
from pgembedding_django.indexes import vector_indexes

__all__ = ["can_rebuild", "rebuild_url"]


def can_rebuild(model_admin: ModelAdmin[Any], request: HttpRequest) -> bool:
    """Tell whether a model has HNSW indexes, the site has their pages, and the person may rebuild them."""
    return (
        bool(_indexed_models(model_admin.model))
        and is_served(model_admin.admin_site)
        and router.db_for_write(model_admin.model) == database()
        and may_rebuild(request)
    )


def rebuild_url(model_admin: ModelAdmin[Any]) -> str:
    """Return the page that asks before it rebuilds the indexes of a model."""
    url = reverse("admin:pgembedding_django_hnswindexstatus_rebuild", current_app=model_admin.admin_site.name)
    return f"{url}?{urlencode([('model', model._meta.label_lower) for model in _indexed_models(model_admin.model)])}"


def _indexed_models(model: type[Model]) -> list[type[Model]]:
    """Return which of a model and its parents have indexes."""
    models = [model._meta.concrete_model or model, *model._meta.get_parent_list()]
    return [each for each in models if vector_indexes(each)]
