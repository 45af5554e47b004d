"""What belongs to one package beside this one each; each module is imported where its package is used."""

from __future__ import annotations

from importlib import import_module

from django.apps import apps

__all__ = ["register"]

#: App of another package: the module here that tells it of the field.
REGISTERED = {
    "django_filters": "pgembedding_django.contrib.django_filters",
    "graphene_django": "pgembedding_django.contrib.graphene_django",
    "ninja": "pgembedding_django.contrib.ninja",
    "rest_framework": "pgembedding_django.contrib.rest_framework",
    "strawberry_django": "pgembedding_django.contrib.strawberry_django",
    "unfold": "pgembedding_django.contrib.unfold",
}


def register() -> None:
    """Tell each package in INSTALLED_APPS that looks up a field by its class what an EmbeddingField is."""
    for app, module in REGISTERED.items():
        if apps.is_installed(app):
            import_module(module).register()
