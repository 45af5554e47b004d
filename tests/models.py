"""Models of the tests, with real migrations."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.passages import Passage, Splits


class Section(models.Model):
    """A model without a vector, whose articles have one."""

    name = models.CharField(max_length=50)

    objects = EmbeddingManager()


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


class Everything(models.Model):
    """A field of each type that bulk_load() writes."""

    key = models.UUIDField(default=uuid.uuid4, unique=True)
    text = models.TextField(null=True)
    char = models.CharField(max_length=20, default="char")
    small = models.SmallIntegerField(null=True)
    integer = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    flag = models.BooleanField(null=True)
    number = models.FloatField(null=True)
    price = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    data = models.JSONField(null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    span = models.DurationField(null=True)
    raw = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    numbers = ArrayField(models.IntegerField(), null=True)
    words = ArrayField(models.CharField(max_length=10), null=True)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)
    filled = models.IntegerField(db_default=7)
    section = models.ForeignKey(Section, models.CASCADE, null=True)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()


class Tag(models.Model):
    """A model that has nothing but what is unique, and a primary key made in Python."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, unique=True)

    objects = EmbeddingManager()


class Memo(models.Model):
    """Vectors of two columns together, and of what a method says."""

    title = models.CharField(max_length=200, blank=True)
    body = models.TextField(null=True)
    views = models.IntegerField(default=0)
    embedding = EmbeddingField(dimensions=3, source=["title", "body"], null=True)
    loud = EmbeddingField(dimensions=3, source="shout", null=True)

    objects = EmbeddingManager()

    def shout(self):
        return self.title.upper()


class Strict(models.Model):
    """A vector that must be there, of a text that may be missing."""

    text = models.TextField(blank=True)
    embedding = EmbeddingField(dimensions=3, source="text")

    objects = EmbeddingManager()


class Saved(models.Model):
    """A vector that save() makes."""

    text = models.TextField(blank=True)
    views = models.IntegerField(default=0)
    embedding = EmbeddingField(dimensions=3, source="text", null=True, sync="save")

    objects = EmbeddingManager()


class Queued(models.Model):
    """A vector that a task makes, and a primary key that is no JSON."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.TextField(blank=True)
    views = models.IntegerField(default=0)
    embedding = EmbeddingField(dimensions=3, source="text", null=True, sync="task")

    objects = EmbeddingManager()


class Guide(models.Model):
    """A long text, whose passages have the vectors."""

    title = models.CharField(max_length=50, blank=True)
    body = models.TextField(null=True)
    views = models.IntegerField(default=0)

    objects = EmbeddingManager()

    def __str__(self):
        return self.title


def paragraphs(text):
    return text.split("\n\n")


class GuidePassage(Passage):
    """A paragraph of a guide."""

    guide = models.ForeignKey(Guide, models.CASCADE, related_name="passages")
    embedding = EmbeddingField(dimensions=3, source="text", null=True)
    splits = Splits("body", splitter=paragraphs)


class Letter(models.Model):
    """A text whose passages follow save()."""

    body = models.TextField()


class LetterPassage(Passage):
    """A piece of a letter that must have its vector, as save() makes it."""

    letter = models.ForeignKey(Letter, models.CASCADE, related_name="passages")
    embedding = EmbeddingField(dimensions=3, source="text", sync="save")
    splits = "body"
