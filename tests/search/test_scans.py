"""How nearest() runs, and that no answer is ever short."""

import pickle

import numpy as np
import pytest
from django.db import OperationalError, connection, models, transaction
from django.db.models import Count, OuterRef, Q, Subquery, Window
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.engines import get_engine
from pgembedding_django.search.ranking import plan
from tests.models import Article, Required, Section
from tests.support.many import QUERY, RANKED, VECTORS, N, ids, ranked

pytestmark = pytest.mark.django_db


@pytest.fixture
def reduced(request, monkeypatch):
    """Give Required an index of reduced precision, declared and built."""
    index = HnswIndex(fields=["embedding"], name="required_reduced", precision=request.param)
    monkeypatch.setattr(Required._meta, "indexes", [index])
    Required.objects.bulk_load(Required(pk=i + 1, embedding=vector) for i, vector in enumerate(VECTORS))
    with connection.schema_editor() as editor:
        editor.add_index(Required, index)
    return index


# k rows, always


@pytest.mark.parametrize("k", [1, 100, 1000, 2000, N, N + 1])
def test_nearest_returns_k_beyond_ef_search(many, force_index, k):
    found = ids(Article.objects.nearest(QUERY, k))
    assert len(found) == len(set(found)) == min(k, N)


@pytest.mark.parametrize("exact", [None, False])
def test_nearest_behind_a_filter_that_keeps_few_is_complete(many, force_index, exact):
    keep = {str(i) for i in range(0, N, 200)}
    rows = Article.objects.filter(title__in=keep).nearest(QUERY, 10, exact=exact)
    assert ids(rows) == ranked(lambda i: str(i) in keep)[:10]


def test_nearest_behind_a_filter_that_contradicts_the_query_is_exact(many, force_index):
    far = RANKED[N // 2 :]
    rows = Article.objects.filter(title__in=[str(i) for i in far]).nearest(QUERY, 10)
    assert ids(rows) == far[:10]


def test_nearest_after_deletes_without_vacuum_is_complete(many, force_index):
    Article.objects.filter(title__in=[str(i) for i in RANKED[:60]]).delete()
    assert ids(Article.objects.nearest(QUERY, 10)) == RANKED[60:70]


def test_nearest_after_updates_to_null_is_complete(many, force_index):
    Article.objects.filter(title__in=[str(i) for i in RANKED[:60]]).update(embedding=None)
    assert ids(Article.objects.nearest(QUERY, 10)) == RANKED[60:70]


def test_nearest_identical_vectors_come_once_each(force_index):
    Article.objects.bulk_load(Article(title=str(i), embedding=[1, 2, 3]) for i in range(1000))
    found = ids(Article.objects.nearest(QUERY, 1000))
    assert sorted(found) == list(range(1000))


def test_nearest_pages_are_disjoint_and_complete(many):
    ranking = Article.objects.nearest(QUERY, 100)
    pages = [ids(ranking[start : start + 30]) for start in range(0, 100, 30)]
    assert [len(page) for page in pages] == [30, 30, 30, 10]
    assert [i for page in pages for i in page] == RANKED[:100]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_pages_of_ties_are_disjoint_and_complete(exact):
    # So few rows that the planner reads them all for a long page, and goes through the index for a short one.
    Article.objects.bulk_load(Article(title=str(i), embedding=VECTORS[i % 40]) for i in range(1500))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article")
    ranking = Article.objects.nearest(QUERY, 100, exact=exact)
    pages = [i for start in range(0, 100, 10) for i in ids(ranking[start : start + 10])]
    assert pages == ids(ranking)
    assert len(set(pages)) == 100


def test_nearest_pages_behind_a_filter_are_disjoint_and_complete(many, force_index):
    ranking = Article.objects.filter(published=True).nearest(QUERY, 10)
    assert ranking.explain_nearest().startswith("Index scan")
    pages = [i for start in range(0, 10, 3) for i in ids(ranking[start : start + 3])]
    assert pages == ranked(lambda i: i % 2 == 0)[:10]


@pytest.mark.pgvector
def test_nearest_page_is_exact_where_its_ranking_is(many, force_index):
    # Of the 200 candidates, the filter keeps 20: enough for a page of two, but not for three times ten.
    titles = [str(i) for i in RANKED[180:]]
    ranking = Article.objects.filter(title__in=titles).nearest(QUERY, 10)
    for rows in (ranking, ranking[:2]):
        with CaptureQueriesContext(connection) as captured:
            assert ids(rows) == RANKED[180:190][: len(rows)]
        assert "set_config" not in captured[-1]["sql"]


def test_nearest_page_explains_its_own_plan(many, force_index):
    assert "CTE ranking" in Article.objects.nearest(QUERY, 10)[5:].explain()


def test_nearest_after_reverse_returns_the_nearest(many):
    assert ids(Article.objects.order_by("pk").reverse().nearest(QUERY, 3)) == RANKED[:3]


def test_nearest_query_is_pickled_without_its_rows(many, django_assert_num_queries):
    rows, again = Article.objects.filter(published=True).nearest(QUERY, 3), Article.objects.all()
    with django_assert_num_queries(0):
        again.query = pickle.loads(pickle.dumps(rows.query))
    assert ids(again) == ids(rows)
    assert len(pickle.dumps(rows)) < 10_000


def test_nearest_count_needs_no_ranking(many, django_assert_num_queries):
    with django_assert_num_queries(1) as captured:
        assert Article.objects.filter(published=True).nearest(QUERY, 3000).count() == N // 2
    assert "ORDER BY" not in captured[0]["sql"]


# Distance as a limit


@pytest.mark.parametrize("exact", [None, True])
def test_nearest_within_distance_is_cut_there(many, force_index, exact):
    distances = np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1)
    within = int((distances <= 0.35).sum())
    assert 10 < within < 1000
    assert ids(Article.objects.nearest(QUERY, 1000, max_distance=0.35, exact=exact)) == RANKED[:within]


