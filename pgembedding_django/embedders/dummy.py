"""An embedder for tests: deterministic, instant, and near for texts that share words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pgembedding_django.embedders.base import Embedder

__all__ = ["DummyEmbedder"]

WORDS = re.compile(r"\w+").findall


class DummyEmbedder(Embedder):
    """
    Embed a text as the normalised sum of one fixed direction for each of its words.

    dimensions: 16 unless given. Knows nothing of meaning.
    """

    dimensions: int = 16

    def compute(self, texts: list[str]) -> NDArray[np.float32]:
        places: dict[str, int] = {}
        split = [WORDS(text.lower()) or [text] for text in texts]
        chosen = [[places.setdefault(word, len(places)) for word in words] for words in split]
        directions = self._directions(places)
        sums = np.stack([directions[rows].sum(axis=0) for rows in chosen])
        unit: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return unit

    def _directions(self, words: Iterable[str]) -> NDArray[np.float32]:
        """Spread the bytes of each word's hash evenly over -1 to 1."""
        size = 2 * self.dimensions
        hashed = b"".join(hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(size) for word in words)
        # Halves, so that no number of a direction is 0, and no direction without length.
        numbers = np.frombuffer(hashed, "<i2").reshape(-1, self.dimensions).astype(np.float32) + np.float32(0.5)
        return numbers / np.float32(2**15)
