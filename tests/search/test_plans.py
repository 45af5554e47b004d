"""Which plan nearest() chooses, and why."""

import time
from dataclasses import replace

import numpy as np
import pytest
from django.db import connection
from django.db.models import Count, Value, Window
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext

from pgembedding_django import EmbeddingField
from pgembedding_django.engines import ENGINES
from pgembedding_django.engines.scan import Scan
from pgembedding_django.search import estimates
from pgembedding_django.search.plans import EXACT, candidate_cost, choose_scan, get_scan
from pgembedding_django.search.search import get_ranking
from tests.models import Article, Required, Section
from tests.support.many import QUERY, RANKED, VECTORS, N, ids, ranked

pytestmark = pytest.mark.django_db


def test_scan_without_filter_goes_through_the_index(many, force_index):
    assert Article.objects.nearest(QUERY).explain_nearest().endswith(": no filter stands before it.")
    assert "Index scan on article_embedding_hnsw" in Article.objects.nearest(QUERY).explain_nearest()


def test_scan_with_filter_that_keeps_few_is_exact(many):
    few = Article.objects.filter(title__in=["1", "2", "3"]).nearest(QUERY)
    assert few.explain_nearest() == ("Exact scan: the filter keeps about 3 rows, and any 800 are read faster exactly.")


def test_scan_with_filter_that_keeps_one_row_says_row(many):
    one = Article.objects.filter(pk=Article.objects.earliest("pk").pk).nearest(QUERY)
    assert one.explain_nearest() == "Exact scan: the filter keeps about 1 row, and any 800 are read faster exactly."


def test_scan_with_filter_that_keeps_some_compares_the_costs(many):
    # 20 * 4 * 10 * 4000 rows: the square root is 1788.9.
    some = Article.objects.filter(pk__lte=Article.objects.order_by("pk")[1000].pk).nearest(QUERY)
    assert some.explain_nearest().startswith("Exact scan: the filter keeps about 1,0")
    assert some.explain_nearest().endswith(
        " of 4,000 rows, and up to 1,788 are read faster than an index finds 10 of them."
    )


def test_scan_with_filter_that_keeps_many_goes_through_the_index(many, force_index):
    half = Article.objects.filter(published=True).nearest(QUERY)
    assert half.explain_nearest().startswith("Index scan on article_embedding_hnsw")
    assert half.explain_nearest().endswith(" of 4,000 rows, more than the 1,788 that are read as fast.")


@pytest.mark.parametrize(
    ("exact", "words"),
    [(True, "Exact scan: exact=True asks for it."), (False, "(exact=False)")],
)
def test_scan_forced_is_not_chosen(many, exact, words):
    rows = Article.objects.filter(title="1").nearest(QUERY, exact=exact)
    assert words in rows.explain_nearest()
    assert ids(rows) == [1]


def test_scan_without_declared_index_is_exact():
    assert Required.objects.nearest(QUERY).explain_nearest() == (
        "Exact scan: Required.embedding has no HnswIndex for L2Distance."
    )


def test_scan_under_distinct_is_exact(many):
    rows = Article.objects.distinct().nearest(QUERY, 5)
    assert rows.explain_nearest() == "Exact scan: no index can serve DISTINCT, GROUP BY or a window."
    assert ids(rows) == RANKED[:5]


def test_scan_under_a_filter_on_a_window_is_exact(many):
    rows = Article.objects.annotate(place=Window(RowNumber(), order_by="pk")).filter(place__lte=50).nearest(QUERY, 3)
    assert rows.explain_nearest().endswith("or a window.")
    assert ids(rows) == ranked(lambda i: i < 50)[:3]


