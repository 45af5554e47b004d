"""djangorestframework: a ModelSerializer reads and writes the vector as numbers, and NearestFilter ranks a list."""

import numpy as np
import pytest
from django.db import models
from django.urls import path
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, generics, pagination, serializers
from rest_framework.test import APIRequestFactory

from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, SparseVector, SparseVectorField
from pgembedding_django.contrib.rest_framework import NearestFilter, NearestThrottle

pytestmark = pytest.mark.django_db


class Recipe(models.Model):
    title = models.CharField(max_length=50)
    text = models.TextField(blank=True)
    embedding = EmbeddingField(dimensions=3, source="text", null=True)

    objects = EmbeddingManager()


class Print(models.Model):
    bits = BitField(length=4)
    words = SparseVectorField(dimensions=9, null=True)


class PrintSerializer(serializers.ModelSerializer):
    class Meta:
        model = Print
        fields = "__all__"


class PrintList(generics.ListAPIView):
    queryset = Print.objects.all()
    serializer_class = PrintSerializer


class Everything(serializers.ModelSerializer):
    class Meta:
        model = Recipe
        fields = "__all__"


class Named(serializers.ModelSerializer):
    class Meta:
        model = Recipe
        fields = ["title", "embedding_digest"]


class RecipeList(generics.ListAPIView):
    queryset = Recipe.objects.order_by("pk")
    serializer_class = Everything
    filter_backends = [filters.SearchFilter, DjangoFilterBackend, filters.OrderingFilter, NearestFilter]
    search_fields = ["title"]
    filterset_fields = ["title"]
    ordering_fields = ["title"]
    nearest_max_k = 20
    authentication_classes = []
    permission_classes = []


urlpatterns = [path("recipes/", RecipeList.as_view())]


def get(view=RecipeList, /, **params):
    return view.as_view()(APIRequestFactory().get("/recipes/", params))


def titles(response):
    rows = response.data.get("results", response.data) if isinstance(response.data, dict) else response.data
    return [row["title"] for row in rows]


@pytest.fixture
def recipes():
    return [Recipe.objects.create(title=f"r{x}", embedding=[x, 0, 1]) for x in range(30)]


def test_serializer_writes_the_vector_as_the_shortest_numbers():
    recipe = Recipe(title="x", embedding=[0.1, 2, -1e-7])
    assert Everything(recipe).data == {"id": None, "title": "x", "text": "", "embedding": [0.1, 2.0, -1e-07]}


def test_serializer_writes_none_for_no_vector():
    assert Everything(Recipe(title="x")).data["embedding"] is None


def test_serializer_shows_the_digest_where_it_is_named():
    assert Named(Recipe(title="x", embedding_digest="abc")).data == {"title": "x", "embedding_digest": "abc"}


def test_serializer_reads_a_list_of_numbers():
    serializer = Everything(data={"title": "x", "embedding": [0.5, 1, 2]})
    assert serializer.is_valid(), serializer.errors
    np.testing.assert_array_equal(serializer.save().embedding, np.float32([0.5, 1, 2]))


def test_serializer_takes_no_digest_from_a_client():
    serializer = Everything(data={"title": "x", "embedding": [0.5, 1, 2], "embedding_digest": "forged"})
    assert serializer.is_valid(), serializer.errors
    assert "embedding_digest" not in serializer.validated_data


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "embedding must have 3 dimensions, got 2."),
        ([1, 2, "x"], "embedding must hold numbers only, got str at position 2."),
        ({"a": 1}, "Expected a list of numbers, got dict."),
        (7, "Expected a list of numbers, got int."),
    ],
)
def test_serializer_names_what_is_wrong(value, message):
    serializer = Everything(data={"title": "x", "embedding": value})
    assert not serializer.is_valid()
    assert serializer.errors["embedding"] == [message]


def test_schema_has_an_array_of_numbers_and_the_parameters(settings):
    from drf_spectacular.generators import SchemaGenerator
    from drf_spectacular.openapi import AutoSchema

    class Documented(RecipeList):
        schema = AutoSchema()

    schema = SchemaGenerator(patterns=[path("recipes/", Documented.as_view())]).get_schema(public=True)
    shown = schema["components"]["schemas"]["Everything"]["properties"]
    assert shown["embedding"]["type"] == "array"
    assert shown["embedding"]["items"] == {"type": "number", "format": "float"}
    assert "embedding_digest" not in shown
    names = {parameter["name"] for parameter in schema["paths"]["/recipes/"]["get"]["parameters"]}
    assert {"nearest", "similar_to", "k", "max_distance"} <= names


def test_similar_to_ranks_the_others(recipes):
    assert titles(get(similar_to=recipes[10].pk, k=2)) in (["r9", "r11"], ["r11", "r9"])


def test_nearest_ranks_by_the_embedders_vector(recipes):
    from pgembedding_django.embedders import get_embedder

    asked = get_embedder().embed_query("soup")
    wanted = sorted(recipes, key=lambda recipe: float(np.linalg.norm(np.asarray(recipe.embedding) - np.asarray(asked))))
    assert titles(get(nearest="soup", k=3)) == [recipe.title for recipe in wanted[:3]]


def test_nearest_ranks_what_the_other_backends_keep(recipes):
    assert titles(get(similar_to=recipes[2].pk, search="r2", k=20)) == [f"r2{x}" for x in range(10)]


