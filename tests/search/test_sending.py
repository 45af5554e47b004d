"""A vector is sent for the rows that are returned, and for no others: never below a Sort."""

import json

import numpy as np
import pytest
from django.db import connection
from django.db.models import Count, F, Window
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext

from pgembedding_django import Centroid, L2Distance
from tests.admin import ARTICLES, serve
from tests.models import Article, Required
from tests.support.many import QUERY, VECTORS, ids, ranked

pytestmark = pytest.mark.django_db


def sends(node):
    """Tell whether a node of a plan computes the binary form of a vector, rather than passing it on."""
    # What a node below has computed is named in parentheses.
    return any("_send(" in column and not column.startswith("(") for column in node.get("Output", ()))


def nodes_below_sorts(node, below=False):
    if below:
        yield node
    for part in node.get("Plans", ()):
        yield from nodes_below_sorts(part, below or node["Node Type"] in ("Sort", "Incremental Sort"))


def check_plan(sql, params=None):
    """Assert that a statement sends no vector below a Sort, and return its nodes that do."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) {sql}", params)
        (plan,) = cursor.fetchone()
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    assert not any(map(sends, nodes_below_sorts(top))), plan
    return plan


def statements(run):
    """Return the statements of a call that send a vector."""
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured if "_send(" in query["sql"]]


@pytest.fixture
def sorting(empty_index):
    """A few rows, and plans that sort them rather than read an index, as those of many rows do."""
    Article.objects.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(VECTORS[:50]))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")


READS = {
    "latest": lambda: Article.objects.latest("title"),
    "order_by": lambda: list(Article.objects.order_by("title")[:25]),
    "order_by all": lambda: list(Article.objects.order_by("title")),
    "order_by an annotation": lambda: list(Article.objects.alias(d=L2Distance("embedding", QUERY)).order_by("d")[:5]),
    "annotation of the vector": lambda: list(Article.objects.annotate(v=F("embedding")).values("v").order_by("title")),
    "select_related": lambda: list(Article.objects.select_related("section").order_by("section__name", "title")[:5]),
    "aggregate": lambda: list(Article.objects.annotate(n=Count("section")).order_by("title")[:5]),
    "window": lambda: list(Article.objects.annotate(n=Window(RowNumber(), order_by="title")).order_by("n")[:5]),
    "exact": lambda: list(Article.objects.nearest(QUERY, 5, exact=True)),
    "filtered": lambda: list(Article.objects.filter(title__in=["1", "2"]).nearest(QUERY, 5)),
    "many filtered": lambda: list(Article.objects.filter(published=True).nearest(QUERY, 5)),
    "page": lambda: list(Article.objects.nearest(QUERY, 50)[10:20]),
    "hybrid": lambda: list(Article.objects.hybrid("1", 5, fields=["title"])),
}


@pytest.mark.parametrize("read", READS)
def test_no_vector_is_sent_below_a_sort(sorting, read):
    (sql,) = statements(READS[read])
    check_plan(sql)


@pytest.mark.parametrize("read", ["latest", "order_by", "exact", "many filtered"])
def test_no_vector_is_sent_below_a_sort_of_a_parallel_plan(sorting, read):
    with connection.cursor() as cursor:
        cursor.execute(
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; "
            "SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL max_parallel_workers_per_gather = 2"
        )
    (sql,) = statements(READS[read])
    check_plan(sql)


def test_no_vector_is_sent_below_the_sort_of_the_admin(sorting, settings, admin_client):
    serve(settings, Article, list_display=["title"], ordering=["title"])
    sent = statements(lambda: admin_client.get(ARTICLES))
    assert sent
    for sql in sent:
        check_plan(sql)


def test_vector_is_sent_outside_of_the_keys_that_prove_the_margin(many, force_index):
    (sql,) = statements(lambda: list(Article.objects.filter(published=True).nearest(QUERY, 10)[2:7]))
    _, _, keys = sql.partition(" IN (SELECT ")
    assert "count(*) OVER ()" in keys
    assert "_send(" not in keys
    assert sql.count("_send(") == 1


@pytest.mark.pgvector
def test_vector_is_sent_outside_of_the_ranking_of_a_page(many, force_index):
    (sql,) = statements(lambda: list(Article.objects.nearest(QUERY, 10)[2:7]))
    whole, _, page = sql.partition('SELECT "c1"')
    assert "_send(" not in whole
    assert page.count("_send(") == 1


def test_page_has_the_vectors_of_its_rows(many, force_index):
    rows = Article.objects.filter(published=True).select_related("section").nearest(QUERY, 10)[2:7]
    assert ids(rows) == ranked(lambda i: i % 2 == 0)[2:7]
    for row in rows:
        np.testing.assert_array_equal(row.embedding, VECTORS[int(row.title)])


def test_vectors_are_grouped_and_averaged_as_before():
    Required.objects.bulk_create(Required(embedding=[x, 0, 0]) for x in (1, 1, 3))
    groups = Required.objects.values("embedding").annotate(n=Count("pk")).order_by("n")
    assert [(row["embedding"].tolist(), row["n"]) for row in groups] == [([3, 0, 0], 1), ([1, 0, 0], 2)]
    assert len(Required.objects.values("embedding").distinct()) == 2


@pytest.mark.pgvector
def test_average_of_vectors_is_sent_above_its_group():
    Required.objects.bulk_create(Required(embedding=[x, 0, 0]) for x in (1, 5))
    assert Required.objects.aggregate(c=Centroid("embedding"))["c"].tolist() == [3, 0, 0]


def test_null_is_sent_as_none():
    Article.objects.create(title="empty")
    assert Article.objects.get().embedding is None
