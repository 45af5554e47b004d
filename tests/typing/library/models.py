"""The models of a project: each way to declare a manager, and both kinds of field."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, EmbeddingQuerySet, HnswIndex
from pgembedding_django.passages import Passage, Splits


class Article(models.Model):
    title = models.CharField(max_length=200)
    body = models.TextField()
    embedding = EmbeddingField(dimensions=3, source="body", null=True)
    summary = EmbeddingField(dimensions=3)

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="library_article_hnsw", m=16, distance="cosine")]


class Note(models.Model):
    embedding = EmbeddingField(3)

    objects = EmbeddingManager["Note"]()


class Author(models.Model):
    """A model without a vector, whose books have one."""

    name = models.CharField(max_length=200)

    objects = EmbeddingManager()


class AuthorPassage(Passage):
    author = models.ForeignKey(Author, models.CASCADE, related_name="passages")
    embedding = EmbeddingField(dimensions=3, source="text")
    splits = Splits("name", size=100, overlap=0)


class BookQuerySet(EmbeddingQuerySet["Book"]):
    def by(self, author: str) -> BookQuerySet:
        return self.filter(author=author)


class BookManager(EmbeddingManager["Book"]):
    def get_queryset(self) -> BookQuerySet:
        return BookQuerySet(self.model, using=self._db)

    def recent(self) -> BookQuerySet:
        return self.get_queryset().filter(year__gte=2020)


class Book(models.Model):
    author = models.CharField(max_length=200)
    year = models.IntegerField(default=2020)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = BookManager()


class PageQuerySet(EmbeddingQuerySet["Page"]):
    def long(self) -> PageQuerySet:
        return self.filter(length__gt=1000)


class Page(models.Model):
    length = models.IntegerField()
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = PageQuerySet.as_manager()


class Chapter(models.Model):
    embedding = EmbeddingField(dimensions=3, null=True)

    objects: ClassVar[EmbeddingManager[Chapter]] = EmbeddingManager()
