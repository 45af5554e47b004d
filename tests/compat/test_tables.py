"""A statement with a common table of its own: a canary that sings where a release of Django changes what it does."""

import pickle
from contextlib import contextmanager

import pytest
from django.db.models import BooleanField, Func
from django.db.models.sql import Query

from pgembedding_django.compat.queries import replace_query
from pgembedding_django.compat.tables import get_table, with_table
from tests.models import Article

pytestmark = pytest.mark.django_db


class Wanted:
    """A table of one title, which is "b" while the statement runs."""

    title = "a"

    def write(self, connection):
        return '"wanted" ("title") AS (SELECT %s)', (Wanted.title,)

    @contextmanager
    def reading(self, connection):
        before, Wanted.title = Wanted.title, "b"
        yield
        Wanted.title = before


class IsWanted(Func):
    output_field = BooleanField()
    template = '%(expressions)s IN (SELECT "title" FROM "wanted")'


class Own(Query):
    pass


def wanted():
    rows = Article.objects.filter(IsWanted("title"))
    return replace_query(rows, with_table(rows.query, Wanted()))


def test_table_stands_before_the_statement_and_in_an_aggregate():
    Article.objects.bulk_create(Article(title=title) for title in "abb")
    assert [row.title for row in wanted()] == ["b", "b"]
    assert wanted().count() == 2
    assert Wanted.title == "a"
    assert "'b'::text" in wanted().explain()


def test_table_travels_with_a_query_of_its_own_class_and_in_pickles():
    query = pickle.loads(pickle.dumps(with_table(Own(Article), Wanted())))
    assert isinstance(query, Own)
    assert isinstance(get_table(query.clone()), Wanted)
    assert get_table(Article.objects.all().query) is None
