"""The distances, as expressions of the ORM."""

import numpy as np
import pytest
from django.core.exceptions import FieldError
from django.db import NotSupportedError
from django.db.models import F, FloatField, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce

from pgembedding_django import Centroid, CosineDistance, L1Distance, L2Distance, MaxInnerProduct
from pgembedding_django.functions import Distance, get_distance
from tests.models import Article, Loose, Pair, Required, Section

pytestmark = pytest.mark.django_db

A = np.array([1.0, 2.0, 3.0])
B = np.array([-4.0, 0.5, 2.0])

BY_HAND = {
    L2Distance: float(np.linalg.norm(A - B)),
    CosineDistance: float(1 - A @ B / (np.linalg.norm(A) * np.linalg.norm(B))),
    L1Distance: float(np.abs(A - B).sum()),
}


@pytest.fixture
def article():
    return Article.objects.create(title="a", embedding=A)


@pytest.mark.parametrize("distance", BY_HAND)
def test_distance_annotated_equals_numpy(article, distance):
    row = Article.objects.annotate(d=distance("embedding", B)).get()
    assert row.d == pytest.approx(BY_HAND[distance], abs=1e-5)


@pytest.mark.pgvector
def test_max_inner_product_is_negative_inner_product(article):
    row = Article.objects.annotate(d=MaxInnerProduct("embedding", B)).get()
    assert row.d == pytest.approx(-float(A @ B), abs=1e-5)


@pytest.mark.parametrize(
    "vector", [[-4, 0.5, 2], (-4, 0.5, 2), B, B.astype(np.float32), B.astype("<f4").tobytes(), " [-4, 0.5, 2]"]
)
def test_distance_takes_what_the_field_takes(article, vector):
    row = Article.objects.annotate(d=L2Distance("embedding", vector)).get()
    assert row.d == pytest.approx(BY_HAND[L2Distance], abs=1e-5)


@pytest.mark.parametrize(("limit", "count"), [(5.0, 0), (5.4, 1)])
def test_distance_in_filter_limits_rows(article, limit, count):
    # |A - B| = sqrt(25 + 2.25 + 1) = 5.315
    assert Article.objects.alias(d=L2Distance("embedding", B)).filter(d__lt=limit).count() == count


def test_distance_in_order_by_sorts_nearest_first():
    Required.objects.bulk_create(Required(embedding=[x, 0, 0]) for x in (5, 1, 3))
    rows = Required.objects.order_by(L2Distance("embedding", [0, 0, 0]))
    assert [row.embedding[0] for row in rows] == [1, 3, 5]


def test_distance_in_order_by_descending_sorts_farthest_first():
    Required.objects.bulk_create(Required(embedding=[x, 0, 0]) for x in (5, 1, 3))
    rows = Required.objects.order_by(L2Distance("embedding", [0, 0, 0]).desc())
    assert [row.embedding[0] for row in rows] == [5, 3, 1]


def test_distance_to_zero_is_measured():
    Pair.objects.create(one=[3, 4])
    assert Pair.objects.annotate(d=L2Distance("one", [0, 0])).get().d == 5


def test_distance_between_columns_needs_no_vector():
    Pair.objects.create(one=[0, 1], two=[3, 5])
    assert Pair.objects.annotate(d=L2Distance("one", F("two"))).get().d == pytest.approx(5)
    assert Pair.objects.annotate(d=L2Distance("one", "two")).get().d == pytest.approx(5)


def test_distance_across_a_relation_follows_it():
    section = Section.objects.create(name="s")
    Article.objects.create(title="a", section=section, embedding=[3, 4, 0])
    assert Section.objects.annotate(d=L2Distance("article__embedding", [0, 0, 0])).get().d == pytest.approx(5)


def test_distance_to_subquery_and_outer_ref():
    one, other = Required.objects.create(embedding=A), Required.objects.create(embedding=B)
    distance = L2Distance("embedding", OuterRef("embedding"))
    nearest = Required.objects.exclude(pk=OuterRef("pk")).alias(d=distance).order_by("d")
    found = Required.objects.annotate(near=Subquery(nearest.values("pk")[:1])).get(pk=one.pk)
    assert found.near == other.pk


def test_distance_to_value_with_field_stays_bound(article):
    value = Value(B, output_field=Article._meta.get_field("embedding"))
    assert Article.objects.annotate(d=L2Distance("embedding", value)).get().d == pytest.approx(5.3150729)


def test_distance_in_arithmetic_keeps_its_precedence(article):
    row = Article.objects.annotate(score=1 - L2Distance("embedding", B), twice=2 * L2Distance("embedding", B)).get()
    assert row.score == pytest.approx(1 - 5.3150729)
    assert row.twice == pytest.approx(2 * 5.3150729)