def test_nearest_within_distance_keeps_the_index(many, force_index):
    assert "article_embedding_hnsw" in Article.objects.nearest(QUERY, 10, max_distance=0.2).explain()


def test_nearest_within_distance_counts_and_selects_alike(many):
    rows = Article.objects.nearest(QUERY, 1000, max_distance=0.35)
    assert rows.count() == len(rows) == len(rows.values_list("title")) == len(rows.values("distance"))


def test_nearest_within_distance_as_subquery(many):
    rows = Article.objects.nearest(QUERY, 1000, max_distance=0.35)
    assert Article.objects.filter(pk__in=rows.values("pk")).count() == len(rows)


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_within_distance_in_a_union_or_an_aggregate_is_cut_there(many, exact):
    within = int((np.linalg.norm(VECTORS.astype(np.float64) - QUERY, axis=1) <= 0.35).sum())
    rows = Article.objects.nearest(QUERY, 1000, max_distance=0.35, exact=exact)
    assert len(rows.union(rows.all())) == rows.aggregate(found=Count("pk"))["found"] == within


def test_nearest_within_distance_cuts_what_a_filter_on_a_window_kept(many):
    placed = Article.objects.annotate(place=Window(RowNumber(), order_by="pk")).filter(place__lte=50)
    distances = np.linalg.norm(VECTORS[:50].astype(np.float64) - QUERY, axis=1)
    rows = placed.nearest(QUERY, 50, max_distance=1)
    assert 0 < len(rows) == rows.count() == int((distances <= 1).sum()) < 50
    assert all(row.place == int(row.title) + 1 for row in rows)
    assert Article.objects.filter(pk__in=placed.nearest(QUERY, 5, max_distance=1).values("pk")).count() == 5


# Composite keys


