"""Each private API of Django that a search uses: a canary that sings where a release of Django changes it."""

import pickle

import numpy as np
import pytest
from django.db import connection
from django.db.models import F
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import Query

from pgembedding_django import EmbeddingQuerySet
from pgembedding_django.compat.pages import paged
from pgembedding_django.compat.queries import (
    clone_plain,
    column_of,
    compiled,
    compiled_conditions,
    current_query,
    default_queryset,
    get_companion,
    getter,
    key_names,
    mixed,
    multiple_joins,
    related_manager_filters,
    replace_query,
    rows_as,
    set_companion,
    wrapped,
)
from tests.models import Article, Pair, Section

pytestmark = pytest.mark.django_db


class Mixin(Query):
    pass


class Own(Query):
    pass


def test_mixed_class_keeps_both_and_is_made_once():
    both = mixed(Own, Mixin)
    assert issubclass(both, Own)
    assert issubclass(both, Mixin)
    assert mixed(Own, Mixin) is both
    assert mixed(Query, Mixin) is Mixin


def test_companion_travels_with_copies_and_pickles_of_a_query():
    query = Article.objects.filter(published=True).query
    set_companion(query, "a text")
    for copied in (query.clone(), query.chain(), query.exists(), pickle.loads(pickle.dumps(query))):
        assert get_companion(copied, str) == "a text"
    assert get_companion(query, int) is None


def test_replaced_query_leaves_values_list_as_it_is():
    Article.objects.create(title="a")
    rows = Article.objects.values_list("title", flat=True)
    assert list(replace_query(rows, rows.filter(title="a").query)) == ["a"]
    assert rows.query is current_query(rows)


def test_default_queryset_is_that_of_the_default_manager():
    assert default_queryset(Article) is EmbeddingQuerySet


def test_filter_of_a_related_manager_is_told_from_another():
    rows = Article.objects.all()
    assert not related_manager_filters(rows)
    rows._defer_next_filter = True  # As ForeignRelatedObjectsDescriptor's manager sets it.
    assert related_manager_filters(rows)


def test_key_names_are_those_of_the_columns():
    assert key_names(Article) == ["id"]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (Article.objects.all(), ModelIterable),
        (Article.objects.values("title"), ValuesIterable),
        (Article.objects.values_list("title"), ValuesListIterable),
        (Article.objects.values_list("title", named=True), NamedValuesListIterable),
        (Article.objects.values_list("title", flat=True), FlatValuesListIterable),
    ],
)
def test_rows_as_is_what_django_set(rows, kind):
    assert rows_as(rows) is kind
    assert rows_as(rows.nearest([1, 2, 3])) is kind
    assert issubclass(rows.nearest([1, 2, 3])._iterable_class, kind)
    assert rows._iterable_class is kind


@pytest.mark.parametrize(
    "shape",
    [
        lambda rows: rows,
        lambda rows: rows.values(),
        lambda rows: rows.values("title", "far"),
        lambda rows: rows.values_list("title", "far"),
        lambda rows: rows.values_list("far", "title"),
        lambda rows: rows.values_list(),
        lambda rows: rows.values_list("far", named=True),
        lambda rows: rows.values_list("far", flat=True),
        lambda rows: rows.extra(select={"more": "1"}).values_list(),
    ],
)
def test_getter_reads_an_annotation_from_rows_of_every_shape(shape):
    Article.objects.create(title="a", embedding=[1, 2, 3])
    rows = shape(Article.objects.annotate(far=F("id") * 0 + 7))
    assert getter(rows, "far")(rows.get()) == 7


def test_getter_of_what_is_not_selected_is_none():
    assert getter(Article.objects.annotate(far=F("id")).values("title"), "far") is None


def test_page_is_a_slice_of_a_cte_with_the_columns_of_the_query():
    made = Pair.objects.bulk_create(Pair(one=[i, 0], two=[i, i]) for i in range(5))
    rows = Pair.objects.order_by("pk")[1:3]
    page = replace_query(rows, paged(rows.query, 4))
    assert list(page) == made[1:3]
    np.testing.assert_array_equal([row.two for row in page], [[1, 1], [2, 2]])
    assert "CTE ranking" in page.explain()


def test_page_of_a_query_with_a_class_of_its_own_keeps_it():
    page = paged(Own(Article), 3)
    assert isinstance(page, Own)
    assert isinstance(page.get_compiler(connection=connection), Query(Article).get_compiler("default").__class__)


def test_query_of_two_classes_is_pickled():
    page = paged(Own(Article), 3)
    again = pickle.loads(pickle.dumps(page))
    assert type(again) is type(page)
    assert again.rows == 3


def test_column_of_a_reference_is_its_field_and_of_an_expression_none():
    rows = Section.objects.annotate(far=F("article__embedding"), more=F("pk") + 1)
    assert column_of(rows.query.annotations["far"]) is Article._meta.get_field("embedding")
    assert column_of(rows.query.annotations["more"]) is None


def test_multiple_joins_counts_the_joins_that_repeat_a_row():
    assert multiple_joins(Article.objects.filter(section__name="a").query) == 0
    assert multiple_joins(Section.objects.filter(article__title="a").query) == 1
    assert multiple_joins(Section.objects.filter(article__title="a").filter(article__title="b").query) == 2


def test_statement_of_a_queryset_comes_with_its_parameters():
    sql, params = compiled(Article.objects.filter(title="a").only("title"), connection)
    assert sql.startswith("SELECT ")
    assert params == ("a",)


def test_plain_query_has_a_row_for_each_that_the_filter_keeps():
    Article.objects.bulk_create([Article(title="a"), Article(title="a"), Article(title="b")])
    query = clone_plain(Article.objects.filter(title="a").order_by("pk")[:1].query)
    sql, params = query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        assert cursor.fetchall() == [(1,), (1,)]


def test_wrapped_class_of_rows_is_of_the_class_that_it_wraps():
    kind = wrapped(ValuesIterable, ModelIterable)
    assert kind.wraps is ValuesIterable
    assert issubclass(kind, (ValuesIterable, ModelIterable))
    assert wrapped(ValuesIterable, ModelIterable) is kind


def test_compiled_conditions_are_the_tables_and_the_filter():
    tables, sql, params = compiled_conditions(Article.objects.filter(title="a").query, connection)
    assert (tables, sql, tuple(params)) == ("tests_article", '"tests_article"."title" = %s', ("a",))
    assert compiled_conditions(Own(Article), connection) is None
