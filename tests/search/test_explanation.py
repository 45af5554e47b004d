"""explain_nearest() is true also where Postgres does not read the index that was chosen."""

import pytest
from django.db import connection, models
from django.db.models import Q

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from tests.models import Article
from tests.support.many import QUERY

pytestmark = pytest.mark.django_db

NAME = "article_embedding_hnsw"
UNFILTERED = f"Exact scan: nearest() chose {NAME} (no filter stands before it), but Postgres reads every row: "
ADVICE = "manage.py hnsw_indexes says what to do."
GUESSES = ' The table has no statistics yet, so the counts are guesses. Run: ANALYZE "tests_article"'


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture
def dear_index(db):
    """Make reading an index dear, so that Postgres rather sorts, whatever the table and its statistics."""
    execute("SET LOCAL random_page_cost = 1000000")


def test_explanation_of_a_missing_index_says_so(many):
    execute(f"DROP INDEX {NAME}")
    assert Article.objects.nearest(QUERY).explain_nearest() == f"{UNFILTERED}the index is missing. {ADVICE}"


def test_explanation_of_an_invalid_index_says_so(many):
    execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}'::regclass")
    assert Article.objects.nearest(QUERY).explain_nearest() == f"{UNFILTERED}the index is invalid. {ADVICE}"


@pytest.mark.pgvector  # pg_embedding tells the planner no such cost
def test_explanation_where_postgres_rather_sorts_says_so(empty_index, dear_index):
    Article.objects.bulk_load(Article(title=str(i), embedding=[1, 2, i]) for i in range(5))
    execute("ANALYZE tests_article")
    rows = Article.objects.nearest(QUERY)
    assert rows.explain_nearest() == f"{UNFILTERED}it expects that to be faster than the index."
    assert NAME not in rows.explain()


def test_explanation_asks_for_the_plan_of_what_would_run(many, dear_index):
    rows = Article.objects.filter(title="1").nearest(QUERY, exact=False)
    assert rows.explain_nearest() == (
        f"Exact scan: nearest() chose {NAME} (exact=False), but Postgres reads every row that the filter keeps: it "
        "expects that to be faster than the index."
    )


def test_explanation_of_a_page_is_that_of_the_ranking(many, force_index):
    assert Article.objects.nearest(QUERY)[2:5].explain_nearest().startswith(f"Index scan on {NAME}")


def test_explanation_changes_no_setting(many):
    Article.objects.filter(title="1").nearest(QUERY, exact=False).explain_nearest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_sort')")
        assert cursor.fetchone() == ("on",)


@pytest.mark.pgvector
@pytest.mark.django_db(transaction=True)
def test_explanation_of_a_locking_search_needs_no_transaction():
    Article.objects.create(title="1", embedding=[1, 2, 3])
    assert NAME in Article.objects.nearest(QUERY).select_for_update().explain_nearest()


@pytest.mark.pgvector
def test_explanation_of_an_index_made_otherwise_says_that_it_cannot_serve(many):
    connection.check_constraints()
    with connection.schema_editor() as editor:
        editor.execute(f"DROP INDEX {NAME}")
        editor.add_index(Article, HnswIndex(fields=["embedding"], name=NAME, distance="cosine"))
    assert Article.objects.nearest(QUERY).explain_nearest() == f"{UNFILTERED}it cannot use the index for this search."


@pytest.mark.pgvector
def test_explanation_of_a_partial_index_that_the_filter_does_not_imply_says_so(many, force_index, monkeypatch):
    index = HnswIndex(fields=["embedding"], name=NAME, condition=Q(published=True))
    monkeypatch.setattr(Article._meta, "indexes", [index])
    connection.check_constraints()
    with connection.schema_editor() as editor:
        editor.execute(f"DROP INDEX {NAME}")
        editor.add_index(Article, index)
    rows = Article.objects.filter(published=False).nearest(QUERY)
    assert rows.explain_nearest().endswith("it cannot use the index for this search.")
    assert Article.objects.filter(published=True).nearest(QUERY).explain_nearest().startswith(f"Index scan on {NAME}")


@pytest.mark.pg_embedding
def test_explanation_after_a_crash_says_so(many):
    execute("DELETE FROM pgembedding_sound")
    assert Article.objects.nearest(QUERY).explain_nearest() == (
        f"{UNFILTERED}the server has crashed since the index was built, or is a standby. {ADVICE}"
    )


@pytest.mark.pgvector
def test_explanation_knows_the_indexes_of_partitions(isolated, force_index):
    class Event(models.Model):
        pk = models.CompositePrimaryKey("id", "day")
        id = models.BigIntegerField()
        day = models.IntegerField()
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="event_hnsw")]

    execute("CREATE TABLE tests_event (id bigint, day integer, embedding vector(3)) PARTITION BY RANGE (day)")
    execute("CREATE TABLE tests_event_1 PARTITION OF tests_event FOR VALUES FROM (0) TO (9)")
    execute("CREATE INDEX event_hnsw ON tests_event USING hnsw (embedding vector_l2_ops)")
    execute("INSERT INTO tests_event SELECT g, g % 9, ARRAY[g, 1, 2]::vector FROM generate_series(1, 2000) g")
    execute("ANALYZE tests_event_1")
    assert Event.objects.nearest(QUERY).explain_nearest().startswith("Index scan on event_hnsw")
    filtered = Event.objects.filter(day__gte=0).nearest(QUERY)
    assert "no statistics" not in filtered.explain_nearest()


def test_explanation_of_a_search_for_nothing_asks_for_no_plan(many):
    rows = Article.objects.filter(pk__in=[]).nearest(QUERY, exact=False)
    assert rows.explain_nearest().startswith(f"Index scan on {NAME}")


def test_explanation_of_counts_without_statistics_says_that_they_are_guesses(empty_index, no_statistics):
    Article.objects.bulk_create(Article(title=str(i), embedding=[1, 2, i]) for i in range(2000))
    rows = Article.objects.filter(title__startswith="1").nearest(QUERY)
    assert rows.explain_nearest().endswith(GUESSES)
    execute("ANALYZE tests_article")
    assert "statistics" not in rows.explain_nearest()


def test_explanation_of_an_index_that_is_not_read_says_that_there_are_no_statistics(empty_index, no_statistics):
    execute(f"DROP INDEX {NAME}")
    rows = Article.objects.nearest(QUERY)
    assert rows.explain_nearest() == f"{UNFILTERED}the index is missing. {ADVICE}{GUESSES}"
    execute("ANALYZE tests_article")
    assert rows.explain_nearest().endswith(GUESSES)  # Of an empty table nothing is known.
    Article.objects.create(title="a", embedding=[1, 2, 3])
    execute("ANALYZE tests_article")
    assert rows.explain_nearest() == f"{UNFILTERED}the index is missing. {ADVICE}"


def test_explanation_of_a_union_is_no_error(many):
    rows = Article.objects.nearest(QUERY, 2).union(Article.objects.nearest(-QUERY, 2)).order_by("distance")
    assert rows.explain_nearest().startswith("Exact scan")
    assert rows[:3].explain_nearest()
