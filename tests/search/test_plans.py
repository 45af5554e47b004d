"""Which plan nearest() chooses, and why."""

import numpy as np
import pytest
from django.db import connection
from django.db.models import Count, Value, Window
from django.db.models.functions import RowNumber

from tests.models import Article, Required, Section
from tests.support.many import QUERY, RANKED, VECTORS, N, ids, ranked

pytestmark = pytest.mark.django_db


def test_scan_without_filter_goes_through_the_index(many, force_index):
    assert Article.objects.nearest(QUERY).explain_nearest().endswith(": no filter stands before it.")
    assert "Index scan on article_embedding_hnsw" in Article.objects.nearest(QUERY).explain_nearest()


def test_scan_with_filter_that_keeps_few_is_exact(many):
    few = Article.objects.filter(title__in=["1", "2", "3"]).nearest(QUERY)
    assert few.explain_nearest() == ("Exact scan: the filter keeps about 3 rows, and any 400 are read faster exactly.")


def test_scan_with_filter_that_keeps_one_row_says_row(many):
    one = Article.objects.filter(pk=Article.objects.earliest("pk").pk).nearest(QUERY)
    assert one.explain_nearest() == "Exact scan: the filter keeps about 1 row, and any 400 are read faster exactly."


def test_scan_with_filter_that_keeps_some_compares_the_costs(many):
    # 10 * 4 * 10 * 4000 rows: the square root is 1264.9.
    some = Article.objects.filter(pk__lte=Article.objects.order_by("pk")[1000].pk).nearest(QUERY)
    assert some.explain_nearest().startswith("Exact scan: the filter keeps about 1,0")
    assert some.explain_nearest().endswith(
        " of 4,000 rows, and up to 1,264 are read faster than an index finds 10 of them."
    )


def test_scan_with_filter_that_keeps_many_goes_through_the_index(many, force_index):
    half = Article.objects.filter(published=True).nearest(QUERY)
    assert half.explain_nearest().startswith("Index scan on article_embedding_hnsw")
    assert half.explain_nearest().endswith(" of 4,000 rows, more than the 1,264 that are read as fast.")


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
