"""Rows that were found, in the order in which a reranker would read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Model

from pgembedding_django.bounds import is_integer
from pgembedding_django.rerankers import Reranker, get_reranker
from pgembedding_django.search.fields import find_field

__all__ = ["arerank", "rerank"]

M = TypeVar("M", bound=Model)


def rerank(
    rows: Iterable[M],
    text: str,
    k: int = 10,
    *,
    by: str | Reranker = "default",
    field: str | None = None,
    of: str | None = None,
    alias: str = "score",
) -> list[M]:
    """
    Return the k rows that best answer a text, the best first, as a reranker scores them.

    rows: candidates, such as `nearest(text, 5 * k)`; instances.
    by: the alias in PGEMBEDDING["RERANKERS"], or a Reranker itself.
    field: the EmbeddingField whose source is the rows' text; needed only where several have one. of: the name of a text
        field or method to read in its place.
    alias: the attribute that holds the score of each row; the greater the better, and None for a row without text,
        which comes last.
    Rows of one score keep their order. One call to the reranker, which may cost money.
    Raises RerankingError, of which RerankerUnavailable may pass, and ValueError for arguments out of bounds.
    """
    if not is_integer(k, 1):
        raise ValueError(f"k must be a positive integer, got {k!r}.")
    candidates = list(rows)
    if not candidates:
        return []
    texts = [_text_of(row, field, of) for row in candidates]
    reranker = get_reranker(by) if isinstance(by, str) else by
    filled = [position for position, candidate in enumerate(texts) if candidate]
    scores = reranker.score(text, [texts[position] for position in filled])
    known = dict(zip(filled, scores.tolist(), strict=True))
    for position, row in enumerate(candidates):
        setattr(row, alias, known.get(position))
    order = sorted(range(len(candidates)), key=lambda position: -known.get(position, float("-inf")))
    return [candidates[position] for position in order[:k]]


async def arerank(rows: Iterable[M], text: str, k: int = 10, **options: Any) -> list[M]:
    """Do as `rerank`, in a thread; an async queryset is read there too."""
    return await sync_to_async(rerank)(rows, text, k, **options)


def _text_of(row: Model, field: str | None, of: str | None) -> str:
    if not isinstance(row, Model):
        raise ValueError(f"rerank() orders instances of a model, got {type(row).__name__}. Leave out values().")
    if of is None:
        return find_field(type(row), field).text_source.text(row)
    value = getattr(row, of)
    return str(value() if callable(value) else value or "").strip()
