"""Which models and which databases the checks look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.apps import AppConfig, apps
from django.db import connections, router
from django.db.models import Model

from pgembedding_django.fields import measured_fields
from pgembedding_django.indexes import vector_indexes

AppConfigs = Sequence[AppConfig] | None


def embedding_models(app_configs: AppConfigs) -> Iterator[type[Model]]:
    for config in apps.get_app_configs() if app_configs is None else app_configs:
        for model in config.get_models():
            if not model._meta.proxy and (measured_fields(model, local=True) or vector_indexes(model)):
                yield model


def sqlite_aliases(model: type[Model]) -> list[str]:
    return _aliases(model, "sqlite")


def postgres_aliases(model: type[Model]) -> list[str]:
    return _aliases(model, "postgresql")


def _aliases(model: type[Model], vendor: str) -> list[str]:
    return [
        alias
        for alias in connections
        if connections[alias].vendor == vendor and router.allow_migrate_model(alias, model)
    ]
