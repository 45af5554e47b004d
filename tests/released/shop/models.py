"""The models of a project that began with 0.1.0: each option of a field and an index that a migration writes."""

from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex


class Product(models.Model):
    name = models.CharField(max_length=100)
    text = models.TextField()
    embedding = EmbeddingField(dimensions=3, source=["name", "text"], null=True)
    picture = EmbeddingField(dimensions=3, storage="half", null=True, source="name", sync="task")
    signs = EmbeddingField(dimensions=8, null=True)
    free = EmbeddingField(null=True)

    objects = EmbeddingManager()

    class Meta:
        indexes = [
            HnswIndex(fields=["embedding"], name="shop_product_l2"),
            HnswIndex(
                fields=["picture"],
                name="shop_product_cosine",
                distance="cosine",
                m=8,
                ef_construction=32,
                ef_search=100,
                condition=models.Q(name__gt="a"),
            ),
            HnswIndex(fields=["signs"], name="shop_product_binary", precision="binary"),
            HnswIndex(fields=["embedding"], name="shop_product_ip", opclasses=["vector_ip_ops"]),
        ]