@pytest.mark.parametrize("exact", [None, True])
def test_nearest_values_with_a_composite_key_are_ordered_and_cut_by_the_distance(isolated, exact):
    class Part(models.Model):
        pk = models.CompositePrimaryKey("one", "two")
        one = models.IntegerField()
        two = models.IntegerField()
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="part_hnsw")]

    with connection.schema_editor() as editor:
        editor.create_model(Part)
    Part.objects.bulk_create(Part(one=0, two=i, embedding=[i, 0, 0]) for i in range(10))
    rows = Part.objects.nearest([9, 0, 0], 3, exact=exact)
    assert list(rows.values_list("pk", "distance")) == [((0, 9), 0), ((0, 8), 1), ((0, 7), 2)]
    assert list(rows.filter(distance__lt=2).values_list("pk", "distance")) == [((0, 9), 0), ((0, 8), 1)]
    placed = Part.objects.annotate(place=Window(RowNumber(), order_by="two")).filter(place__lte=5)
    assert [row.two for row in placed.nearest([9, 0, 0], 2, exact=exact)] == [4, 3]


# Reduced precision


@pytest.mark.pgvector
@pytest.mark.parametrize("reduced", ["half"], indirect=True)
def test_half_precision_uses_its_index_and_returns_exact_distances(reduced, force_index):
    rows = Required.objects.nearest(QUERY, 10)
    assert "required_reduced" in rows.explain()
    assert [row.pk - 1 for row in rows] == RANKED[:10]
    expected = np.linalg.norm(VECTORS[RANKED[:10]] - QUERY, axis=1)
    assert [row.distance for row in rows] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.pgvector
@pytest.mark.parametrize("reduced", ["binary"], indirect=True)
def test_binary_precision_uses_its_index_and_ranks_candidates_again(reduced, force_index):
    rows = Required.objects.nearest(QUERY, 10)
    assert "required_reduced" in rows.explain()
    found = [row.distance for row in rows]
    assert len(found) == 10
    assert found == sorted(found)
    assert rows.explain_nearest() == (
        "Index scan on required_reduced with ef_search=320, 320 candidates ranked again: no filter stands before it."
    )


@pytest.mark.pgvector
@pytest.mark.parametrize("reduced", ["half"], indirect=True)
def test_half_precision_after_reverse_returns_the_nearest(reduced, force_index):
    assert [row.pk - 1 for row in Required.objects.order_by("pk").reverse().nearest(QUERY, 10)] == RANKED[:10]


@pytest.mark.pgvector
@pytest.mark.parametrize("reduced", ["half", "binary"], indirect=True)
def test_reduced_precision_index_deconstructs(reduced):
    path, _args, kwargs = reduced.deconstruct()
    assert path == "pgembedding_django.HnswIndex"
    assert kwargs["precision"] == reduced.precision
    assert reduced.clone() == reduced


@pytest.mark.pgvector
def test_reduced_precision_behind_a_reference_to_an_outer_query_is_exact(monkeypatch):
    index = HnswIndex(fields=["embedding"], name="article_half", precision="half")
    monkeypatch.setattr(Article._meta, "indexes", [index])
    section = Section.objects.create(name="s")
    near, _ = (Article.objects.create(title=t, section=section, embedding=v) for t, v in [("1", QUERY), ("2", -QUERY)])
    inner = Article.objects.filter(section=OuterRef("pk")).nearest(QUERY, 1, exact=False)
    assert Section.objects.annotate(near=Subquery(inner.values("pk"))).get().near == near.pk


@pytest.mark.pgvector
def test_half_precision_index_holds_more_than_2000_dimensions(monkeypatch):
    field = Required._meta.get_field("embedding")
    monkeypatch.setattr(field, "dimensions", 3072)
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE tests_required ALTER embedding TYPE vector(3072)")
        editor.add_index(Required, HnswIndex(fields=["embedding"], name="wide", precision="half"))
    assert isinstance(field, EmbeddingField)
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'wide'")
        assert "(((embedding)::halfvec(3072)) halfvec_l2_ops)" in cursor.fetchone()[0]


