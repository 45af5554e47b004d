"""Every search over a model whose primary key has two columns."""

import numpy as np
import pytest
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.embedders import get_embedder
from pgembedding_django.search.diversity import diversify
from tests.support.many import QUERY, VECTORS

pytestmark = pytest.mark.django_db

N = 400
RANKED = np.argsort(np.linalg.norm(VECTORS[:N].astype(np.float64) - QUERY, axis=1)).tolist()


@pytest.fixture
def Part(isolated, empty_index):
    """Rows of two tenants, of which i // 2 is the number and i % 2 the tenant."""

    class Part(models.Model):
        pk = models.CompositePrimaryKey("tenant", "number")
        tenant = models.IntegerField()
        number = models.IntegerField()
        title = models.CharField(max_length=50)
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="part_hnsw")]

    with connection.schema_editor() as editor:
        editor.create_model(Part)
    Part.objects.bulk_load(
        Part(tenant=i % 2, number=i // 2, title=f"part {i}", embedding=vector) for i, vector in enumerate(VECTORS[:N])
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_part")
    return Part


def ids(rows):
    return [row.number * 2 + row.tenant for row in rows]


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_ranks_pages_and_filters(Part, force_index, exact):
    assert ids(Part.objects.nearest(QUERY, 10, exact=exact)) == RANKED[:10]
    assert ids(Part.objects.nearest(QUERY, 10, exact=exact)[3:7]) == RANKED[3:7]
    odd = Part.objects.filter(tenant=1).nearest(QUERY, 10, exact=exact)
    assert ids(odd) == [i for i in RANKED if i % 2][:10]
    assert odd.explain_nearest()
    page = Part.objects.nearest(QUERY, 10, exact=exact)[3:5].values_list("pk", "distance")
    assert [number * 2 + tenant for (tenant, number), _ in page] == RANKED[3:5]


def test_nearest_of_an_instance_leaves_it_out(Part):
    row = Part.objects.get(pk=(RANKED[0] % 2, RANKED[0] // 2))
    found = ids(Part.objects.nearest(row, 5))
    near = np.argsort(np.linalg.norm(VECTORS[:N].astype(np.float64) - VECTORS[RANKED[0]], axis=1)).tolist()
    assert found == near[1:6]


def test_nearest_is_selected_and_counted_alike(Part):
    rows = Part.objects.nearest(QUERY, 10, max_distance=9)
    assert set(ids(Part.objects.filter(pk__in=rows.values("pk")))) == set(RANKED[:10])
    assert rows.count() == 10


@pytest.mark.pgvector
def test_nearest_through_a_reduced_index(Part, force_index, monkeypatch):
    index = HnswIndex(fields=["embedding"], name="part_half", precision="half")
    with connection.schema_editor() as editor:
        editor.add_index(Part, index)
    monkeypatch.setattr(Part._meta, "indexes", [index])
    rows = Part.objects.nearest(QUERY, 10)
    assert "part_half" in rows.explain()
    assert ids(rows) == RANKED[:10]


def test_nearest_of_each(Part):
    first = [next(i for i in RANKED if i % 2 == tenant) for tenant in (0, 1)]
    assert ids(Part.objects.distinct("tenant").nearest(QUERY, 5)) == sorted(first, key=RANKED.index)


@pytest.mark.parametrize("exact_first", [True, False])
def test_hybrid_fuses_both_rankings(Part, force_index, exact_first):
    rows = Part.objects.filter(tenant=1) if exact_first else Part.objects.all()
    query = get_embedder().embed_query("part 7")
    near = np.argsort(np.linalg.norm(VECTORS[:N].astype(np.float64) - query, axis=1)).tolist()
    near = [i for i in near if i % 2] if exact_first else near
    found = list(rows.hybrid("part 7", 5, fields=["title"], config="simple"))
    scores = {i: 1 / (61 + rank) for rank, i in enumerate(near[:25])}
    scores[7] = scores.get(7, 0) + 1 / 61
    best = sorted(scores, key=lambda i: -scores[i])[:5]
    assert [row.score for row in found] == pytest.approx([scores[i] for i in best])
    assert 7 in ids(found)
    assert rows.hybrid("part 7", 5, fields=["title"]).count() == 5
    assert rows.hybrid("part 7", 5, fields=["title"]).explain_nearest()


def test_diversify_chooses_among_rows(Part):
    rows = Part.objects.nearest(QUERY, 20)
    assert ids(diversify(rows, QUERY, 3, diversity=0))[0] in RANKED[:20]
    assert len(set(ids(diversify(rows, QUERY, 5)))) == 5


def test_every_hit_of_hybrid_has_its_own_score(Part):
    rows = list(Part.objects.hybrid("part", 50, fields=["title"]))
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert len({row.pk for row in rows}) == 50


@pytest.mark.parametrize("match", ["mean", "best"])
def test_nearest_of_several_instances_leaves_them_out(Part, match):
    near = list(Part.objects.nearest(QUERY, 2))
    found = Part.objects.nearest(near, N, match=match)
    assert set(ids(found)) == set(range(N)) - set(ids(near))


def test_near_duplicates_are_paired_once(Part):
    wide = VECTORS[:N].astype(np.float64)
    apart = np.linalg.norm(wide[:, None] - wide, axis=2)
    expected = {frozenset(pair) for pair in np.argwhere(apart <= 0.1).tolist() if pair[0] < pair[1]}
    found = [frozenset(ids(pair[:2])) for pair in Part.objects.near_duplicates(0.1, batch_size=100)]
    assert len(found) == len(expected)
    assert set(found) == expected
