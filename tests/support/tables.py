"""Rows in the tables that tests share, and what makes a plan certain."""

import pytest
from django.apps import apps
from django.db import connection, connections

from tests.support.many import VECTORS


def load_articles(vectors, using="default"):
    """Store articles whose title is their place among the vectors; each second is published; statistics are fresh."""
    Article = apps.get_model("tests", "Article")
    rows = (Article(title=str(i), published=i % 2 == 0, embedding=vector) for i, vector in enumerate(vectors))
    Article.objects.using(using).bulk_load(rows, rebuild_indexes=True)
    with connections[using].cursor() as cursor:
        cursor.execute("ANALYZE tests_article")


@pytest.fixture
def empty_index(db):
    """Begin with an index of its own: what other tests rolled back stays in the shared one, and hides rows in it."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tests_article CASCADE")


@pytest.fixture
def many(empty_index):
    """N articles of VECTORS, as load_articles() stores them."""
    load_articles(VECTORS)


@pytest.fixture
def no_statistics(db):
    """Forget what ANALYZE has seen of articles that other tests committed."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'tests_article'::regclass")


@pytest.fixture
def force_index(db):
    """Forbid sequential scans and sorts, so that a plan without the index would show."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
