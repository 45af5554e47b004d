"""search_all(): one ranking over the rows of several models."""

import numpy as np
import pytest
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager, search_all

pytestmark = pytest.mark.django_db

RNG = np.random.default_rng(5)
PAPERS, TALKS = (RNG.normal(size=(40, 3)).astype(np.float32) for _ in range(2))
QUERY = np.float32([0.2, -0.1, 0.4])

ASKED = []


def embed(texts):
    """An embedder of the project: each text lies where QUERY does."""
    ASKED.extend(texts)
    return [QUERY] * len(texts)


@pytest.fixture
def site(isolated):
    class Paper(models.Model):
        embedding = EmbeddingField(dimensions=3, null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    class Talk(models.Model):
        embedding = EmbeddingField(dimensions=3, null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        for model, vectors in ((Paper, PAPERS), (Talk, TALKS)):
            editor.create_model(model)
            model.objects.bulk_load(model(pk=i, embedding=vector) for i, vector in enumerate(vectors))
    isolated.Paper, isolated.Talk = Paper, Talk
    return isolated


def brute_force(query, papers=range(40), talks=range(40)):
    found = [("Paper", i, float(np.linalg.norm(PAPERS[i] - query))) for i in papers]
    found += [("Talk", i, float(np.linalg.norm(TALKS[i] - query))) for i in talks]
    return sorted(found, key=lambda row: row[2])


def named(rows):
    return [(type(row).__name__, row.pk) for row in rows]


def test_rows_of_all_models_come_in_one_ranking(site):
    rows = search_all([site.Paper.objects.all(), site.Talk.objects.all()], QUERY, 12)
    wanted = brute_force(QUERY)[:12]
    assert named(rows) == [row[:2] for row in wanted]
    np.testing.assert_allclose([row.distance for row in rows], [row[2] for row in wanted], rtol=1e-5)


def test_each_queryset_keeps_its_filter(site):
    rows = search_all([site.Paper.objects.filter(pk__lt=5), site.Talk.objects.filter(pk__gte=38)], QUERY, 10)
    assert named(rows) == [row[:2] for row in brute_force(QUERY, range(5), range(38, 40))]


def test_an_instance_is_left_out_of_its_own_model(site):
    paper = site.Paper.objects.get(pk=3)
    rows = search_all([site.Talk.objects.all(), site.Paper.objects.all()], paper, 5)
    assert named(rows) == [row[:2] for row in brute_force(PAPERS[3]) if row[:2] != ("Paper", 3)][:5]


def test_a_text_is_embedded_once(site, settings):
    ASKED.clear()
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"default": {"BACKEND": f"{__name__}.embed"}}}
    rows = search_all([site.Paper.objects.all(), site.Talk.objects.all()], "a text", 3, max_distance=10)
    assert (named(rows), ASKED) == ([row[:2] for row in brute_force(QUERY)[:3]], ["a text"])


def test_another_distance_and_alias_are_those_of_all(site):
    rows = search_all([site.Paper.objects.all(), site.Talk.objects.all()], QUERY, 3, distance="cosine", alias="away")
    assert [row.away for row in rows] == sorted(row.away for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 4}, "dimensions 3 and 4"),
        ({"dimensions": 3, "embedder": "other"}, "embedder 'default' and 'other'"),
        ({"dimensions": 3, "distance": "cosine"}, "distance 'l2' and 'cosine'"),
    ],
)
def test_fields_that_cannot_be_compared_are_named(site, options, message):
    class Film(models.Model):
        vector = EmbeddingField(**options)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with pytest.raises(ValueError) as caught:
        search_all([site.Paper.objects.all(), Film.objects.all()], QUERY)
    assert str(caught.value) == (
        f"Paper.embedding and Film.vector cannot be ranked together: {message}. Search each by itself."
    )


def test_no_queryset_is_refused():
    with pytest.raises(ValueError, match="at least one queryset"):
        search_all([], QUERY)