def test_pg_embedding_takes_more_candidates_inside_the_gate_and_ranks_them_again(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "ENGINE": "pg_embedding"}
    get_engine(connection).guard_table(connection, "tests_article")
    rows = Article.objects.nearest(QUERY, 10)
    sql, params = plan(rows.query, connection).get_compiler("default").as_sql()
    vector = "{0.1,0.2,-0.3}"
    assert sql.replace(' AS "pk"', "").partition(" WHERE ")[2] == (
        '(("tests_article"."id") IN (SELECT "tests_article"."id" FROM "tests_article" WHERE '
        '((SELECT pgembedding_enter(%s::regclass)) AND "tests_article"."embedding" IS NOT NULL) '
        'ORDER BY ("tests_article"."embedding" <-> %s::real[]) ASC LIMIT 40) '
        'AND "tests_article"."embedding" IS NOT NULL) ORDER BY 7 ASC, "tests_article"."id" ASC LIMIT 10'
    )
    assert list(params) == [vector, '"tests_article"', vector]


def test_precision_unknown_is_refused():
    with pytest.raises(ValueError) as caught:
        HnswIndex(fields=["embedding"], name="a", precision="quarter")
    assert str(caught.value) == 'HnswIndex.precision must be "half", "binary" or None, got \'quarter\'.'


@pytest.mark.pgvector
def test_partial_index_is_used_where_the_filter_implies_it(monkeypatch, many, force_index):
    index = HnswIndex(fields=["embedding"], name="article_published", condition=Q(published=True))
    monkeypatch.setattr(Article._meta, "indexes", [index])
    connection.check_constraints()
    with connection.schema_editor() as editor:
        editor.execute("DROP INDEX article_embedding_hnsw")
        editor.add_index(Article, index)
    rows = Article.objects.filter(published=True).nearest(QUERY, 10)
    assert "article_published" in rows.explain()
    assert ids(rows) == ranked(lambda i: i % 2 == 0)[:10]
    assert ids(Article.objects.nearest(QUERY, 10)) == RANKED[:10]
    assert Article.objects.nearest(QUERY, 10).explain_nearest() == (
        "Exact scan: article_published holds only some rows, and no filter stands before it."
    )


# Under other conditions


def test_nearest_in_read_only_transaction_answers(many):
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    assert ids(Article.objects.nearest(QUERY, 3)) == RANKED[:3]


def test_nearest_on_another_database_asks_and_searches_there(fresh_database):
    fresh_database.migrate("tests")
    there = Article.objects.using(fresh_database.connection.alias)
    there.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(VECTORS[:500]))
    get_engine(fresh_database.connection).version(fresh_database.connection)  # Asked once a process.
    with CaptureQueriesContext(fresh_database.connection) as captured:
        found = ids(there.filter(title__in=["1", "2"]).nearest(QUERY, 1))
    assert found == ranked(lambda i: i in (1, 2))[:1]
    assert [query["sql"].split()[0] for query in captured] == ["EXPLAIN", "SELECT"]
    assert not Article.objects.exists()


def test_nearest_cut_off_by_statement_timeout_leaves_the_connection_usable(many):
    with pytest.raises(OperationalError, match="statement timeout"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1")
        list(Article.objects.extra(where=["pg_sleep(1) IS NOT NULL"]).nearest(QUERY, 3, exact=True))
    assert len(Article.objects.nearest(QUERY, 3)) == 3


@pytest.mark.pg_embedding
def test_nearest_after_a_crash_is_exact_until_marked_again(many):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pgembedding_sound")  # as the server empties an unlogged table
    assert ids(Article.objects.nearest(QUERY, 10)) == RANKED[:10]


@pytest.mark.pg_embedding
def test_write_after_a_crash_is_refused_with_the_remedy(many):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pgembedding_sound")
        cursor.execute("SELECT 'tests_article'::regclass::oid")
        (relid,) = cursor.fetchone()
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        Article.objects.create(title="new", embedding=[1, 2, 3])
    assert f"Run: REINDEX TABLE tests_article; INSERT INTO pgembedding_sound VALUES ({relid})" in str(caught.value)
