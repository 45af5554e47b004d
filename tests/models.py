"""Models of the tests, with real migrations."""

from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Section(models.Model):
    name = models.CharField(max_length=50)


class Article(models.Model):
    """The model that the README shows, with three dimensions."""

    title = models.CharField(max_length=200)
    published = models.BooleanField(default=True)
    section = models.ForeignKey(Section, models.CASCADE, null=True, blank=True)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="article_embedding_hnsw")]

    def __str__(self):
        return self.title


class Required(models.Model):
    """A vector that must be there, and no index."""

    embedding = EmbeddingField(dimensions=3)

    objects = EmbeddingManager()


class Pair(models.Model):
    """Two vectors in one row, by cosine and by L1."""

    one = EmbeddingField(dimensions=2, null=True)
    two = EmbeddingField(dimensions=2, null=True)

    objects = EmbeddingManager()

    class Meta:
        indexes = [
            HnswIndex(fields=["one"], name="pair_one_cosine", distance="cosine"),
            HnswIndex(fields=["two"], name="pair_two_l1", distance="l1", m=8, ef_construction=32, ef_search=50),
        ]


class Loose(models.Model):
    """A vector of any length."""

    embedding = EmbeddingField(null=True)

    objects = EmbeddingManager()
