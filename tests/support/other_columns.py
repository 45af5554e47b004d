"""Rows of bits, sparse vectors and vectors, for the columns and indexes beside EmbeddingField and HnswIndex."""

import numpy as np

N = 400
RNG = np.random.default_rng(8)
BITS = RNG.random((N, 32)) < 0.5
WORDS = np.where(RNG.random((N, 20)) < 0.3, RNG.random((N, 20)), 0).astype(np.float32)
VECTORS = RNG.random((N, 8)).astype(np.float32)