def test_scan_under_an_annotation_of_a_window_is_exact(many, force_index):
    rows = Article.objects.filter(published=True).annotate(total=Window(Count("pk"))).nearest(QUERY, 3)
    assert rows.explain_nearest().endswith("or a window.")
    assert [row.total for row in rows] == [N // 2] * 3
    afterwards = Article.objects.nearest(QUERY, 3).annotate(total=Window(Count("pk")))
    assert [row.total for row in afterwards] == [N] * 3


def test_scan_behind_a_filter_across_a_join_asks_the_planner(many):
    # The planner takes each of the sections for as common as any other.
    section, *_ = Section.objects.bulk_create(Section(name=str(i)) for i in range(1000))
    Article.objects.filter(title__in=["1", "2", "3"]).update(section=section)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article, tests_section")
    rows = Article.objects.filter(section__name="0").nearest(QUERY, 2)
    assert rows.explain_nearest().startswith("Exact scan: the filter keeps about ")
    assert ids(rows) == ranked(lambda i: i in (1, 2, 3))[:2]


@pytest.mark.pgvector
def test_scan_asks_the_planner_only_behind_a_filter(many, django_assert_num_queries):
    with django_assert_num_queries(1):
        list(Article.objects.nearest(QUERY))
    with django_assert_num_queries(2):
        list(Article.objects.filter(title__in=["1", "2"]).nearest(QUERY, 2))


def test_scan_of_another_distance_than_the_index_warns(many):
    with pytest.warns(RuntimeWarning) as caught:
        rows = Article.objects.nearest(QUERY, 3, distance="cosine")
    assert str(caught[0].message) == (
        'Article.embedding is indexed for distance "l2" by article_embedding_hnsw, so nearest() by "cosine" reads '
        "every row. Add an HnswIndex for it, or say exact=True."
    )
    assert caught[0].filename == __file__
    assert len(rows) == 3


def test_explain_nearest_of_another_queryset_is_refused():
    with pytest.raises(TypeError) as caught:
        Article.objects.all().explain_nearest()
    assert str(caught.value) == "explain_nearest() explains a queryset that nearest() or hybrid() returned."


# The nearest of each


@pytest.fixture
def sections(many):
    """Each article belongs to one of ten sections, by its number."""
    made = Section.objects.bulk_create(Section(name=str(i)) for i in range(10))
    for i, section in enumerate(made):
        Article.objects.filter(title__endswith=str(i)).update(section=section)
    return made


def first_of_each(count):
    return sorted((ranked(lambda i, digit=digit: i % 10 == digit)[0] for digit in range(10)), key=RANKED.index)[:count]


@pytest.mark.parametrize("names", [["section"], ["section__name"], ["section_id"]])
@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_behind_distinct_fields_is_the_nearest_of_each(sections, force_index, names, exact):
    rows = Article.objects.distinct(*names).nearest(QUERY, 3, exact=exact)
    assert ids(rows) == first_of_each(3)
    assert ids(rows[1:]) == first_of_each(3)[1:]
    assert rows.count() == 3
    assert set(ids(Article.objects.filter(pk__in=rows.values("pk")))) == set(first_of_each(3))
    assert ids(Article.objects.distinct(*names).nearest(QUERY, 20)) == first_of_each(10)


def test_nearest_of_each_says_that_it_reads_every_row(sections):
    rows = Article.objects.distinct("section").nearest(QUERY, 3)
    assert rows.explain_nearest() == "Exact scan: the nearest of each section is among all rows."
    assert "article_embedding_hnsw" not in rows.explain()


def test_nearest_of_each_respects_the_filter_and_the_limit(sections):
    rows = Article.objects.filter(published=True).distinct("section").nearest(QUERY, 5, max_distance=0.3)
    near = [i for i in first_of_each(10) if i % 2 == 0]
    assert ids(rows) == [i for i in near if np.linalg.norm(VECTORS[i] - QUERY) <= 0.3][:5]


def test_hybrid_behind_distinct_fields_is_refused():
    with pytest.raises(TypeError) as caught:
        Article.objects.distinct("section", "title").hybrid("fox", fields=["title"])
    assert str(caught.value) == (
        'hybrid() cannot stand behind distinct("section", "title"): which row of each would it rank? Use nearest(), '
        "which ranks the nearest of each."
    )


# Aggregation


def test_nearest_grouped_afterwards_is_refused(many):
    rows = Article.objects.nearest(QUERY, 50).values("published")
    with pytest.raises(TypeError) as caught:
        rows.annotate(n=Count("pk"))
    assert str(caught.value) == (
        "annotate() with an aggregate over values() cannot stand behind nearest(), which returns a slice. Aggregate "
        "the rows of filter(pk__in=rows.values('pk'))."
    )
    counted = Article.objects.filter(pk__in=rows.values("pk")).values("published").annotate(n=Count("pk"))
    assert {row["published"]: row["n"] for row in counted} == {
        even: sum(i % 2 == (not even) for i in RANKED[:50]) for even in (True, False)
    }


def test_hybrid_grouped_afterwards_is_refused(many):
    with pytest.raises(TypeError, match="cannot stand behind hybrid"):
        Article.objects.hybrid("fox", fields=["title"]).values("published").annotate(n=Count("pk"))


@pytest.mark.parametrize("rank", [lambda rows: rows.nearest(QUERY), lambda rows: rows.hybrid("1", fields=["title"])])
def test_ranking_of_groups_is_refused(rank):
    with pytest.raises(TypeError) as caught:
        rank(Article.objects.values("published").annotate(n=Count("pk")))
    assert str(caught.value) == (
        "nearest() ranks rows, got groups of Article rows. Rank first, and aggregate the rows of "
        "filter(pk__in=rows.values('pk'))."
    )


def test_aggregates_of_each_row_and_of_all_stand_behind_nearest(sections):
    rows = Article.objects.nearest(QUERY, 5)
    assert [row.n for row in rows.annotate(n=Count("section"))] == [1] * 5
    assert rows.aggregate(n=Count("pk"))["n"] == 5
    assert [row["n"] for row in rows.values("title").annotate(n=Value(1))] == [1] * 5


# How many statements a search sends


def sent(run):
    """Return how each statement of a call begins, and whether it goes through the index and on."""
    with CaptureQueriesContext(connection) as captured:
        run()
    ways = {"strict_order": "on", "hnsw.ef_search": "index"}
    return [
        next((way for mark, way in ways.items() if mark in query["sql"]), query["sql"].split()[0]) for query in captured
    ]


@pytest.mark.pgvector
def test_statements_of_an_unfiltered_search(many, force_index):
    assert sent(lambda: ids(Article.objects.nearest(QUERY))) == ["index"]
    assert sent(lambda: ids(Article.objects.nearest(QUERY, 100)[10:20])) == ["index"]


@pytest.mark.pgvector
def test_statements_of_a_search_whose_candidates_are_deleted(many, force_index):
    Article.objects.filter(title__in=[str(i) for i in RANKED[:150]]).delete()
    rows = Article.objects.nearest(QUERY, 10)
    assert sent(lambda: list(rows)) == ["index", "on"]
    assert ids(rows) == RANKED[150:160]


@pytest.mark.pgvector
def test_statements_of_a_search_for_more_than_its_candidates(many, force_index):
    assert sent(lambda: ids(Article.objects.nearest(QUERY, 2000))) == ["on"]


@pytest.mark.pgvector
def test_statements_of_a_search_for_more_rows_than_there_are(empty_index, force_index):
    Article.objects.bulk_create(Article(title=str(i), embedding=VECTORS[i]) for i in range(3))
    assert sent(lambda: list(Article.objects.nearest(QUERY))) == ["index", "on", "SELECT"]
    # There were three, so an index cannot give ten.
    assert sent(lambda: list(Article.objects.nearest(QUERY))) == ["SELECT"]
    assert sent(lambda: list(Article.objects.nearest(QUERY, 3))) == ["index"]
    Article.objects.create(title="3", embedding=VECTORS[3])
    assert len(Article.objects.nearest(QUERY)) == 4


@pytest.mark.pgvector
def test_statements_of_a_search_that_no_scan_of_the_index_answers(force_index):
    # More dead rows, all of them nearer, than an index scan visits in so little memory.
    Article.objects.bulk_load(Article(title="lost", embedding=vector) for vector in VECTORS)
    Article.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64kB'")
    Article.objects.create(title="1", embedding=[90, 90, 90])
    for _ in range(2):
        # One row was wanted and came, so nothing is remembered.
        assert sent(lambda: list(Article.objects.nearest(QUERY, 1))) == ["index", "on", "SELECT"]


@pytest.mark.pgvector
def test_statements_of_a_filtered_search(many, force_index):
    few, half = Article.objects.filter(title__in=["1", "2"]), Article.objects.filter(published=True)
    assert sent(lambda: list(few.nearest(QUERY))) == ["EXPLAIN", "SELECT"]
    assert sent(lambda: list(half.nearest(QUERY))) == ["EXPLAIN", "index"]
    # The estimate of the same condition is known for a short time.
    assert sent(lambda: list(half.nearest(-QUERY))) == ["index"]
    assert sent(lambda: half.nearest(QUERY).explain())[0] == "EXPLAIN"


@pytest.mark.pgvector
def test_statements_of_a_contradicting_filter(many, force_index):
    far = Article.objects.filter(title__in=[str(i) for i in RANKED[N // 3 :]])
    assert sent(lambda: list(far.nearest(QUERY))) == ["EXPLAIN", "index", "SELECT"]


@pytest.mark.pgvector
def test_version_of_the_extension_is_asked_once_a_process():
    version = ENGINES["pgvector"].version(connection)
    another = connection.copy()
    assert ENGINES["pgvector"].version(another) == version
    assert another.connection is None


@pytest.mark.pgvector
@pytest.mark.parametrize(("rows", "ef_search"), [(1_000, 40), (6_000, 100), (20_000, 150), (10**6, 200), (-1, 200)])
def test_ef_search_fits_the_rows_of_the_table(db, rows, ef_search):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reltuples = %s WHERE relname = 'tests_article'", [rows])
        list(Article.objects.nearest(QUERY))
        cursor.execute("SELECT current_setting('hnsw.ef_search')::int")
        assert cursor.fetchone() == (ef_search,)
    query = Article.objects.nearest(QUERY).query
    scan = choose_scan(query, get_ranking(query).search, connection, fresh=True)
    assert ENGINES["pgvector"].fitted_ef_search(connection, '"tests_article"', scan) == ef_search


def test_ef_search_of_pg_embedding_is_that_of_the_index_whatever_the_table(db):
    scan = Scan(index="note_hnsw", ef_search=64, fits_table=True)
    assert ENGINES["pg_embedding"].fitted_ef_search(connection, '"tests_article"', scan) == 64


@pytest.mark.pgvector
def test_ef_search_is_at_least_twice_k(many, force_index):
    assert "with ef_search=150:" in Article.objects.nearest(QUERY, 75).explain_nearest()


def test_candidate_costs_more_rows_where_vectors_stand_in_them(monkeypatch, many):
    monkeypatch.setattr(Article._meta.get_field("embedding"), "dimensions", 3)
    search = get_ranking(Article.objects.nearest(QUERY).query).search
    assert candidate_cost(search) == 20
    for storage, dimensions, cost in (("single", 501, 4), ("half", 501, 20), ("half", 1001, 4)):
        field = EmbeddingField(dimensions, storage=storage)
        assert candidate_cost(replace(search, field=field)) == cost


def test_remembered_number_is_forgotten_in_time_and_in_bulk(monkeypatch):
    estimates.remember("key", 7)
    assert estimates.recall("key") == 7
    now = time.monotonic()
    monkeypatch.setattr(estimates.time, "monotonic", lambda: now + 11)
    assert estimates.recall("key") is None
    for number in range(estimates.MOST + 1):
        estimates.remember(number, number)
    assert estimates.recall(0) is None


def test_estimate_of_a_filter_that_keeps_nothing(many):
    rows = Article.objects.extra(where=["false"]).nearest(QUERY)
    assert rows.explain_nearest() == "Exact scan: the filter keeps about 0 rows, and any 800 are read faster exactly."


def test_condition_of_a_ranking_is_exact_in_a_query_that_is_none():
    assert get_scan(Article.objects.all().query.get_compiler("default")) is EXACT
