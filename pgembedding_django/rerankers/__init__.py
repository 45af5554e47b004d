"""What scores texts by a question, and which reranker an alias names."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isfunction

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from pgembedding_django import conf
from pgembedding_django.rerankers.base import FunctionReranker, Reranker, RerankerUnavailable, RerankingError
from pgembedding_django.rerankers.http import HttpReranker

__all__ = [
    "HttpReranker",
    "Reranker",
    "RerankerUnavailable",
    "RerankingError",
    "get_reranker",
]


def get_reranker(alias: str = "default") -> Reranker:
    """
    Return the reranker that PGEMBEDDING["RERANKERS"] has under an alias.

    Raises ImproperlyConfigured if there is none, or if its BACKEND or OPTIONS are wrong.
    """
    reranker = _make(alias)
    if isinstance(reranker, ImproperlyConfigured):
        # Here, where no variable holds an option: a crash report would show a key among them.
        raise reranker
    return reranker


def _make(alias: str) -> Reranker | ImproperlyConfigured:
    setting, configured = f'PGEMBEDDING["RERANKERS"]["{alias}"]', conf.rerankers()
    entry = configured.get(alias)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("BACKEND"), str):
        return ImproperlyConfigured(f'{setting} must be a dict with the dotted path of a Reranker as its "BACKEND".')
    try:
        backend = import_string(entry["BACKEND"])
        if isfunction(backend):
            return FunctionReranker(backend)
        if not (isinstance(backend, type) and issubclass(backend, Reranker)):
            return ImproperlyConfigured(f'{setting}["BACKEND"] must be a Reranker or a function, got {backend!r}.')
        return backend(**entry.get("OPTIONS", {}))
    except ImportError as error:
        return ImproperlyConfigured(f'{setting}["BACKEND"] cannot be imported: {error}').with_traceback(None)
    except (TypeError, ValueError) as error:
        return ImproperlyConfigured(f'{setting}["OPTIONS"] do not suit {entry["BACKEND"]}: {error}').with_traceback(
            None
        )
