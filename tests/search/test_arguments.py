"""What nearest() refuses: one sentence each, before any SQL."""

from decimal import Decimal

import numpy as np
import pytest
from django.db import NotSupportedError
from django.db.models import F

from pgembedding_django import EmbeddingQuerySet
from tests.models import Article, Pair, Required, Section

pytestmark = pytest.mark.django_db

QUERY = [0.3, -0.2, 0.5]

REMEDY = "Pass a vector, a text or an instance of Article."

BAD_QUERIES = {
    "wrong length": ([1, 2], "Article.embedding must have 3 dimensions, got 2."),
    "empty": ([], "Article.embedding must have at least 1 dimension, got 0."),
    "2-D": (np.ones((1, 3)), "Article.embedding must be one-dimensional, got shape (1, 3)."),
    "NaN": ([1, float("nan"), 3], "Article.embedding must be finite, got nan at position 1."),
    "infinity": ([1, 2, float("inf")], "Article.embedding must be finite, got inf at position 2."),
    "None inside": ([None, 2, 3], "Article.embedding must hold numbers only, got NoneType at position 0."),
    "over float32": (
        [1, 1e39, 3],
        "Article.embedding must fit float32 (at most 3.4e+38 in size), got a larger number at position 1.",
    ),
    "bytes": (
        b"12345",
        "Article.embedding must have 4 bytes a dimension (little-endian float32), got 5 bytes.",
    ),
    "bytes of another length": (b"12345678", "Article.embedding must have 3 dimensions, got 2."),
    "None": (None, f"Article.embedding cannot be compared with None. {REMEDY}"),
    "dict": ({}, f"Article.embedding must be a sequence of numbers, got dict. {REMEDY}"),
    "set": ({1, 2, 3}, f"Article.embedding must be a sequence of numbers, got set. {REMEDY}"),
    "number": (5, f"Article.embedding must be a sequence of numbers, got int. {REMEDY}"),
    "expression": (F("embedding"), f"Article.embedding must be a sequence of numbers, got F. {REMEDY}"),
    "queryset": (
        Article.objects.all(),
        f"Article.embedding must be a sequence of numbers, got EmbeddingQuerySet. {REMEDY}",
    ),
    "booleans": (
        np.array([True, False, True]),
        f"Article.embedding must be an array of real numbers, got dtype bool. {REMEDY}",
    ),
    "blank text": (
        "  ",
        "Article.embedding cannot be searched by this text: DummyEmbedder needs text to embed, but the query is blank.",
    ),
}


