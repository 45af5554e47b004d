"""Vectors as parameters of raw SQL, as the code of projects has them."""

import pytest
from django.db import connection

from pgembedding_django import Vector
from tests.models import Article

pytestmark = [pytest.mark.django_db, pytest.mark.pgvector]


@pytest.fixture
def article():
    Article.objects.create(title="far", embedding=[9, 9, 9])
    return Article.objects.create(title="near", embedding=[1, 2, 3])


@pytest.mark.parametrize("as_parameter", [lambda v: v, str, lambda v: str(list(v))], ids=["vector", "str", "list"])
def test_raw_sql_takes_a_vector(article, as_parameter):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT title FROM tests_article ORDER BY embedding <-> %s::vector LIMIT 1",
            [as_parameter(article.embedding)],
        )
        assert cursor.fetchone() == ("near",)


def test_raw_sql_takes_a_vector_without_a_cast(article):
    with connection.cursor() as cursor:
        cursor.execute("SELECT embedding <-> %s FROM tests_article WHERE title = 'near'", [Vector([1, 2, 5])])
        assert cursor.fetchone() == (2.0,)


def test_raw_queryset_takes_a_vector(article):
    rows = Article.objects.raw("SELECT * FROM tests_article ORDER BY embedding <-> %s LIMIT 1", [article.embedding])
    assert [row.title for row in rows] == ["near"]


def test_list_of_numbers_needs_a_cast(article):
    with connection.cursor() as cursor:
        cursor.execute("SELECT embedding <-> %s::real[]::vector FROM tests_article", [list(article.embedding)])
        assert sorted(cursor.fetchall())[0] == (0.0,)
