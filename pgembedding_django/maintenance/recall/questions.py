"""Questions of real searches, read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from pgembedding_django.embedders import get_embedder
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.querysets import every_row
from pgembedding_django.vectors import Vector

__all__ = ["read_queries"]


def read_queries(
    path: Path,
    model: type[Model],
    field: str | None = None,
    *,
    filters: Mapping[str, Any] | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> list[Vector]:
    """
    Return the vectors that a file asks with.

    path: of a .npy with a vector a row, or of UTF-8 text with a question a line; blank lines are left out.
    field: the name of the EmbeddingField; needed only where the model has several. filters: as measure_recall() takes
    them: those of documents name the collection, whose embedder it is.
    Raises OSError if the file cannot be read, ValueError if it holds something else, EmbeddingError as the embedder.
    Embeds each question by a call of its own, as nearest() does, which may cost money. No pickle is loaded.
    """
    if path.suffix == ".npy":
        return _read_vectors(path)
    rows = every_row(model, using).filter(**(filters or {}))
    measured = rows.get_measured_field(field)
    if not isinstance(measured, EmbeddingField):
        raise ValueError(
            f"{measured.label} is a {type(measured).__name__}, which no embedder makes: give --queries a .npy, or "
            "leave it out."
        )
    column = rows.get_embedding_field(field)
    try:
        questions = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text with a question a line, or a .npy of vectors.") from error
    embedder = get_embedder(column.embedder)
    return [embedder.embed_query(question) for question in questions]


def _read_vectors(path: Path) -> list[Vector]:
    with path.open("rb") as file:
        try:
            vectors = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{path} must be a .npy of vectors: {error}") from error
    if vectors.ndim != 2:
        raise ValueError(f"{path} must hold a vector a row, got an array of shape {vectors.shape}.")
    return list(vectors)
