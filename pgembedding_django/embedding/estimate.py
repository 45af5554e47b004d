"""What embedding rows will take, before any of it is paid for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

from django.db.models import Count, QuerySet, Sum, Value
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from pgembedding_django.embedders import Embedder, get_embedder
from pgembedding_django.embedding.rows import PAGE, base_rows, read_rows, stale_pks
from pgembedding_django.fields import EmbeddingField

__all__ = ["Estimate", "estimate"]

#: Rows with too long a text that are named.
MOST_NAMED = 5

#: The most tokens that a character is estimated at: four bytes of UTF-8 at two thirds each.
TOKENS_PER_CHARACTER = 8 / 3

#: What is added to rows.
TEXT, LENGTH = "_pgembedding_text", "_pgembedding_length"


@dataclass
class Estimate:
    """
    What will be sent, at most: identical texts are sent once.

    tokens: estimated by the embedder, rather too many than too few. price: None where the embedder has none configured.
    too_long: how many texts have more tokens than the embedder takes, of columns among the 1,000 longest. longest:
        primary keys of the first of those rows.
    """

    rows: int = 0
    characters: int = 0
    tokens: int = 0
    price: float | None = None
    too_long: int = 0
    longest: list[Any] = field(default_factory=list)

    def set_price(self, embedder: Embedder) -> None:
        """Price the tokens, where the embedder has a price."""
        if embedder.price is not None:
            self.price = self.tokens * embedder.price / 1_000_000

    def note_long(self, pk: Any) -> None:
        self.too_long += 1
        if len(self.longest) < MOST_NAMED:
            self.longest.append(pk)


def estimate(
    queryset: QuerySet[Any], field: EmbeddingField, *, fresh_too: bool = False, limit: int | None = None
) -> Estimate:
    """
    Return what embedding the stale rows takes; sends nothing.

    Where columns are the source, Postgres counts, and the tokens of more than 1,000 rows are estimated from 1,000 that
    are drawn. Where a method is, all texts are read, a page at a time.
    """
    count = _count if field.text_source.columns else _read
    estimated = count(queryset, field, fresh_too, limit)
    estimated.set_price(get_embedder(field.embedder))
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
    most = get_embedder(field.embedder).max_tokens
    if most is not None:
        maybe = rows.annotate(**{LENGTH: Length(TEXT)}).filter(**{f"{LENGTH}__gt": most / TOKENS_PER_CHARACTER})
        for pk, text in maybe.order_by(f"-{LENGTH}", "pk").values_list("pk", TEXT)[:PAGE]:
            _note_if_long(estimated, pk, text, field)
    return estimated


def _read(queryset: QuerySet[Any], field: EmbeddingField, fresh_too: bool, limit: int | None) -> Estimate:
    estimated = Estimate()
    pks = islice(stale_pks(queryset, field, fresh_too=fresh_too), limit)
    while page := list(islice(pks, PAGE)):
        rows = read_rows(base_rows(field, queryset.db).filter(pk__in=page), field.text_source)
        with_text = [row for row in rows if row.text]
        more = _measure((row.text for row in with_text), field)
        for row in with_text:
            _note_if_long(estimated, row.pk, row.text, field)
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


def _note_if_long(estimated: Estimate, pk: Any, text: str, field: EmbeddingField) -> None:
    embedder = get_embedder(field.embedder)
    if embedder.max_tokens is not None and embedder.estimate_tokens(text) > embedder.max_tokens:
        estimated.note_long(pk)
