"""Offline embeddings by wordllama: a real 256-dimension model inside a wheel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.embedders.base import Embedder

__all__ = ["WordLlamaEmbedder"]

#: The lengths that the model was trained for (wordllama 0.4, README, "Matryoshka representations").
DIMENSIONS = (256, 128, 64)


class WordLlamaEmbedder(Embedder):
    """
    Embed with the model that the wordllama package ships, with no download and no network.

    dimensions: 256, 128 or 64 (the model is trained so that a vector's head stands for the whole).
    Loads the model at the first text (a fraction of a second). Raises ImproperlyConfigured if wordllama is missing.
    Source: wordllama 0.4, https://github.com/dleemiller/WordLlama.
    """

    dimensions: int = 256

    def __init__(self, *, dimensions: int | None = None) -> None:
        super().__init__(dimensions=dimensions)
        if self.dimensions not in DIMENSIONS:
            raise ValueError(f"WordLlamaEmbedder.dimensions must be 256, 128 or 64, got {self.dimensions}.")

    def compute(self, texts: list[str]) -> Any:
        return _load(self.dimensions).embed(texts, norm=True)


@cache
def _load(dimensions: int) -> Any:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ImproperlyConfigured('WordLlamaEmbedder needs wordllama: pip install "pgembedding-django[wordllama]"')
    with _root_logger_kept():
        from wordllama import WordLlama

    return WordLlama.load(cache_dir=Path(spec.origin).parent, dim=256, trunc_dim=dimensions, disable_download=True)


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what wordllama does to the project's logging: at import it calls logging.basicConfig()."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
