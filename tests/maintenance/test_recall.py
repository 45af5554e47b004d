"""measure_recall(): how much of the exact answers an index finds, and what it advises."""

import numpy as np
import pytest
from django.conf import settings
from django.db import NotSupportedError, connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Q
from django.test.utils import CaptureQueriesContext

from pgembedding_django import HnswIndex
from pgembedding_django.engines import get_engine
from pgembedding_django.maintenance.recall.recall import measure_recall, record
from pgembedding_django.maintenance.recall.sampling import IndexUnusable, interval
from pgembedding_django.models import RecallMeasurement
from tests.models import Article, Pair, Required
from tests.support.tables import load_articles

pytestmark = pytest.mark.django_db(transaction=True)

N = 1000
VECTORS = np.random.default_rng(5).standard_normal((N, 3)).astype(np.float32)
NAME = "article_embedding_hnsw"
ON_PGVECTOR = settings.PGEMBEDDING["ENGINE"] == "pgvector"

#: pg_embedding measures the one that its index fixes.
EF_SEARCH = [5, 40] if ON_PGVECTOR else None


@pytest.fixture
def many():
    load_articles(VECTORS)


def rebuild(*indexes):
    """Give Article other indexes of the same name, or none."""
    with connection.schema_editor() as editor:
        editor.execute(f"DROP INDEX IF EXISTS {NAME}")
        for index in indexes:
            editor.add_index(Article, index)


@pytest.fixture
def thin(many):
    """The rows of `many` in a graph of too few links."""
    rebuild(HnswIndex(fields=["embedding"], name=NAME, m=2, ef_construction=4, ef_search=5))
    yield
    rebuild(*Article._meta.indexes)


@pytest.fixture
def own_index(monkeypatch):
    """Declare and build another index for Article, until the test ends."""

    def build(**options):
        index = HnswIndex(fields=["embedding"], name=NAME, **options)
        rebuild(index)
        monkeypatch.setattr(Article._meta, "indexes", [index])

    declared = Article._meta.indexes
    yield build
    rebuild(*declared)


def brute_force(title, k, keep):
    """Return the titles of the k nearest others that pass."""
    distances = np.linalg.norm(VECTORS.astype(np.float64) - VECTORS[int(title)], axis=1)
    return {str(i) for i in [i for i in np.argsort(distances) if keep(i) and i != int(title)][:k]}


