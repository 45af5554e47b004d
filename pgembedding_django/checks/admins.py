"""A check of the admin: a ModelAdmin without EmbeddingAdminMixin shows every number of a vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.options import InlineModelAdmin
from django.core.checks import CheckMessage, Warning
from django.db.models import Model

from pgembedding_django.checks.common import AppConfigs, embedding_models
from pgembedding_django.fields import BitField, measured_fields

#: A ModelAdmin or an inline.
Shower: TypeAlias = "type[ModelAdmin[Any]] | type[InlineModelAdmin[Any, Any]]"


def check_admins(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each ModelAdmin or inline that shows a vector shows it in one line."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.sites import all_sites

    from pgembedding_django.admin import EmbeddingAdminMixin

    models = set(embedding_models(app_configs))
    return [
        Warning(
            f"{shower.__name__} shows every number of {model.__name__}.{name}.",
            hint=f"Put pgembedding_django.admin.EmbeddingAdminMixin before {place}.",
            obj=model,
            id="pgembedding.W031",
        )
        for site in all_sites
        for model, shower, place in _showers(site)
        if model in models and not issubclass(shower, EmbeddingAdminMixin)
        for name in _shown(model, shower)
    ]


def _showers(site: AdminSite) -> Iterator[tuple[type[Model], Shower, str]]:
    """Yield each model of a site, what shows it, and what that is for people."""
    for model in filter(site.is_registered, apps.get_models()):
        model_admin = site.get_model_admin(model)
        yield model, type(model_admin), "ModelAdmin"
        yield from ((inline.model, inline, "the inline") for inline in model_admin.inlines)


def _shown(model: type[Model], shower: Shower) -> Iterator[str]:
    """Yield the names of the vectors that the options of a ModelAdmin or an inline show as they are."""
    shown = {*getattr(shower, "list_display", ()), *shower.readonly_fields}
    return (
        field.name
        for field in measured_fields(model, local=True)
        if field.name in shown and not isinstance(field, BitField)
    )
