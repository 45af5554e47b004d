"""The value of a vector, and how it travels between Python and Postgres."""

from __future__ import annotations

from pgembedding_django.vectors.bits import BitsLike, to_bits
from pgembedding_django.vectors.conversion import HALF_LIMIT, MAX_NORM, InvalidVector, VectorLike
from pgembedding_django.vectors.sparse import SparseLike, SparseVector, to_sparse
from pgembedding_django.vectors.value import Vector, is_zero, to_vector

__all__ = [
    "HALF_LIMIT",
    "MAX_NORM",
    "BitsLike",
    "InvalidVector",
    "SparseLike",
    "SparseVector",
    "Vector",
    "VectorLike",
    "is_zero",
    "to_bits",
    "to_sparse",
    "to_vector",
]
