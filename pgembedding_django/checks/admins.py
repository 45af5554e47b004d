"""A check of the admin: a ModelAdmin without EmbeddingAdminMixin fails on a page that shows a vector."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning

from pgembedding_django.checks.common import AppConfigs, embedding_fields, embedding_models


def check_admins(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each ModelAdmin of a model with an EmbeddingField can show it."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.sites import all_sites

    from pgembedding_django.admin import EmbeddingAdminMixin

    return [
        Warning(
            f"{type(site.get_model_admin(model)).__name__} fails for users who may only view {model.__name__}: "
            "Django's admin cannot show an array.",
            hint="Put pgembedding_django.admin.EmbeddingAdminMixin before ModelAdmin.",
            obj=model,
            id="pgembedding.W031",
        )
        for site in all_sites
        for model in embedding_models(app_configs)
        if embedding_fields(model)
        and site.is_registered(model)
        and not isinstance(site.get_model_admin(model), EmbeddingAdminMixin)
    ]
