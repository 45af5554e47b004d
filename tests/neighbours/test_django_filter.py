"""django-filter: a FilterSet of named fields narrows what is ranked."""

import django_filters
import pytest
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager

pytestmark = pytest.mark.django_db


class Photo(models.Model):
    title = models.CharField(max_length=50)
    year = models.IntegerField()
    embedding = EmbeddingField(dimensions=2)

    objects = EmbeddingManager()


class PhotoFilter(django_filters.FilterSet):
    class Meta:
        model = Photo
        fields = {"year": ["gte"]}


def test_nearest_ranks_what_the_filterset_keeps():
    old, new = (Photo.objects.create(title=f"{year}", year=year, embedding=[year, 0]) for year in (1990, 2020))
    filtered = PhotoFilter({"year__gte": "2000"}, queryset=Photo.objects.all()).qs
    assert list(filtered.nearest(old.embedding)) == [new]
