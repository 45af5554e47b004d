"""HalfVectorField: the name that pgvector's Django module gives to half precision."""

from __future__ import annotations

from typing import Any

from pgembedding_django.fields.embedding import EmbeddingField, Get, Set

__all__ = ["HalfVectorField"]


class HalfVectorField(EmbeddingField[Set, Get]):
    """Store an embedding in half precision: EmbeddingField(storage="half"), as which a migration has it."""

    def __init__(self, *args: Any, dimensions: int | None = None, **kwargs: Any) -> None:
        super().__init__(dimensions, *args, **{**kwargs, "storage": "half"})  # type: ignore[misc]
