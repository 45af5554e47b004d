"""The value of a vector, and how it travels between Python and Postgres."""

from __future__ import annotations

from pgembedding_django.vectors.conversion import HALF_LIMIT, MAX_NORM, InvalidVector, VectorLike
from pgembedding_django.vectors.value import Vector, is_zero, to_vector

__all__ = ["HALF_LIMIT", "MAX_NORM", "InvalidVector", "Vector", "VectorLike", "is_zero", "to_vector"]
