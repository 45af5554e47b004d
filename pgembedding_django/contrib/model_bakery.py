"""What model_bakery fills an EmbeddingField with; named in BAKER_CUSTOM_FIELDS_GEN."""

from __future__ import annotations

from model_bakery.random_gen import baker_random

from pgembedding_django.vectors import Vector

__all__ = ["random_vector"]

#: Of a field without dimensions.
DIMENSIONS = 3


def random_vector(dimensions: int | None) -> Vector:
    """Return a vector of normally distributed numbers."""
    return Vector([baker_random.gauss() for _ in range(dimensions or DIMENSIONS)])


#: What model_bakery reads of the field.
random_vector.required = ["dimensions"]  # type: ignore[attr-defined]
