"""Many collections of different dimensions in one table: each search goes through its collection's own index."""

import numpy as np
import pytest
from django.db import connection

from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.testing import assertIndexUsed

pytestmark = pytest.mark.django_db

RANDOM = np.random.default_rng(11)


def fill(name, rows, dimensions):
    collection = Collection.objects.create(name=name)
    vectors = RANDOM.standard_normal((rows, dimensions), dtype=np.float32)
    collection.documents.bulk_load(Document(key=str(i), embedding=vector) for i, vector in enumerate(vectors))
    collection.refresh_from_db()
    return collection


@pytest.fixture(scope="module")
def store(django_db_setup, django_db_blocker):
    """Twenty collections of three different dimensions in one table, each with an index; 50,000 documents."""
    with django_db_blocker.unblock():
        made = [fill(f"store {i}", 2500, (8, 16, 32)[i % 3]) for i in range(20)]
        for collection in made:
            collection.create_hnsw_index()
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE pgembedding_documents_document")
        yield made
        Collection.objects.all().delete()


def test_search_in_a_large_store_uses_the_index_of_its_collection(store, force_index):
    for collection in store:
        rows = collection.documents.nearest(np.ones(collection.dimensions), 10)
        assertIndexUsed(rows, f"pgembedding_documents_{collection.pk}_hnsw")
        assert len(rows) == 10
        assert {row.collection_id for row in rows} == {collection.pk}


def test_search_in_a_large_store_finds_the_nearest(store):
    collection = store[4]
    vectors = dict(collection.documents.values_list("key", "embedding"))
    query = np.ones(collection.dimensions)
    expected = sorted(vectors, key=lambda key: float(np.linalg.norm(vectors[key] - query)))[:10]
    found = [row.key for row in collection.documents.nearest(query, 10, ef_search=400)]
    assert len(set(found) & set(expected)) >= 9
