"""Section: a piece of the documentation, and the vector that stands for it."""

from django.db import models

from example_project.pydocs.corpus.entry import LANGUAGE, LIBRARY
from example_project.pydocs.passage import passage
from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Section(models.Model):
    """One section of the language reference, or one docstring of the standard library."""

    class Part(models.TextChoices):
        LANGUAGE = LANGUAGE, "Language reference"
        LIBRARY = LIBRARY, "Standard library"

    name = models.CharField(max_length=200, unique=True)
    part = models.CharField(max_length=20, choices=Part)
    topic = models.CharField(max_length=200)
    title = models.CharField(max_length=200)
    text = models.TextField()
    url = models.URLField(max_length=400)
    embedding = EmbeddingField(dimensions=256, source="passage", null=True, blank=True)

    objects = EmbeddingManager()

    class Meta:
        ordering = ["id"]
        # Both embedders give vectors of length 1, for which every distance ranks alike. Cosine is the one people can
        # read: 0 is the same direction, 1 has nothing in common.
        indexes = [HnswIndex(fields=["embedding"], name="section_embedding_hnsw", distance="cosine")]

    def __str__(self):
        return self.title if self.topic in self.title else f"{self.topic} › {self.title}"

    def passage(self):
        """Return the text that the vector stands for."""
        return passage(self.topic, self.title, self.text)
