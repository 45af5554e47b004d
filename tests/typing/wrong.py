"""What the checkers must refuse, each at its line."""

from __future__ import annotations

from pgembedding_django import AddPartition, EmbeddingField, HnswIndex, PartitionTable
from tests.typing.library.models import Article, Book, Note

Article.objects.nearest("x", k="three")  # wrong
Article.objects.nearest("x", nosuch=1)  # wrong
Article.objects.filter(title="x").nearest("x", k="three")  # wrong
Article.objects.nearest()  # wrong
Article.objects.nearest("x", match="worst")  # wrong
Article.objects.nearest("x", min_similarity="much")  # wrong
Article.objects.nearest("x", away_from=3)  # wrong
Article.objects.near_duplicates()  # wrong
Article.objects.nearest_each("x", k="three")  # wrong
PartitionTable("event", "range", fields=["created"], partitions="two")  # wrong
AddPartition("event", 2026)  # wrong
Article.objects.hybrid("x", 3)  # wrong
Article.objects.hybrid("x", fields=[1])  # wrong
Article.objects.nosuch()  # wrong
Note.objects.get(pk=1).typo  # wrong
Article.objects.get(pk=1).typo  # wrong
Article.objects.filter(title="x")[0].typo  # wrong
Article.objects.nearest("x")[0].typo  # wrong
Book.objects.recent().nosuch()  # wrong
Book.objects.recent().nearest("x", exact="yes")  # wrong
Article.objects.bulk_load([Note()])  # wrong
row = Article.objects.get(pk=1)
row.summary = None  # wrong
row.summary = object()  # wrong
row.embedding = object()  # wrong
row.embedding.size  # wrong
text: str = row.summary  # wrong
EmbeddingField(dimensions="three")  # wrong
EmbeddingField(dimensions=3, nosuch=True)  # wrong
HnswIndex(fields=["embedding"], name="x", m="16")  # wrong
HnswIndex(fields=["embedding"], name="x", nosuch=16)  # wrong
