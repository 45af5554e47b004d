"""A model whose rows are named by two columns, as tenants, partitions and shards need it."""

from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Leaf(models.Model):
    pk = models.CompositePrimaryKey("tenant_id", "id")
    tenant_id = models.IntegerField()
    id = models.IntegerField()
    body = models.TextField(blank=True)
    embedding = EmbeddingField(dimensions=3, source="body", null=True)
    other = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()

    class Meta:
        app_label = "composite"
        indexes = [HnswIndex(fields=["embedding"], name="leaf_embedding_hnsw")]

    def __str__(self):
        return self.body
