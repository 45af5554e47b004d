"""A model for tests that declare one of their own."""

from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager


def make_note(*declared, base=models.Model, **options):
    """Make tests.Note in the app registry of now, with a vector of three dimensions that may be missing."""

    class Note(base):
        title = models.CharField(max_length=200, db_default="")
        kind = models.IntegerField(db_default=0)
        embedding = EmbeddingField(**{"dimensions": 3, "null": True, **options})

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = list(declared)

    return Note
