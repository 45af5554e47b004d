"""The setting PGEMBEDDING, read at call time and never cached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

DEFAULT_ENGINE = "pgvector"


def engine_name(using: str) -> str:
    """Return the engine that PGEMBEDDING["ENGINE"] gives a database alias; "pgvector" where it says nothing."""
    engine = _setting().get("ENGINE", DEFAULT_ENGINE)
    if isinstance(engine, Mapping):
        engine = engine.get(using, DEFAULT_ENGINE)
    if not isinstance(engine, str):
        raise ImproperlyConfigured(
            f'PGEMBEDDING["ENGINE"] must be an engine\'s name or a dict of alias to name, got {type(engine).__name__}.'
        )
    return engine


def embedders() -> Mapping[str, Mapping[str, Any]]:
    """Return PGEMBEDDING["EMBEDDERS"]: alias to {"BACKEND": dotted path, "OPTIONS": keyword arguments}."""
    found = _setting().get("EMBEDDERS", {})
    if not isinstance(found, Mapping):
        raise ImproperlyConfigured(f'PGEMBEDDING["EMBEDDERS"] must be a dict, got {type(found).__name__}.')
    return found


def rerankers() -> Mapping[str, Mapping[str, Any]]:
    """Return PGEMBEDDING["RERANKERS"]: alias to {"BACKEND": dotted path, "OPTIONS": keyword arguments}."""
    found = _setting().get("RERANKERS", {})
    if not isinstance(found, Mapping):
        raise ImproperlyConfigured(f'PGEMBEDDING["RERANKERS"] must be a dict, got {type(found).__name__}.')
    return found


def build_memory() -> str | None:
    """Return PGEMBEDDING["BUILD_MEMORY"], such as "2GB": the most that a build of an index may use, or None."""
    size = _setting().get("BUILD_MEMORY")
    if size is not None and not isinstance(size, str):
        raise ImproperlyConfigured(f'PGEMBEDDING["BUILD_MEMORY"] must be a size such as "2GB", got {size!r}.')
    return size


def _setting() -> Mapping[str, Any]:
    setting = getattr(settings, "PGEMBEDDING", {})
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured(f"PGEMBEDDING must be a dict, got {type(setting).__name__}.")
    return setting
