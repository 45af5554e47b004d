"""An embedder for tests: deterministic, instant, and near for texts that share words."""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

from pgembedding_django.embedders.base import Embedder

__all__ = ["DummyEmbedder"]


class DummyEmbedder(Embedder):
    """
    Embed a text as the normalised sum of one fixed direction for each of its words.

    dimensions: 16 unless given. Knows nothing of meaning.
    """

    dimensions = 16

    def compute(self, texts: list[str]) -> NDArray[np.float64]:
        return np.stack([self._direction(text) for text in texts])

    def _direction(self, text: str) -> NDArray[np.float64]:
        words = re.findall(r"\w+", text.lower()) or [text]
        total: NDArray[np.float64] = np.sum([self._word(word) for word in words], axis=0)
        return np.divide(total, np.linalg.norm(total))

    def _word(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dimensions)
