"""A check of arrays of vectors: only some engines can store them."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from pgembedding_django.checks.common import AppConfigs, postgres_aliases
from pgembedding_django.engines import get_engine_for
from pgembedding_django.fields import MeasuredField


def check_arrays(app_configs: AppConfigs = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each ArrayField of vectors is on an engine that stores arrays of vectors; asks no database."""
    return [
        Error(
            f"{model.__name__}.{field.name} is an array of vectors, which {engine} cannot store.",
            hint="Give each vector a row of its own, or use the engine pgvector.",
            obj=field,
            id="pgembedding.E009",
        )
        for config in (apps.get_app_configs() if app_configs is None else app_configs)
        for model in config.get_models()
        for field in model._meta.local_fields
        if isinstance(getattr(field, "base_field", None), MeasuredField)
        for engine in _engines_without_arrays(model)
    ]


def _engines_without_arrays(model: type[Model]) -> set[str]:
    try:
        engines = [get_engine_for(alias) for alias in postgres_aliases(model)]
    except ImproperlyConfigured:
        return set()  # check_models says it.
    return {engine.name for engine in engines if not engine.types_with_arrays}
