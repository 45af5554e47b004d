from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Ware(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="ware_hnsw")]
