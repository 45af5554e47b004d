"""django-cte: what joins a CTE is ranked, counted and selected through it."""

import numpy as np
import pytest
from django.db import connection, models
from django_cte import CTE, with_cte

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex

pytestmark = pytest.mark.django_db

VECTORS = np.random.default_rng(6).standard_normal((600, 3)).astype(np.float32)
QUERY = np.array([0.1, 0.2, -0.3], dtype=np.float32)
RANKED = np.argsort(np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)).tolist()


class Place(models.Model):
    title = models.CharField(max_length=50)
    open = models.BooleanField()
    embedding = EmbeddingField(dimensions=3)

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="place_hnsw")]


@pytest.fixture
def places():
    """The places that a CTE of those that are open joins; sorts are dear, so that the index shows."""
    Place.objects.bulk_load(Place(title=str(i), open=i % 2 == 0, embedding=vector) for i, vector in enumerate(VECTORS))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE neighbours_place; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off")
    cte = CTE(Place.objects.filter(open=True).values("id"))
    return with_cte(cte, select=cte.join(Place, id=cte.col.id))


OPEN = [i for i in RANKED if i % 2 == 0]


def ids(rows):
    return [int(row.title) for row in rows]


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_ranks_what_the_cte_joins(places, exact):
    rows = places.nearest(QUERY, 10, exact=exact)
    assert ids(rows) == OPEN[:10]
    assert ids(rows[5:]) == OPEN[5:10]


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_of_a_cte_is_counted_and_selected(places, exact):
    rows = places.nearest(QUERY, 10, exact=exact)
    assert rows.count() == 10
    assert set(ids(Place.objects.filter(pk__in=rows.values("pk")))) == set(OPEN[:10])


def test_hybrid_ranks_what_the_cte_joins(places):
    rows = places.hybrid("12", 5, fields=["title"])
    assert len(rows) == rows.count() == 5
    assert all(row.open for row in rows)
    assert "12" in {row.title for row in rows}