def test_distance_of_null_vector_is_null():
    Article.objects.create(title="none")
    assert Article.objects.annotate(d=L2Distance("embedding", A)).get().d is None


def test_distance_inside_another_function(article):
    distance = Coalesce(L2Distance("embedding", B), 0.0, output_field=FloatField())
    assert Article.objects.annotate(d=distance).get().d == pytest.approx(5.3150729)


def test_distance_with_wrong_length_is_refused_before_sql(article, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValueError) as caught:
        Article.objects.annotate(d=L2Distance("embedding", [1, 2]))
    assert str(caught.value) == "Article.embedding must have 3 dimensions, got 2."


def test_distance_to_a_text_that_is_no_vector_is_refused_before_sql(django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValueError) as caught:
        Article.objects.annotate(d=L2Distance("embedding", "[1, 2"))
    assert str(caught.value).startswith("Article.embedding must be a list of numbers such as [0.1, 0.2], got text")


def test_distance_without_embedding_field_is_refused():
    with pytest.raises(FieldError) as caught:
        Article.objects.annotate(d=L2Distance("title", [1, 2, 3]))
    assert str(caught.value) == "L2Distance needs an EmbeddingField, got Col and Value."


def test_distance_of_field_without_dimensions_takes_any_length():
    Loose.objects.create(embedding=[3, 4])
    assert Loose.objects.annotate(d=L2Distance("embedding", [0, 0])).get().d == pytest.approx(5)


def test_equal_distances_are_equal_and_hash_alike():
    def annotated(vector):
        return Article.objects.annotate(d=L2Distance("embedding", vector)).query.annotations["d"]

    assert annotated(A) == annotated(A)
    assert hash(annotated(A)) == hash(annotated(A))
    assert annotated(A) != annotated(B)


def test_distance_queryset_survives_group_by(article):
    from django.db.models import Count

    rows = Section.objects.annotate(d=L2Distance("article__embedding", A)).annotate(n=Count("pk"))
    assert list(rows) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("l2", L2Distance), ("cosine", CosineDistance), ("l1", L1Distance), ("inner_product", MaxInnerProduct)],
)
def test_get_distance_takes_name_and_class(name, expected):
    assert get_distance(name) is get_distance(expected) is expected


@pytest.mark.parametrize("distance", ["euclid", None, int, 2, ["l2"], Distance])
def test_get_distance_of_unknown_is_refused(distance):
    with pytest.raises(ValueError) as caught:
        get_distance(distance)
    assert str(caught.value) == (
        'distance must be one of "l2", "cosine", "l1", "inner_product", "hamming", "jaccard" or a distance class, '
        f"got {distance!r}."
    )


@pytest.mark.pgvector
def test_centroid_is_the_average_vector(article):
    Article.objects.create(title="b", embedding=B)
    Article.objects.create(title="none")
    found = Article.objects.aggregate(c=Centroid("embedding"))["c"]
    assert found.dtype == np.float32
    assert found == pytest.approx((A + B) / 2)


@pytest.mark.pgvector
def test_centroid_by_group_is_a_query_of_its_own(article):
    section = Section.objects.create(name="s")
    Article.objects.update(section=section)
    rows = Section.objects.annotate(c=Centroid("article__embedding"))
    assert rows.get().c == pytest.approx(A)
    assert Article.objects.nearest(rows.get().c, 1)[0] == article


@pytest.mark.pgvector
def test_centroid_of_no_rows_is_none():
    assert Article.objects.aggregate(c=Centroid("embedding")) == {"c": None}


def test_centroid_where_the_engine_has_none_is_refused(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": "pg_embedding"}
    with pytest.raises(NotSupportedError) as caught:
        Article.objects.aggregate(c=Centroid("embedding"))
    assert str(caught.value) == "pg_embedding has no average of vectors. Average them in numpy."


def test_centroid_of_another_field_is_refused():
    with pytest.raises(FieldError) as caught:
        Article.objects.aggregate(c=Centroid("title"))
    assert str(caught.value) == "Centroid needs an EmbeddingField, got CharField."


@pytest.mark.parametrize("distance", BY_HAND)
def test_distance_to_none_is_null(article, distance):
    assert Article.objects.annotate(d=distance("embedding", None)).get().d is None
    assert not Article.objects.alias(d=distance("embedding", None)).filter(d__lt=9).exists()


def test_distance_to_none_orders_nothing_and_is_equal_to_itself(article):
    assert list(Article.objects.order_by(L2Distance("embedding", None))) == [article]
    one, other = (L2Distance("embedding", None).resolve_expression(Article.objects.all().query) for _ in range(2))
    assert one == other
