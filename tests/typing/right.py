"""What the checkers must accept, and the types that they must find."""

from __future__ import annotations

from typing import Any, Protocol, assert_type, cast

import numpy as np
from django.contrib import admin
from django.db.models import F, Q
from numpy.typing import NDArray

from pgembedding_django import AddPartition, EmbeddingQuerySet, L2Distance, PartitionTable, Vector
from pgembedding_django.admin import EmbeddingAdminMixin
from tests.typing.library.models import Article, Author, AuthorPassage, Book, BookQuerySet, Chapter, Note

# Rows are rows of the model, whatever declares its manager.
assert_type(Article.objects.get(pk=1), Article)
assert_type(Article.objects.filter(title="x").first(), Article | None)
assert_type(Article.objects.create(title="x"), Article)
for article in Article.objects.filter(title="x"):
    assert_type(article, Article)
assert_type(Note.objects.get(pk=1), Note)
assert_type(Chapter.objects.get(pk=1), Chapter)
assert_type(Book.objects.get(pk=1), Book)

row_of_mine = Article.objects.get(pk=1)

# Querysets of the model, before and after a ranking.
assert_type(Article.objects.all(), EmbeddingQuerySet[Article])
assert_type(Article.objects.filter(title="x"), EmbeddingQuerySet[Article])
assert_type(Article.objects.exclude(title="x"), EmbeddingQuerySet[Article])
assert_type(Article.objects.select_related(), EmbeddingQuerySet[Article])
assert_type(Article.objects.order_by("title").stale(), EmbeddingQuerySet[Article])
assert_type(Article.objects.stale(), EmbeddingQuerySet[Article])
assert_type(Article.objects.nearest("text"), EmbeddingQuerySet[Article])
assert_type(Article.objects.nearest([0.1, 0.2, 0.3], 5, exact=True, max_distance=0.5), EmbeddingQuerySet[Article])
assert_type(Article.objects.filter(title="x").nearest(np.zeros(3), k=3), EmbeddingQuerySet[Article])
assert_type(Article.objects.nearest([row_of_mine], 5, away_from=[0.1, 0.2], match="best"), EmbeddingQuerySet[Article])
assert_type(
    Article.objects.hybrid(
        "text", fields=["title"], weights=(2, 1), words=Q(title="x"), fusion=2 * F("score"), snippet="title"
    ),
    EmbeddingQuerySet[Article],
)
assert_type(Article.objects.nearest("text").facets("title"), dict[str, dict[Any, int]])
assert_type(next(Article.objects.near_duplicates(0.1)).other, Article)
assert_type(Article.objects.nearest("text", similarity="like", min_similarity=0.7), EmbeddingQuerySet[Article])
assert_type(Article.objects.hybrid("text", fields=["title", "body"]), EmbeddingQuerySet[Article])
assert_type(Note.objects.nearest(Note.objects.get(pk=1)), EmbeddingQuerySet[Note])
assert_type(Chapter.objects.nearest("text", distance=L2Distance), EmbeddingQuerySet[Chapter])
assert_type(Article.objects.nearest("text")[0], Article)

# Across a relation, rows of the model that leads to the field.
assert_type(Author.objects.nearest("text", 5, field="books__embedding"), EmbeddingQuerySet[Author])
for author in Author.objects.filter(name="x").nearest([0.1, 0.2, 0.3], field="books__embedding", max_distance=0.5):
    assert_type(author, Author)

# More like some rows and less like others, across a relation, many at once, and pairs.
note = Note.objects.get(pk=1)
assert_type(Note.objects.nearest([note, note], away_from=[note], match="best"), EmbeddingQuerySet[Note])
assert_type(Article.objects.nearest("text", similarity="likeness", min_similarity=0.5), EmbeddingQuerySet[Article])
assert_type(Article.objects.nearest("text", field="notes__embedding")[0], Article)
assert_type(Note.objects.nearest_each(["text", note], 5), list[list[Note]])
for one, other, apart in Note.objects.near_duplicates(0.1):
    assert_type(one, Note)
    assert_type(other, Note)
    assert_type(apart, float)

# Passages.
split: int = AuthorPassage.objects.embed(limit=10, parents=Author.objects.filter(name="x")).parents
excerpt: str = AuthorPassage(text="x").excerpt

# What a subclass adds is there, and stays after a ranking.
assert_type(Book.objects.recent(), BookQuerySet)
assert_type(Book.objects.recent().by("x").nearest("text"), BookQuerySet)
assert_type(Book.objects.get_queryset().by("x"), BookQuerySet)

# The value of a field.
row = Article.objects.get(pk=1)
assert_type(row.embedding, Vector | None)
assert_type(row.summary, Vector)
row.embedding = None
row.embedding = [0.1, 0.2, 0.3]
row.embedding = (1, 2, 3)
row.summary = np.zeros(3, dtype=np.float32)
row.summary = "[1,2,3]"
numbers: NDArray[np.float32] = row.summary
norm = float(np.linalg.norm(row.summary))

# Operations of a migration.
operations = [
    PartitionTable("event", "range", fields=["created"]),
    AddPartition("event", "event_2026", start="2026-01-01", end="2027-01-01"),
]

# The report of a run.
report = Article.objects.embed(limit=10)
loaded: int = Article.objects.bulk_load([row])


class Ranked(Protocol):
    distance: float
    nearest_pk: int


def distance_of(found: Article) -> float:
    """The annotation of nearest() is no attribute of the model; a protocol names it."""
    return cast(Ranked, found).distance


class ArticleAdmin(EmbeddingAdminMixin, admin.ModelAdmin[Article]):
    list_display = ["title"]
