"""Vectors of zeros, which have no direction: stored, and left out of a ranking by cosine."""

import math

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, models

from pgembedding_django import CosineDistance, EmbeddingField, EmbeddingManager, HnswIndex, L2Distance
from pgembedding_django.checks.zeros import check_zeros
from tests.models import Article, Pair

pytestmark = pytest.mark.django_db


@pytest.fixture
def pairs():
    """Rows by cosine distance to [1, 0]; one without direction, one without a vector."""
    return Pair.objects.bulk_create(Pair(one=one) for one in ([2, 0], [1, 1], [-3, 0], [0, 0], None))


def nearest(**options):
    return Pair.objects.nearest([1, 0], field="one", **options)


WAYS = [{}, {"exact": True}, {"exact": False}, {"exact": False, "k": 3}, {"max_distance": 9}]


@pytest.mark.parametrize("options", WAYS)
def test_ranking_by_cosine_leaves_it_out(pairs, options):
    assert list(nearest(**options)) == pairs[:3]
    assert [row.distance for row in nearest(**options)] == pytest.approx([0, 1 - math.sqrt(0.5), 2])


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize(
    "take",
    [
        len,
        lambda rows: rows.count(),
        lambda rows: len(rows.values_list("pk", flat=True)),
        lambda rows: len(rows.values("pk", "distance")),
        lambda rows: len(list(rows.iterator(chunk_size=2))),
        lambda rows: Pair.objects.filter(pk__in=rows.values("pk")).count(),
        lambda rows: len(rows.only("two")),
        lambda rows: rows.aggregate(n=models.Count("pk"))["n"],
    ],
)
def test_whatever_takes_the_ranking_leaves_it_out(pairs, options, take):
    assert take(nearest(**options)) == 3


@pytest.mark.parametrize("options", WAYS)
def test_page_and_existence_leave_it_out(pairs, options):
    assert list(nearest(**options)[1:3]) == pairs[1:3]
    assert list(nearest(**options)[3:]) == []
    assert nearest(**options).exists()
    Pair.objects.exclude(one=[0, 0]).delete()
    assert not nearest(**options).exists()
    assert nearest(**options).first() is None


def test_ranking_by_another_distance_has_it(pairs):
    assert list(nearest(distance="l2", exact=True)) == [pairs[0], pairs[1], pairs[3], pairs[2]]


def test_row_of_zeros_is_saved_and_found_by_its_vector(pairs):
    row = Pair.objects.get(one=[0, 0])
    row.full_clean(exclude=["two"])
    row.save()
    assert row.one == [0, 0]


@pytest.mark.pgvector
def test_expression_is_nan(pairs):
    distances = Pair.objects.order_by("pk").values_list(CosineDistance("one", [1, 0]), flat=True)
    assert [distance is not None and math.isnan(distance) for distance in distances] == [False] * 3 + [True, False]
    assert all(map(math.isnan, Pair.objects.exclude(one=None).values_list(CosineDistance("one", [0, 0]), flat=True)))


@pytest.mark.pgvector
@pytest.mark.parametrize("precision", [None, "half", "binary"])
@pytest.mark.parametrize("storage", ["single", "half"])
def test_ranking_through_an_index_of_any_precision_leaves_it_out(isolated, storage, precision):
    if storage == precision:
        pytest.skip("such an index is refused")

    class Note(models.Model):
        embedding = EmbeddingField(dimensions=2, storage=storage, distance="cosine")
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="note_zero", precision=precision)]

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    notes = Note.objects.bulk_create(Note(embedding=vector) for vector in ([2, 0], [1, 1], [-3, 0], [0, 0]))
    assert list(Note.objects.nearest([1, 0], exact=False)) == notes[:3]
    assert list(Note.objects.nearest([1, 0])) == notes[:3]
    assert Note.objects.filter(pk__in=Note.objects.nearest([1, 0], exact=False).values("pk")).count() == 3


def test_hybrid_by_cosine_ranks_it_by_its_words_alone(isolated):
    class Note(models.Model):
        text = models.TextField()
        embedding = EmbeddingField(dimensions=3, distance="cosine")
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    note, zero = Note.objects.bulk_create(
        Note(text=text, embedding=vector) for text, vector in [("ham", [1, 2, 3]), ("cheese", [0, 0, 0])]
    )
    scores = {row: row.score for row in Note.objects.hybrid("cheese", fields=["text"])}
    assert scores == {note: pytest.approx(1 / 61), zero: pytest.approx(1 / 61)}


# Refusing them


@pytest.mark.parametrize("vector", [[0, 0], [0.0, -0.0]])
def test_field_that_allows_none_refuses_them(isolated, vector, django_assert_num_queries):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=2, allow_zero=False)

        class Meta:
            app_label = "tests"

    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        Note.objects.create(embedding=vector)
    assert caught.value.messages == ["Note.embedding must not be all zeros (allow_zero=False)."]
    assert caught.value.code == "zero"
    assert L2Distance("embedding", vector)  # As a query they are taken.


# The check


def test_check_counts_them(pairs):
    [message] = [m for m in check_zeros(databases=["default"]) if m.obj is Pair._meta.get_field("one")]
    assert (message.id, message.msg) == (
        "pgembedding.W033",
        "Pair.one is a vector of zeros in 1 of the 4 rows that were read: it has no direction, so nearest() by cosine "
        "leaves them out.",
    )


def test_check_says_nothing_of_other_distances_and_rows_without():
    Pair.objects.create(one=[1, 0], two=[0, 0])
    Article.objects.create(title="a", embedding=[0, 0, 0])
    assert check_zeros(databases=["default"]) == []
    assert check_zeros() == []


def test_check_of_a_table_that_is_still_to_be_made_says_nothing(isolated):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=2, distance="cosine")

        class Meta:
            app_label = "tests"

    assert check_zeros([isolated.get_app_config("tests")], databases=["default"]) == []


def test_check_without_an_engine_says_nothing(settings):
    settings.PGEMBEDDING = {"ENGINE": "nothing"}
    assert check_zeros(databases=["default"]) == []


def test_check_of_a_database_without_the_extension_says_nothing(fresh_database):
    assert check_zeros(databases=["fresh"]) == []
