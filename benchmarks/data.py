"""Deterministic vectors with neighbourhoods like those of real embeddings, and the true neighbours by brute force."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

#: Topics, and the dimensions in which they really differ.
CLUSTERS = 300
LATENT = 32

#: Deviation of a row from its topic, and of each number from the projection. Tuned until ef_search = 40 finds about 0.9
#: of the ten nearest of 100,000 rows of 384 dimensions (m=16, ef_construction=64), as on real embeddings.
SPREAD = 1.4
NOISE = 0.1

#: Rows projected at once, so that a million of them fit in memory.
CHUNK = 50_000


@dataclass(frozen=True)
class Corpus:
    """
    Rows and queries drawn from one mixture.

    vectors: shape (rows, dimensions), of norm 1. bucket: a random permutation, so `bucket < n` keeps n random rows.
    position: the rank of each row along one latent axis, so a range of it is one side of the space.
    queries: shape (count, dimensions). sides: whether a query lies in the lower half of that axis.
    """

    vectors: Floats
    bucket: Integers
    position: Integers
    queries: Floats
    sides: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        return len(self.vectors)

    @cached_property
    def norms(self) -> Floats:
        return np.einsum("ij,ij->i", self.vectors, self.vectors)

    def neighbours(self, query: Floats, kept: NDArray[np.bool_] | None, k: int) -> Integers:
        """Return the positions of the k rows nearest by L2 among those kept, nearest first."""
        distances = self.norms - 2 * (self.vectors @ query)
        chosen = np.arange(self.rows) if kept is None else np.flatnonzero(kept)
        distances = distances[chosen]
        near = np.argpartition(distances, k)[:k] if k < len(chosen) else np.arange(len(chosen))
        return chosen[near[np.argsort(distances[near], kind="stable")]]


def make_corpus(rows: int, dimensions: int, queries: int, seed: int = 7) -> Corpus:
    """Draw a corpus, the same for the same arguments."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    projection = random.standard_normal((LATENT, dimensions), dtype=np.float32) / np.float32(LATENT**0.5)
    weights = random.dirichlet(np.full(CLUSTERS, 2.0))
    topics = random.choice(CLUSTERS, rows + queries, p=weights)
    vectors = np.empty((rows + queries, dimensions), np.float32)
    axis = np.empty(rows + queries, np.float32)
    for start in range(0, rows + queries, CHUNK):
        part = slice(start, start + CHUNK)
        latent = centres[topics[part]]
        latent = latent + SPREAD * random.standard_normal(latent.shape, dtype=np.float32)
        found = latent @ projection
        found += NOISE * random.standard_normal(found.shape, dtype=np.float32)
        vectors[part] = found / np.linalg.norm(found, axis=1, keepdims=True)
        axis[part] = latent[:, 0]
    return Corpus(
        vectors=vectors[:rows],
        bucket=random.permutation(rows),
        position=np.argsort(np.argsort(axis[:rows])),
        queries=vectors[rows:],
        sides=axis[rows:] < np.median(axis[:rows]),
    )
