"""django-filter: a FilterSet of named or all fields narrows what is ranked, and a NearestFilter ranks."""

import django_filters
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, SparseVectorField
from pgembedding_django.contrib.django_filters import NearestFilter

pytestmark = pytest.mark.django_db


class Photo(models.Model):
    title = models.CharField(max_length=50)
    year = models.IntegerField()
    embedding = EmbeddingField(dimensions=3, source="title", null=True)
    bits = BitField(length=4, null=True)
    words = SparseVectorField(dimensions=9, null=True)

    objects = EmbeddingManager()


class PhotoFilter(django_filters.FilterSet):
    class Meta:
        model = Photo
        fields = {"year": ["gte"]}


class AllFields(django_filters.FilterSet):
    class Meta:
        model = Photo
        fields = "__all__"


class Ranked(django_filters.FilterSet):
    year = django_filters.NumberFilter(lookup_expr="gte")
    near = NearestFilter(field_name="embedding", k=2)

    class Meta:
        model = Photo
        fields = []


class Early(django_filters.FilterSet):
    near = NearestFilter(field_name="embedding")
    year = django_filters.NumberFilter()

    class Meta:
        model = Photo
        fields = []


@pytest.fixture
def photos():
    return [Photo.objects.create(title=f"{x}", year=x, embedding=[x, 0, 1]) for x in range(1, 9)]


def test_nearest_ranks_what_the_filterset_keeps(photos):
    filtered = PhotoFilter({"year__gte": "5"}, queryset=Photo.objects.all()).qs
    assert list(filtered.nearest(photos[0].embedding, 2)) == photos[4:6]


def test_all_fields_filter_by_the_vector_too(photos):
    assert list(AllFields({"embedding": "[3,0,1]"}, queryset=Photo.objects.all()).qs) == [photos[2]]


def test_all_fields_name_a_wrong_vector():
    filtered = AllFields({"embedding": "[3]"}, queryset=Photo.objects.all())
    assert not filtered.is_valid()
    assert filtered.errors["embedding"] == ["Embedding must have 3 dimensions, got 1."]


@pytest.mark.parametrize(("name", "text"), [("bits", "0110"), ("words", "{1:0.5,9:2}/9")])
def test_all_fields_filter_by_bits_and_sparse_vectors_too(photos, name, text):
    Photo.objects.filter(pk=photos[4].pk).update(**{name: text})
    assert list(AllFields({name: text}, queryset=Photo.objects.all()).qs) == [photos[4]]


@pytest.mark.parametrize(
    ("name", "message"),
    [("bits", "Photo.bits must have 4 bits, got 2."), ("words", "Photo.words must have 9 dimensions, got 1.")],
)
def test_all_fields_name_wrong_bits_and_sparse_vectors(name, message):
    filtered = AllFields({name: {"bits": "01", "words": "{1:1}/1"}[name]}, queryset=Photo.objects.all())
    assert filtered.errors[name] == [message]


def test_nearest_filter_ranks_what_the_filters_before_it_keep(photos):
    rows = Ranked({"near": "a text", "year": "3"}, queryset=Photo.objects.all()).qs
    assert list(rows) == list(Photo.objects.filter(year__gte=3).nearest("a text", 2))
    assert all(photo.distance >= 0 for photo in rows)


def test_nearest_filter_without_a_text_ranks_nothing(photos):
    assert Ranked({"year": "7"}, queryset=Photo.objects.all()).qs.count() == 2


def test_nearest_filter_that_is_not_the_last_is_named(photos):
    with pytest.raises(ImproperlyConfigured) as error:
        _ = Early({"near": "a text"}, queryset=Photo.objects.all()).qs
    assert str(error.value) == "Early.near must be its last filter, got year behind it. Declare it last."
