"""What embedding rows will take, before any of it is paid for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

from django.db.models import Count, QuerySet, Sum, Value
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from pgembedding_django.embedders import get_embedder
from pgembedding_django.embedding.rows import PAGE, base_rows, read_rows, stale_pks
from pgembedding_django.fields import EmbeddingField

__all__ = ["Estimate", "estimate"]

#: What is added to rows.
TEXT = "_pgembedding_text"


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
    """
    Return what embedding the stale rows takes; sends nothing.

    Where columns are the source, Postgres counts, and the tokens of more than 1,000 rows are estimated from 1,000 that
    are drawn. Where a method is, all texts are read, a page at a time.
    """
    count = _count if field.text_source.columns else _read
    estimated, embedder = count(queryset, field, fresh_too, limit), get_embedder(field.embedder)
    if embedder.price is not None:
        estimated.price = estimated.tokens * embedder.price / 1_000_000
    return estimated


def _count(queryset: QuerySet[Any], field: EmbeddingField, fresh_too: bool, limit: int | None) -> Estimate:
    source = field.text_source
    wanted = queryset if fresh_too else queryset.filter(source.stale_condition)
    # What is joined may have a row twice.
    pks = wanted.order_by("pk").values("pk")[:limit] if limit else wanted.order_by().values("pk")
    rows = base_rows(field, queryset.db).filter(pk__in=pks).annotate(**{TEXT: source.text_expression})
    rows = rows.exclude(Exact(source.text_expression, Value("")))
    estimated = Estimate(**rows.aggregate(rows=Count("*"), characters=Sum(Length(TEXT), default=0)))
    drawn = rows.order_by("?").values_list("pk", flat=True)[:PAGE]
    texts = rows.filter(pk__in=list(drawn)) if estimated.rows > PAGE else rows
    sample = _measure(texts.values_list(TEXT, flat=True), field)
    estimated.tokens = ceil(sample.tokens * estimated.characters / sample.characters) if sample.characters else 0
    return estimated


def _read(queryset: QuerySet[Any], field: EmbeddingField, fresh_too: bool, limit: int | None) -> Estimate:
    estimated = Estimate()
    pks = islice(stale_pks(queryset, field, fresh_too=fresh_too), limit)
    while page := list(islice(pks, PAGE)):
        rows = read_rows(base_rows(field, queryset.db).filter(pk__in=page), field.text_source)
        more = _measure((row.text for row in rows if row.text), field)
        estimated.rows += more.rows
        estimated.characters += more.characters
        estimated.tokens += more.tokens
    return estimated


def _measure(texts: Iterable[str], field: EmbeddingField) -> Estimate:
    embedder, estimated = get_embedder(field.embedder), Estimate()
    for text in texts:
        estimated.rows += 1
        estimated.characters += len(text)
        estimated.tokens += embedder.estimate_tokens(text)
    return estimated