def through_index(rows, title, k, ef_search):
    """Return the titles that the index alone gives for a row, itself left out."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        nearest = rows.nearest(VECTORS[int(title)], k + 1, exact=False, ef_search=ef_search)
        with CaptureQueriesContext(connection) as statements:
            list(nearest.values_list("title", "distance"))
        # Where the graph has lost so many rows that this one is short, another statement completes it.
        cursor.execute(next(each["sql"] for each in statements if " ORDER BY " in each["sql"]))
        found = dict.fromkeys(found for found, _ in cursor.fetchall() if found != title)
        return set(list(found)[:k])


# To the row


@pytest.mark.parametrize(("filters", "keep"), [({}, lambda i: True), ({"published": True}, lambda i: i % 2 == 0)])
def test_recall_agrees_with_brute_force_to_the_row(thin, filters, keep):
    report = measure_recall(Article, k=5, sample=40, filters=filters, ef_search=EF_SEARCH)
    rows, titles = Article.objects.filter(**filters), dict(Article.objects.values_list("pk", "title"))
    asked = [titles[pk] for pk in report.queries]
    exact = [brute_force(title, 5, keep) for title in asked]
    for row in report.rows:
        expected = [len(through_index(rows, title, 5, row.ef_search) & exact[i]) for i, title in enumerate(asked)]
        assert list(row.found) == expected
        assert row.recall == pytest.approx(sum(expected) / 200)
    assert 0 < report.rows[0].recall < 0.9


def test_recall_of_ties_is_no_loss():
    Article.objects.bulk_load(Article(title=str(i), embedding=[1, 2, i // 50]) for i in range(500))
    report = measure_recall(Article, k=5, sample=20)
    assert [row.recall for row in report.rows] == [1.0] * len(report.rows)


def test_recall_of_nearest_by_itself_is_measured_with_its_completion(many):
    report = measure_recall(Article, k=5, sample=20)
    assert (report.default.ef_search, report.default.recall) == (None, 1.0)
    assert (report.size, report.k, len(report.queries)) == (N, 5, 20)


def test_recall_of_few_rows_wants_no_more_than_there_are():
    Article.objects.bulk_load(Article(title=str(i), embedding=[1, 2, i]) for i in range(3))
    report = measure_recall(Article, k=10)
    assert (report.k, len(report.queries), report.default.recall) == (2, 3, 1.0)


def test_recall_of_vectors_given_agrees_with_brute_force(many):
    vectors = np.random.default_rng(9).standard_normal((10, 3)).astype(np.float32)
    report = measure_recall(Article, k=5, queries=vectors, ef_search=EF_SEARCH)
    assert report.queries == (None,) * 10
    titles = {str(i) for i in np.argsort(np.linalg.norm(VECTORS.astype(np.float64) - vectors[0], axis=1))[:5]}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        found = Article.objects.nearest(vectors[0], 5, exact=False, ef_search=report.rows[0].ef_search)
        assert report.rows[0].found[0] == len(titles & {row.title for row in found})


def test_recall_names_the_filter_and_counts_its_rows(many):
    report = measure_recall(Article, sample=5, filters={"published": True, "section": None})
    assert (report.filters, report.size) == ("published=True, section=None", N // 2)


def test_recall_of_the_same_seed_asks_the_same_rows(many):
    drawn = [measure_recall(Article, k=1, sample=20, seed=seed).queries for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) > 20


def test_recall_is_measured_inside_one_snapshot(many):
    other = connection.copy()

    def interfere(done, total):
        if done == 1:
            with other.cursor() as cursor:
                cursor.execute("DELETE FROM tests_article")

    report = measure_recall(Article, k=5, sample=20, progress=interfere)
    other.close()
    assert (report.size, Article.objects.count()) == (N, 0)
    assert report.default.recall == 1.0


def test_recall_reports_its_progress(many):
    seen = []
    measure_recall(Article, sample=5, progress=lambda done, total: seen.append((done, total)))
    rows = 4 if ON_PGVECTOR else 1
    assert seen == [(i + 1, 5 * (2 + rows)) for i in range(5 * (2 + rows))]


def test_recall_by_cosine_is_not_asked_by_a_row_without_direction():
    Pair.objects.bulk_load(Pair(one=[1, i + 1]) for i in range(20))
    with connection.cursor() as cursor:
        zero = get_engine(connection).encode(np.zeros(2, dtype=np.float32))
        cursor.execute("UPDATE tests_pair SET one = %s WHERE id = (SELECT min(id) FROM tests_pair)", [zero])
    report = measure_recall(Pair, "one", k=3, sample=20)
    assert len(report.queries) == 19


@pytest.mark.pgvector
@pytest.mark.parametrize(("precision", "least"), [("half", 0.9), ("binary", 0.2)])
def test_recall_of_reduced_precision_is_of_the_ranking_again(many, own_index, precision, least):
    own_index(precision=precision)
    report = measure_recall(Article, k=5, sample=10, ef_search=[400])
    # By signs alone, the 500 rows of an octant are all alike: five of them would be right once in a hundred times.
    assert report.rows[0].recall > least


@pytest.mark.pgvector
def test_recall_of_a_partial_index_is_measured_behind_its_filter(many, own_index):
    own_index(condition=Q(published=True))
    report = measure_recall(Article, k=5, sample=10, filters={"published": True}, ef_search=[100])
    assert report.rows[0].recall == 1.0


# Advice


def test_advice_for_a_graph_that_is_not_declared_names_what_differs(thin):
    advice = measure_recall(Article, k=5, sample=40, ef_search=EF_SEARCH).advice(0.95)
    assert advice[0].startswith("No ef_search measured reaches a recall of 0.95: ")
    assert advice[-1].startswith(
        f"{NAME} was built with m=2 and ef_construction=4, and the model declares m=16 and ef_construction=64: "
    )


def test_advice_for_a_good_index_is_its_smallest_ef_search(many):
    report = measure_recall(Article, k=5, sample=20)
    smallest = report.rows[0].ef_search
    assert report.advice(0.9)[0] == f"ef_search={smallest} is the smallest measured that reaches a recall of 0.9."
    assert report.smallest(0.9) == report.rows[0]
    assert report.smallest(1.1) is None


def test_advice_where_postgres_reads_no_index_says_so():
    Article.objects.bulk_load(Article(title=str(i), embedding=[1, 2, i]) for i in range(30))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article")
    report = measure_recall(Article, sample=5)
    assert not report.reads_index
    assert report.advice(0.9)[-1].startswith("nearest() by itself reads every row here, so its answers are exact. ")


# Refusals


def test_recall_inside_a_transaction_is_refused():
    with pytest.raises(NotSupportedError, match="takes a snapshot of its own"), transaction.atomic():
        measure_recall(Article)


def test_recall_without_a_declared_index_is_refused():
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Required)
    assert (
        str(caught.value)
        == "Required.embedding has no HnswIndex or IvfflatIndex in Meta.indexes, so there is nothing to measure."
    )


def test_recall_of_a_missing_index_is_refused(own_index):
    rebuild()
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Article)
    assert str(caught.value) == (
        f'{NAME} is missing in database "default". It was dropped after migration tests.0001_initial had created it. '
        "Repair creates it again. Run: manage.py rebuild_hnsw_indexes --repair"
    )


def test_recall_before_the_migration_of_the_index_says_to_migrate(own_index):
    rebuild()
    MigrationRecorder(connection).record_unapplied("tests", "0001_initial")
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Article)
    MigrationRecorder(connection).record_applied("tests", "0001_initial")
    assert str(caught.value) == (
        f'{NAME} is missing in database "default". Run: manage.py migrate tests --database default'
    )


def test_recall_of_an_invalid_index_is_refused(own_index):
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}'::regclass")
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Article)
    assert str(caught.value) == f"{NAME} is invalid, so no search reads it. Run: manage.py rebuild_hnsw_indexes {NAME}"


@pytest.mark.pgvector
def test_recall_of_a_partial_index_without_a_filter_is_refused(many, own_index):
    own_index(condition=Q(published=True))
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Article, sample=2)
    assert str(caught.value) == (
        f"{NAME} cannot be measured: {NAME} holds only some rows, and no filter stands before it."
    )


@pytest.mark.pgvector
def test_recall_of_a_partial_index_behind_another_filter_is_refused(many, own_index):
    own_index(condition=Q(published=True))
    with pytest.raises(IndexUnusable) as caught:
        measure_recall(Article, sample=2, filters={"published": False})
    assert str(caught.value) == f"{NAME} cannot be measured: no plan of Postgres reads it here."


@pytest.mark.pg_embedding
def test_recall_after_a_crash_is_refused(many):
    with connection.cursor() as cursor:
        # As the server empties an unlogged table.
        cursor.execute("DELETE FROM pgembedding_sound WHERE relid = 'tests_article'::regclass")
    with pytest.raises(IndexUnusable, match="the server has crashed since the index was built, or is a standby"):
        measure_recall(Article, sample=2)
    rebuild(*Article._meta.indexes)


def test_recall_at_another_ef_search_than_the_index_fixes_is_refused(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": "pg_embedding"}
    with pytest.raises(ValueError) as caught:
        measure_recall(Article, ef_search=[40])
    assert str(caught.value) == f"ef_search cannot be given, because {NAME} fixes it at 64."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be an integer from 1 to 100,000, got 0."),
        ({"k": True}, "k must be an integer from 1 to 100,000, got True."),
        ({"sample": 1}, "sample must be an integer from 2 to 100,000, got 1."),
        ({"ef_search": [40, 0]}, "ef_search must be an integer from 1 to 1,000, got 0."),
        ({}, "Article.embedding needs at least two vectors that ask to measure recall, got 0."),
        ({"queries": [[1, 2, 3]] * 2}, "Article.embedding has no row with a vector to be found, so it has no recall."),
        ({"queries": [[1, 2]]}, "Article.embedding must have 3 dimensions, got 2."),
    ],
)
def test_recall_of_wrong_arguments_is_refused(options, message):
    with pytest.raises(ValueError) as caught:
        measure_recall(Article, **options)
    assert str(caught.value) == message


# The history


def test_record_keeps_a_row_for_each_ef_search(many):
    report = measure_recall(Article, sample=5, filters={"published": True})
    assert record(report)
    kept = RecallMeasurement.objects.order_by("pk")
    assert [row.ef_search for row in kept] == [None, *(row.ef_search for row in report.rows)]
    assert next((row.recall, row.low, row.p95_ms) for row in kept) == (
        report.default.recall,
        report.default.low,
        report.default.p95_ms,
    )
    assert {(row.index, row.model, row.field, row.filter, row.rows, row.sample) for row in kept} == {
        (NAME, "tests.Article", "embedding", "published=True", N // 2, 5)
    }
    assert len({row.run for row in kept}) == 1


def test_record_on_a_read_only_connection_stores_nothing(many):
    report = measure_recall(Article, sample=5)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        stored = record(report)
        cursor.execute("SET default_transaction_read_only = off")
    assert not stored
    assert not RecallMeasurement.objects.exists()


# The interval


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        # Wilson's of 100 of 100: 100 / (100 + 1.96 ** 2).
        ([5] * 20, 5, (0.9630, 1)),
        # All or nothing: 20 queries are worth 19 answers, Wilson's of 9.5 of 19.
        ([0, 4] * 10, 4, (0.2950, 0.7050)),
        # Less scatter than chance gives counts as chance: Wilson's of 42 of 84.
        ([2] * 19 + [1, 3], 4, (0.3954, 0.6046)),
    ],
)
def test_interval_is_of_as_many_answers_as_the_queries_are_worth(found, wanted, expected):
    assert interval(found, wanted) == pytest.approx(expected, abs=1e-4)


@pytest.mark.pgvector
@pytest.mark.parametrize(("side", "least", "most"), [(np.abs, 0.0, 0.6), (np.asarray, 0.6, 1.0)])
def test_ceiling_is_what_the_precision_finds_without_a_graph(own_index, side, least, most):
    Article.objects.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(side(VECTORS)))
    own_index(precision="binary")
    report = measure_recall(Article, k=5, sample=30, ef_search=[40])
    assert least <= report.ceiling <= most
    assert report.precision == "binary"


def test_ceiling_of_the_precision_of_the_column_is_none(many):
    assert measure_recall(Article, sample=2).ceiling is None
