"""What turns text into vectors, and which embedder an alias names."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isfunction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pgembedding_django import conf
from pgembedding_django.embedders.base import Embedder
from pgembedding_django.embedders.callable import CallableEmbedder
from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError, RefusedByServer, TextRejected

__all__ = ["Embedder", "EmbedderUnavailable", "EmbeddingError", "RefusedByServer", "TextRejected", "get_embedder"]

#: alias: (BACKEND, OPTIONS, the embedder made from them). A changed setting makes a new one.
_made: dict[str, tuple[str, dict[str, Any], Embedder]] = {}


def get_embedder(alias: str = "default") -> Embedder:
    """
    Return the embedder that PGEMBEDDING["EMBEDDERS"] has under an alias.

    Raises ImproperlyConfigured if there is none, or if its BACKEND or OPTIONS are wrong.
    """
    embedder = _find(alias)
    if isinstance(embedder, ImproperlyConfigured):
        # Here, where no variable holds an option: a crash report would show a key among them.
        raise embedder
    return embedder


def _find(alias: str) -> Embedder | ImproperlyConfigured:
    try:
        backend, options = _read(alias)
        if alias not in _made or _made[alias][:2] != (backend, options):
            _made[alias] = (backend, options, _make(alias, backend, options))
    except ImproperlyConfigured as error:
        return error.with_traceback(None)
    return _made[alias][2]


def _read(alias: str) -> tuple[str, dict[str, Any]]:
    setting = _setting(alias)
    configured = conf.embedders()
    if alias not in configured:
        raise ImproperlyConfigured(f"{setting} is not set.")
    if not isinstance(configured[alias], Mapping):
        raise ImproperlyConfigured(f"{setting} must be a dict, got {type(configured[alias]).__name__}.")
    backend, options = configured[alias].get("BACKEND"), configured[alias].get("OPTIONS", {})
    if not isinstance(backend, str):
        raise ImproperlyConfigured(
            f'{setting}["BACKEND"] must be the dotted path of an Embedder or a function, got {backend!r}.'
        )
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f'{setting}["OPTIONS"] must be a dict, got {type(options).__name__}.')
    return backend, dict(options)


def _make(alias: str, path: str, options: dict[str, Any]) -> Embedder:
    setting, backend = _setting(alias), _import(alias, path)
    if isfunction(backend):
        backend, options = CallableEmbedder, {"function": path, **options}
    if not (isinstance(backend, type) and issubclass(backend, Embedder)):
        raise ImproperlyConfigured(
            f'{setting}["BACKEND"] must be a subclass of Embedder or a function, got {backend!r}.'
        )
    try:
        return backend(**options)
    except (TypeError, ValueError) as error:
        sentence = f'{setting}["OPTIONS"] do not suit {backend.__name__}: {error}'
        raise ImproperlyConfigured(sentence) from error.with_traceback(None)


def _import(alias: str, path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f'{_setting(alias)}["BACKEND"] cannot be imported: {error}') from error


def _setting(alias: str) -> str:
    return f'PGEMBEDDING["EMBEDDERS"]["{alias}"]'
