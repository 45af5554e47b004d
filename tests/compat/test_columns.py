"""Canary of compat.columns: a statement with known columns is the one that Django compiles anew."""

import pytest
from django.db import connection
from django.db.models import F

from pgembedding_django.compat.columns import forget_columns, with_known_columns
from tests.models import Article


def compiled(query):
    sql, params = query.get_compiler(connection=connection).as_sql()
    return sql, tuple(params)


@pytest.mark.django_db
def test_statement_with_known_columns_is_that_of_django():
    forget_columns()
    for number in (1, 2):
        query = Article.objects.annotate(more=F("id") + number).order_by("pk").query
        assert compiled(with_known_columns(query, "a shape", "more", (number,))) == compiled(query)
    forget_columns()
