"""What is shipped for the tests of projects."""

import numpy as np
import pytest
from django.db import connection, connections, models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.testing import DummyEmbedder, assertIndexUsed
from tests.models import Article, Required

pytestmark = pytest.mark.django_db


@pytest.fixture
def articles():
    vectors = np.random.default_rng(3).standard_normal((500, 3))
    Article.objects.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(vectors))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")


def test_assert_index_used_passes_where_it_is(articles):
    assertIndexUsed(Article.objects.nearest([1, 2, 3]))
    assertIndexUsed(Article.objects.nearest([1, 2, 3]), "article_embedding_hnsw")


def test_assert_index_used_shows_the_plan_where_it_is_not(articles):
    with pytest.raises(AssertionError) as caught:
        assertIndexUsed(Article.objects.nearest([0.123456789, 0.123456789, 0.123456789], exact=True))
    assert str(caught.value).startswith("The plan does not use article_embedding_hnsw:\nLimit")
    assert "…" in str(caught.value)


def test_assert_index_used_of_another_index_fails(articles):
    with pytest.raises(AssertionError, match="The plan does not use other:"):
        assertIndexUsed(Article.objects.nearest([1, 2, 3]), "other")


def test_assert_index_used_without_declared_index_says_so():
    with pytest.raises(AssertionError, match="an HnswIndex, which Required does not declare"):
        assertIndexUsed(Required.objects.nearest([1, 2, 3]))


@pytest.mark.pgvector
def test_assert_index_used_knows_the_indexes_of_partitions(isolated):
    class Event(models.Model):
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="event_hnsw")]

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute("CREATE TABLE tests_event (id bigint, embedding vector(3)) PARTITION BY LIST (id)")
        cursor.execute("CREATE TABLE tests_event_1 PARTITION OF tests_event DEFAULT")
        cursor.execute("CREATE INDEX event_hnsw ON tests_event USING hnsw (embedding vector_l2_ops)")
    assertIndexUsed(Event.objects.nearest([1, 2, 3]), "event_hnsw")
    with pytest.raises(AssertionError, match="The plan does not use event_hnsw:"):
        assertIndexUsed(Event.objects.nearest([1, 2, 3], exact=True))


def test_assert_index_used_fails_where_there_is_no_index(sqlite):
    with connections["lite"].schema_editor() as editor:
        editor.create_model(Article)
    with pytest.raises(AssertionError, match="The plan does not use article_embedding_hnsw:"):
        assertIndexUsed(Article.objects.using("lite").nearest([1, 2, 3]))


def test_dummy_embedder_is_shipped():
    assert DummyEmbedder(dimensions=4).embed(["a"]).shape == (1, 4)
