"""nearest_each(): many queries in one statement, each answered as nearest() answers it."""

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.embedders import get_embedder
from tests.models import Article, Loose, Pair, Required
from tests.support.many import VECTORS

pytestmark = pytest.mark.django_db

RANDOM = np.random.default_rng(8)
QUERIES = RANDOM.standard_normal((12, 3)).astype(np.float32)


def by_hand(query, k=5, keep=None):
    """Return the k titles nearest to a query, and their distances."""
    distances = np.linalg.norm(VECTORS.astype(np.float64) - query, axis=1)
    order = [i for i in np.argsort(distances) if keep is None or keep(i)][:k]
    return [str(i) for i in order], [distances[i] for i in order]


def titles(answers):
    return [[row.title for row in answer] for answer in answers]


@pytest.mark.parametrize("exact", [None, True, False])
def test_each_answer_is_the_nearest_rows_in_order(many, exact):
    answers = Article.objects.nearest_each(QUERIES, 5, exact=exact)
    assert titles(answers) == [by_hand(query)[0] for query in QUERIES]
    for answer, query in zip(answers, QUERIES, strict=True):
        assert [row.distance for row in answer] == pytest.approx(by_hand(query)[1], rel=1e-5)


@pytest.mark.parametrize("keep", [2, 50, 1000])
def test_each_answer_behind_a_filter_is_complete(many, keep):
    wanted = [str(i) for i in range(0, len(VECTORS), keep)]
    answers = Article.objects.filter(title__in=wanted).nearest_each(QUERIES, 5)
    assert titles(answers) == [by_hand(query, 5, lambda i: i % keep == 0)[0] for query in QUERIES]


def test_answers_take_two_statements(many):
    with CaptureQueriesContext(connection) as queries:
        Article.objects.nearest_each(QUERIES, 5)
    assert len([each for each in queries if each["sql"].startswith(("WITH", "SELECT"))]) == 2


def test_index_serves_every_query_of_the_statement(many, force_index):
    with CaptureQueriesContext(connection) as queries:
        Article.objects.nearest_each(QUERIES, 5, exact=False)
    (statement,) = [each["sql"] for each in queries if each["sql"].startswith("WITH")]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement.replace('%', '%%')}", [])
        assert "Index Scan using article_embedding_hnsw" in "\n".join(line for (line,) in cursor.fetchall())


def test_answers_that_the_index_leaves_short_are_completed(many, force_index):
    Article.objects.filter(pk__in=Article.objects.nearest(QUERIES[0], 3900).values("pk")).delete()
    left = {int(title) for title in Article.objects.values_list("title", flat=True)}
    answers = Article.objects.nearest_each(QUERIES, 60, exact=False, ef_search=10)
    assert titles(answers) == [by_hand(query, 60, left.__contains__)[0] for query in QUERIES]


def test_more_rows_than_there_are_is_all_of_them():
    Article.objects.bulk_create([Article(title=str(i), embedding=VECTORS[i]) for i in range(3)])
    answers = Article.objects.nearest_each(QUERIES[:2], 5, exact=False)
    assert titles(answers) == [by_hand(query, 3, lambda i: i < 3)[0] for query in QUERIES[:2]]


def test_row_near_several_queries_is_an_instance_in_each():
    Article.objects.create(title="a", embedding=[1, 0, 0])
    (one,), (other,) = Article.objects.nearest_each([[1, 0, 0], [1, 2, 0]], 1)
    assert (one, one.distance, other.distance) == (other, 0, 2)


def test_instance_is_left_out_of_its_own_answer(many):
    rows = [Article.objects.get(title="3"), Article.objects.get(title="4")]
    expected = [by_hand(VECTORS[i], 5, lambda other, i=i: other != i)[0] for i in (3, 4)]
    assert titles(Article.objects.nearest_each([*rows, VECTORS[5]], 5)) == [*expected, by_hand(VECTORS[5])[0]]


def test_text_is_embedded(many):
    (answer,) = Article.objects.nearest_each(["a question"], 5)
    assert [row.title for row in answer] == by_hand(get_embedder("default").embed_query("a question"))[0]


def test_answers_are_cut_at_a_distance(many):
    answers = Article.objects.nearest_each(QUERIES, 5, max_distance=0.05)
    expected = [[i for i, distance in zip(*by_hand(query), strict=True) if distance <= 0.05] for query in QUERIES]
    assert titles(answers) == expected


