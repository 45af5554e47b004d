"""What turns text into vectors, and which embedder an alias names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pgembedding_django import conf
from pgembedding_django.embedders.base import Embedder, EmbeddingError

__all__ = ["Embedder", "EmbeddingError", "get_embedder"]

#: alias: (the configuration it was made from, the embedder). A changed setting makes a new one.
_made: dict[str, tuple[Mapping[str, Any], Embedder]] = {}


def get_embedder(alias: str = "default") -> Embedder:
    """
    Return the embedder that PGEMBEDDING["EMBEDDERS"] has under an alias.

    Raises ImproperlyConfigured if there is none, or if its BACKEND or OPTIONS are wrong.
    """
    configured = conf.embedders()
    if alias not in configured:
        raise ImproperlyConfigured(f'PGEMBEDDING["EMBEDDERS"]["{alias}"] is not set.')
    configuration = configured[alias]
    if alias in _made and _made[alias][0] == configuration:
        return _made[alias][1]
    embedder = _make(alias, configuration)
    _made[alias] = (dict(configuration), embedder)
    return embedder


def _make(alias: str, configuration: Mapping[str, Any]) -> Embedder:
    setting = f'PGEMBEDDING["EMBEDDERS"]["{alias}"]'
    try:
        backend = import_string(configuration["BACKEND"])
    except KeyError as error:
        raise ImproperlyConfigured(f'{setting} must have a "BACKEND", the dotted path of an Embedder.') from error
    except ImportError as error:
        raise ImproperlyConfigured(f'{setting}["BACKEND"] cannot be imported: {error}') from error
    if not (isinstance(backend, type) and issubclass(backend, Embedder)):
        raise ImproperlyConfigured(f'{setting}["BACKEND"] must be a subclass of Embedder, got {backend!r}.')
    try:
        return backend(**configuration.get("OPTIONS", {}))
    except TypeError as error:
        raise ImproperlyConfigured(f'{setting}["OPTIONS"] do not suit {backend.__name__}: {error}') from error
