"""django-polymorphic: nearest() returns rows of their own class with their distance, in order."""

import pytest
from django.db import models
from polymorphic.managers import PolymorphicManager, PolymorphicQuerySet
from polymorphic.models import PolymorphicModel

from pgembedding_django import EmbeddingField, EmbeddingQuerySet, HnswIndex

pytestmark = pytest.mark.django_db


class SiteQuerySet(PolymorphicQuerySet, EmbeddingQuerySet):
    pass


class Site(PolymorphicModel):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = PolymorphicManager.from_queryset(SiteQuerySet)()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="site_hnsw")]


class City(Site):
    people = models.IntegerField(default=0)


class Lake(Site):
    depth = models.IntegerField(default=0)


@pytest.fixture
def places():
    return [
        City.objects.create(title="a", embedding=[1, 0, 0], people=9),
        Lake.objects.create(title="b", embedding=[2, 0, 0], depth=5),
        Site.objects.create(title="c", embedding=[4, 0, 0]),
    ]


@pytest.mark.parametrize("exact", [None, True, False])
def test_rows_are_of_their_own_class_and_have_their_distance(places, exact):
    rows = list(Site.objects.nearest([0, 0, 0], exact=exact))
    assert rows == places
    assert [type(row) for row in rows] == [City, Lake, Site]
    assert [row.distance for row in rows] == [1, 2, 4]
    assert (rows[0].people, rows[1].depth) == (9, 5)


def test_rows_of_one_class_are_ranked(places):
    assert list(Lake.objects.nearest([0, 0, 0])) == [places[1]]
    assert list(Site.objects.instance_of(City).nearest([0, 0, 0])) == [places[0]]
    assert list(Site.objects.nearest(places[0], 1)) == [places[1]]


def test_hybrid_and_embed_take_every_class(places):
    assert places[1] in Site.objects.hybrid("b", fields=["title"])
    Site.objects.update(title="new")
    assert Site.objects.embed().embedded == 3
    assert not Site.objects.stale().exists()