def test_similar_to_a_row_that_the_other_backends_hide_is_a_404(recipes):
    assert get(similar_to=recipes[10].pk, title="r12").status_code == 404


def test_similar_to_keeps_max_distance(recipes):
    assert sorted(titles(get(similar_to=recipes[0].pk, max_distance="2.5"))) == ["r1", "r2"]


def test_without_parameters_nothing_is_ranked(recipes):
    assert titles(get(ordering="-title"))[0] == "r9"


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"nearest": "a", "similar_to": "1"}, "nearest", "Give nearest or similar_to, not both."),
        ({"nearest": "a", "k": "0"}, "k", "k is a number from 1 to 20, got '0'."),
        ({"nearest": "a", "k": "21"}, "k", "k is a number from 1 to 20, got '21'."),
        ({"nearest": "a", "k": "-1"}, "k", "k is a number from 1 to 20, got '-1'."),
        ({"nearest": "a", "max_distance": "x"}, "max_distance", "max_distance is a number, got 'x'."),
        ({"nearest": "a", "max_distance": "nan"}, "max_distance", "max_distance is a number, got 'nan'."),
        ({"nearest": "a" * 1001}, "nearest", "A text has at most 1,000 characters, got 1,001."),
    ],
)
def test_what_is_out_of_bounds_is_a_400(params, field, message):
    response = get(**params)
    assert response.status_code == 400
    assert str(response.data[field]) == message


@pytest.mark.parametrize("key", ["0", "x", "99999999999999999999"])
def test_similar_to_no_row_is_a_404(recipes, key):
    assert get(similar_to=key).status_code == 404


def test_similar_to_a_row_without_a_vector_is_a_400(recipes):
    bare = Recipe.objects.create(title="bare")
    response = get(similar_to=bare.pk)
    assert response.status_code == 400
    assert "is None, so nothing is near it" in str(response.data["similar_to"])


class Early(RecipeList):
    filter_backends = [NearestFilter, filters.OrderingFilter]


class Cursor(RecipeList):
    class pagination_class(pagination.CursorPagination):
        ordering = "pk"


@pytest.mark.parametrize(("view", "name"), [(Early, "OrderingFilter"), (Cursor, "pagination_class")])
def test_what_cannot_stand_behind_a_ranking_is_named(recipes, view, name):
    response = get(view, nearest="soup", ordering="title")
    assert response.status_code == 400
    assert str(response.data["nearest"]) == (
        f"{name} cannot stand behind or before a ranking: put NearestFilter last, on rows that are not sliced, and "
        "page by number or by limit."
    )


class Numbered(RecipeList):
    class pagination_class(pagination.PageNumberPagination):
        page_size = 4


class Limited(RecipeList):
    class pagination_class(pagination.LimitOffsetPagination):
        default_limit = 4


@pytest.mark.parametrize(("view", "second"), [(Numbered, {"page": 2}), (Limited, {"offset": 4})])
def test_pages_of_a_ranking_are_disjoint_and_complete(recipes, view, second):
    first, next_ = (get(view, similar_to=recipes[0].pk, k=8, **page) for page in ({}, second))
    assert first.data["count"] == next_.data["count"] == 8
    assert titles(first) + titles(next_) == [f"r{x}" for x in range(1, 9)]


def test_throttle_counts_only_the_requests_that_embed_a_text(recipes, settings):
    class Rate(NearestThrottle):
        rate = "1/min"

    class Throttled(RecipeList):
        throttle_classes = [Rate]

    answers = [get(Throttled, similar_to=recipes[0].pk), *(get(Throttled, nearest="x") for _ in range(2))]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_serializer_reads_and_writes_bits_and_sparse_vectors_as_text():
    serializer = PrintSerializer(data={"bits": "0110", "words": "{1:0.5,9:2}/9"})
    assert serializer.is_valid(), serializer.errors
    saved = serializer.save()
    assert saved.words == SparseVector({0: 0.5, 8: 2}, 9)
    assert PrintSerializer(saved).data == {"id": saved.pk, "bits": "0110", "words": "{1:0.5,9:2.0}/9"}
    assert PrintSerializer(Print(bits="0000")).data["words"] is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"bits": "01"}, "Print.bits must have 4 bits, got 2."),
        ({"bits": 7}, 'Print.bits must be bits, as "101", booleans or bytes, got int.'),
        ({"bits": "0110", "words": "{1:1}/2"}, "Print.words must have 9 dimensions, got 2."),
    ],
)
def test_serializer_names_wrong_bits_and_sparse_vectors(data, message):
    serializer = PrintSerializer(data=data)
    assert not serializer.is_valid()
    assert [str(error) for errors in serializer.errors.values() for error in errors] == [message]


def test_schema_has_bits_and_sparse_vectors_as_text():
    from drf_spectacular.generators import SchemaGenerator
    from drf_spectacular.openapi import AutoSchema

    class Documented(PrintList):
        schema = AutoSchema()

    schema = SchemaGenerator(patterns=[path("prints/", Documented.as_view())]).get_schema(public=True)
    shown = schema["components"]["schemas"]["Print"]["properties"]
    assert (shown["bits"]["type"], shown["words"]["type"]) == ("string", "string")
