"""model_bakery: baker makes rows with the vectors that it is handed, or with random ones."""

import pytest
from django.db import models
from model_bakery import baker

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db


class Leaf(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()


class Root(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", sync="save")
    loose = EmbeddingField()

    objects = EmbeddingManager()


@pytest.fixture
def random_vectors(settings):
    settings.BAKER_CUSTOM_FIELDS_GEN = {
        "pgembedding_django.EmbeddingField": "pgembedding_django.contrib.model_bakery.random_vector"
    }


def test_leaf_with_a_vector_is_found():
    leaf = baker.make(Leaf, embedding=[1, 2, 3])
    assert list(Leaf.objects.nearest([1, 2, 3])) == [leaf]


def test_leaf_without_a_vector_is_stored():
    assert baker.make(Leaf).embedding is None


def test_root_whose_vectors_must_be_there_has_random_ones(random_vectors):
    one, other = baker.make(Root, _quantity=2)
    assert type(one.embedding) is type(one.loose) is Vector
    assert one.embedding != other.embedding
    assert Root.objects.nearest(one.embedding, 1, field="embedding").get() == one


def test_many_roots_are_made_at_once(random_vectors):
    assert len(baker.make(Root, _quantity=3, _bulk_create=True)) == Root.objects.count() == 3