def test_alias_names_the_distance():
    Article.objects.create(title="a", embedding=[1, 0, 0])
    ((row,),) = Article.objects.nearest_each([[1, 2, 0]], 1, alias="far")
    assert row.far == 2


def test_what_the_queryset_selects_stays(many):
    rows = Article.objects.select_related("section").annotate(double=models.F("id") * 2).defer("embedding")
    ((row,),) = rows.nearest_each(QUERIES[:1], 1)
    assert (row.double, row.get_deferred_fields() >= {"embedding"}) == (2 * row.pk, True)


def test_cosine_leaves_out_vectors_without_direction():
    Pair.objects.bulk_create([Pair(one=[0, 0]), Pair(one=[1, 1]), Pair(one=[-1, 1])])
    answers = Pair.objects.nearest_each([[2, 2], [-3, 3]], 5, field="one", exact=True)
    assert [[row.one.tolist() for row in answer] for answer in answers] == [[[1, 1], [-1, 1]], [[-1, 1], [1, 1]]]


def test_no_queries_have_no_answers(many):
    assert Article.objects.nearest_each([]) == []


def test_no_rows_are_no_answer():
    assert Article.objects.filter(pk__in=[]).nearest_each(QUERIES[:2]) == [[], []]
    assert Article.objects.nearest_each(QUERIES[:2]) == [[], []]


@pytest.mark.parametrize("rows", [lambda: Article.objects.values("title"), lambda: Article.objects.distinct()])
def test_rows_of_another_kind_are_asked_for_one_after_the_other(many, rows):
    answers = rows().nearest_each(QUERIES, 5)
    read = [[row["title"] if isinstance(row, dict) else row.title for row in answer] for answer in answers]
    assert read == [by_hand(query)[0] for query in QUERIES]


def test_field_without_dimensions_is_asked_by_the_length_of_each_query():
    Loose.objects.bulk_create([Loose(embedding=[1, 2]), Loose(embedding=[1, 2, 3])])
    answers = Loose.objects.nearest_each([[1, 2], [1, 2, 4]], 5)
    assert [[row.distance for row in answer] for answer in answers] == [[0], [1]]


@pytest.mark.pgvector
def test_index_of_reduced_precision_is_asked_once_for_each_query(isolated):
    class Rounded(models.Model):
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="rounded_hnsw", precision="half")]

    with connection.schema_editor() as editor:
        editor.create_model(Rounded)
    Rounded.objects.bulk_load_arrays(VECTORS[:300], id=np.arange(300))
    answers = Rounded.objects.nearest_each(QUERIES, 5, exact=False)
    expected = [[int(i) for i in by_hand(query, 5, lambda i: i < 300)[0]] for query in QUERIES]
    assert [[row.pk for row in answer] for answer in answers] == expected


def test_composite_keys(isolated):
    class Keyed(models.Model):
        pk = models.CompositePrimaryKey("tenant", "number")
        tenant = models.IntegerField()
        number = models.IntegerField()
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Keyed)
    Keyed.objects.bulk_load_arrays(VECTORS[:300], tenant=np.arange(300) % 2, number=np.arange(300))
    answers = Keyed.objects.filter(tenant=1).nearest_each(QUERIES, 5)
    expected = [[(1, int(i)) for i in by_hand(query, 5, lambda i: i < 300 and i % 2)[0]] for query in QUERIES]
    assert [[row.pk for row in answer] for answer in answers] == expected


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ([[1, 2, 3], [1, 2]], {}, "query must have 3 dimensions|must have 3 dimensions, got 2"),
        ([[1, 2, 3]], {"k": 0}, "k must be an integer from 1"),
        ([[1, 2, 3]], {"max_distance": "far"}, "max_distance must be a number"),
        ([[1, 2, 3]], {"alias": "title"}, "alias"),
    ],
)
def test_wrong_arguments_are_refused_as_by_nearest(queries, options, message):
    with pytest.raises(ValueError, match=message):
        Article.objects.nearest_each(queries, **options)


def test_anearest_each_answers():
    async def ask():
        return await Required.objects.anearest_each([[1, 2, 3]], 2)

    Required.objects.create(embedding=[1, 2, 3])
    assert [[row.distance for row in answer] for answer in async_to_sync(ask)()] == [[0]]
