"""django-ninja: a ModelSchema has a list of numbers for an EmbeddingField, and text for bits and sparse vectors."""

from __future__ import annotations

from typing import Annotated

from ninja.orm import register_field
from pydantic import BeforeValidator

from pgembedding_django.vectors import SparseVector

__all__ = ["register"]


def register() -> None:
    # pydantic takes no array for a list.
    register_field("EmbeddingField", Annotated[list[float], BeforeValidator(list)])
    register_field("BitField", str)
    register_field("SparseVectorField", Annotated[str, BeforeValidator(_write)])


def _write(value: object) -> object:
    return str(value) if isinstance(value, SparseVector) else value
