"""model_bakery: baker makes rows with the vectors that it is handed."""

import pytest
from django.db import models
from model_bakery import baker

from pgembedding_django import EmbeddingField, EmbeddingManager

pytestmark = pytest.mark.django_db


class Leaf(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()


def test_leaf_with_a_vector_is_found():
    leaf = baker.make(Leaf, embedding=[1, 2, 3])
    assert list(Leaf.objects.nearest([1, 2, 3])) == [leaf]


def test_leaf_without_a_vector_is_stored():
    assert baker.make(Leaf).embedding is None
