"""django-ninja: a ModelSchema has a list of numbers for an EmbeddingField."""

from __future__ import annotations

from typing import Annotated

from ninja.orm import register_field
from pydantic import BeforeValidator

__all__ = ["register"]


def register() -> None:
    # pydantic takes no array for a list.
    register_field("EmbeddingField", Annotated[list[float], BeforeValidator(list)])
