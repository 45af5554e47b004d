"""A check of the admin: a ModelAdmin without EmbeddingAdminMixin shows every number of a vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin import ModelAdmin
from django.core.checks import CheckMessage, Warning
from django.db.models import Model

from pgembedding_django.checks.common import AppConfigs, embedding_models
from pgembedding_django.fields import embedding_fields


def check_admins(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each ModelAdmin that shows an EmbeddingField shows it in one line."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.sites import all_sites

    from pgembedding_django.admin import EmbeddingAdminMixin

    return [
        Warning(
            f"{type(site.get_model_admin(model)).__name__} shows every number of {model.__name__}.{name}.",
            hint="Put pgembedding_django.admin.EmbeddingAdminMixin before ModelAdmin.",
            obj=model,
            id="pgembedding.W031",
        )
        for site in all_sites
        for model in embedding_models(app_configs)
        if site.is_registered(model) and not isinstance(site.get_model_admin(model), EmbeddingAdminMixin)
        for name in _shown(site.get_model_admin(model))
    ]


def _shown(model_admin: ModelAdmin[Model]) -> Iterator[str]:
    """Yield the names of the vectors that the options of a ModelAdmin show as they are."""
    shown = {*model_admin.list_display, *model_admin.readonly_fields}
    return (field.name for field in embedding_fields(model_admin.model, local=True) if field.name in shown)
