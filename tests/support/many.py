"""Enough rows for a plan to be chosen, and their ranking by brute force."""

import numpy as np

N = 4000
VECTORS = np.random.default_rng(11).standard_normal((N, 3)).astype(np.float32)
QUERY = np.array([0.1, 0.2, -0.3], dtype=np.float32)
RANKED = np.argsort(np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)).tolist()


def ids(rows):
    return [int(row.title) for row in rows]


def ranked(keep):
    return [i for i in RANKED if keep(i)]
