"""Embeds one row: one statement reads it and one writes its vector, without a claim."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgembedding_django.embedders import EmbeddingError, TextRejected, get_embedder
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.embedding.rows import Row, base_rows, read_rows
from pgembedding_django.embedding.run import check_dimensions
from pgembedding_django.embedding.settlement import checked
from pgembedding_django.embedding.writing import write_vector
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.vectors import Vector

__all__ = ["Written", "embed_one"]


class Written(NamedTuple):
    """What a row has got."""

    vector: Vector | None
    digest: str | None


def embed_one(field: EmbeddingField, pk: Any, using: str, *, claimed_too: bool = False) -> Written | None:
    """
    Embed one row if it is stale.

    claimed_too: also where a run of embed() is about to embed it, which then leaves it as it is.
    Returns what was written, None where nothing was: the row is fresh, gone, or was edited meanwhile.
    Raises TextRejected if its text cannot be embedded, and whatever else the embedder raises.
    """
    rows = base_rows(field, using).filter(pk=pk)
    rows = rows if claimed_too else Claims(field, using).free(rows)
    row = next(read_rows(rows, field.text_source), None)
    if row is None or not row.is_stale:
        return None
    if not row.text and not field.null:
        return None
    vector = _embed(field, row) if row.text else None
    if not write_vector(row, vector, field, using):
        return None
    return Written(vector, row.digest if row.text else None)


def _embed(field: EmbeddingField, row: Row) -> Vector:
    embedder = get_embedder(field.embedder)
    check_dimensions(field, embedder.dimensions)
    (outcome,) = embedder.embed_each([row.text])
    vector = checked(field, outcome)
    if isinstance(vector, TextRejected):
        reason = f"{field.model.__name__}.{field.name} of pk {row.pk} could not be embedded: {vector}"
        raise TextRejected(reason) from vector
    if isinstance(vector, EmbeddingError):
        raise vector
    return vector
