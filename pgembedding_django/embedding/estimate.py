"""What embedding rows will take, before any of it is paid for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import QuerySet

from pgembedding_django.embedders import get_embedder
from pgembedding_django.embedding.rows import PAGE, base_rows, read_rows, stale_pks
from pgembedding_django.fields import EmbeddingField

__all__ = ["Estimate", "estimate"]


@dataclass
class Estimate:
    """
    What will be sent, at most: identical texts are sent once.

    tokens: estimated by the embedder, rather too many than too few. price: None where the embedder has none configured.
    """

    rows: int = 0
    characters: int = 0
    tokens: int = 0
    price: float | None = None


def estimate(
    queryset: QuerySet[Any], field: EmbeddingField, *, fresh_too: bool = False, limit: int | None = None
) -> Estimate:
    """Read the texts of the stale rows, a page at a time, and return what embedding them takes; sends nothing."""
    embedder, source, found = get_embedder(field.embedder), field.text_source, Estimate()
    pks = islice(stale_pks(queryset, field, fresh_too=fresh_too), limit)
    while page := list(islice(pks, PAGE)):
        for row in read_rows(base_rows(field, queryset.db).filter(pk__in=page), source):
            if row.text:
                found.rows += 1
                found.characters += len(row.text)
                found.tokens += embedder.estimate_tokens(row.text)
    if embedder.price is not None:
        found.price = found.tokens * embedder.price / 1_000_000
    return found