@pytest.mark.parametrize(("query", "message"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_nearest_bad_query_is_refused_before_sql(query, message, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValueError) as caught:
        Article.objects.nearest(query)
    assert str(caught.value) == message


BAD_ARGUMENTS = {
    "k zero": ({"k": 0}, "k must be an integer from 1 to 2147483647, got 0."),
    "k negative": ({"k": -1}, "k must be an integer from 1 to 2147483647, got -1."),
    "k huge": ({"k": 10**30}, f"k must be an integer from 1 to 2147483647, got {10**30}."),
    "k text": ({"k": "5"}, "k must be an integer from 1 to 2147483647, got '5'."),
    "k bool": ({"k": True}, "k must be an integer from 1 to 2147483647, got True."),
    "k None": ({"k": None}, "k must be an integer from 1 to 2147483647, got None."),
    "distance": (
        {"distance": "euclid"},
        'distance must be one of "l2", "cosine", "l1", "inner_product", "hamming", "jaccard" or a distance class, '
        "got 'euclid'.",
    ),
    "field": ({"field": "title"}, "field must name an EmbeddingField of Article (embedding), got 'title'."),
    "alias field": ({"alias": "title"}, "alias 'title' is a field of Article. Choose another."),
    "alias words": ({"alias": "a b"}, "alias must be a name for an attribute, got 'a b'."),
    "alias lookup": ({"alias": "a__b"}, "alias must be a name for an attribute, got 'a__b'."),
    "alias pk": ({"alias": "pk"}, "alias 'pk' is an attribute of Article. Choose another."),
    "alias method": ({"alias": "save"}, "alias 'save' is an attribute of Article. Choose another."),
    "exact": ({"exact": 1}, "exact must be True, False or None, got 1."),
    "alias state": ({"alias": "_state"}, "alias '_state' is an attribute of Article. Choose another."),
    "ef_search zero": ({"ef_search": 0}, "ef_search must be an integer from 1 to 1000, got 0."),
    "ef_search large": ({"ef_search": 1001}, "ef_search must be an integer from 1 to 1000, got 1001."),
    "ef_search bool": ({"ef_search": True}, "ef_search must be an integer from 1 to 1000, got True."),
    "max_distance text": ({"max_distance": "1"}, "max_distance must be a number, got '1'."),
    "max_distance bool": ({"max_distance": True}, "max_distance must be a number, got True."),
    "max_distance signalling nan": (
        {"max_distance": Decimal("sNaN")},
        "max_distance must be a number, got Decimal('sNaN').",
    ),
    "max_distance nan": ({"max_distance": float("nan")}, "max_distance must be a number, got nan."),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_nearest_bad_argument_is_refused_before_sql(arguments, message, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValueError) as caught:
        Article.objects.nearest(QUERY, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "rows", [Article.objects.all()[:5], Article.objects.nearest(QUERY, exact=True)], ids=["sliced", "ranked"]
)
def test_nearest_after_a_slice_is_refused(rows):
    for rank in (rows.nearest, lambda query: rows.hybrid("text", fields=["title"])):
        with pytest.raises(TypeError) as caught:
            rank(QUERY)
        assert str(caught.value) == (
            "nearest() must stand before any slice, got Article rows that are sliced or ranked already. "
            "Rank them through filter(pk__in=rows.values('pk'))."
        )


def test_nearest_alias_of_an_annotation_is_refused():
    with pytest.raises(ValueError) as caught:
        Article.objects.annotate(distance=F("pk")).nearest(QUERY)
    assert str(caught.value) == "alias 'distance' is an annotation of this queryset already. Choose another."


def test_nearest_with_two_fields_and_none_named_is_refused():
    with pytest.raises(ValueError) as caught:
        Pair.objects.nearest([1, 2])
    assert str(caught.value) == "Pair has 2 embedding fields (one, two). Name one with field=."


def test_nearest_on_model_without_field_is_refused():
    with pytest.raises(TypeError) as caught:
        EmbeddingQuerySet(Section).nearest(QUERY)
    assert str(caught.value) == "Section has no EmbeddingField, so nearest() has nothing to search."


def test_nearest_to_instance_of_another_model_is_refused():
    with pytest.raises(ValueError) as caught:
        Article.objects.nearest(Section(name="s"))
    assert str(caught.value) == "query must be an instance of Article, got Section."


def test_nearest_to_instance_without_vector_is_refused():
    with pytest.raises(ValueError) as caught:
        Article.objects.nearest(Article(pk=4, title="a"))
    assert str(caught.value) == "Article.embedding of the instance with pk 4 is None, so nothing is near it."


def test_nearest_zero_by_cosine_is_refused():
    with pytest.raises(ValueError) as caught:
        Required.objects.nearest([0, 0, 0], distance="cosine")
    assert str(caught.value) == (
        "Required.embedding has no cosine distance to a vector of zeros, which has no direction."
    )


@pytest.mark.parametrize("options", [{}, {"distance": "cosine"}])
def test_nearest_zero_by_the_cosine_of_an_index_is_refused(options):
    with pytest.raises(ValueError, match=r"Pair\.one has no cosine distance to a vector of zeros"):
        Pair.objects.nearest([0, 0], field="one", **options)


def test_nearest_zero_by_another_distance_than_its_cosine_index_has_is_answered():
    rows = Pair.objects.bulk_create([Pair(one=[3, 4]), Pair(one=[1, 0])])
    found = Pair.objects.nearest([0, 0], field="one", distance="l2", exact=True)
    assert [(row, row.distance) for row in found] == [(rows[1], 1), (rows[0], 5)]


def test_nearest_text_without_embedder_is_refused(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    with pytest.raises(ValueError) as caught:
        Article.objects.nearest("a cat")
    assert str(caught.value) == (
        'Article.embedding cannot be searched by text: PGEMBEDDING["EMBEDDERS"]["default"] is not set. '
        "Pass a vector, or set it."
    )


def test_nearest_with_distance_that_the_engine_lacks_is_refused_before_sql(settings, django_assert_num_queries):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": "pg_embedding"}
    with django_assert_num_queries(0), pytest.raises(NotSupportedError) as caught:
        list(Required.objects.nearest(QUERY, distance="inner_product"))
    assert str(caught.value) == (
        "pg_embedding has no inner product distance. Use L2Distance, CosineDistance or L1Distance."
    )
