"""The columns of a ranking are compiled once for each shape: the statement is the one that is compiled anew."""

import re

import numpy as np
import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pgembedding_django import EmbeddingField, EmbeddingManager, L2Distance
from pgembedding_django.compat import columns
from pgembedding_django.search import estimates
from tests.models import Article, Section
from tests.search.test_composition import AFTER, BEFORE

pytestmark = pytest.mark.django_db

VECTORS = arrays(np.float32, 3, elements=st.floats(0.5, 5, width=32))


def statements(steps, read, query, options):
    """Return what a composition sends, or the error that it ends in."""
    estimates.forget()
    with CaptureQueriesContext(connection) as sent:
        try:
            rows = Article.objects.all()
            for step in steps:
                rows = BEFORE[step][0](rows)
            AFTER[read](rows.nearest(query, **options))
        except (TypeError, ValueError) as error:
            return [type(error).__name__]
    return [re.sub("_sync_[0-9]+", "", query["sql"]) for query in sent.captured_queries]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from([step for step in BEFORE if step != "related"]), max_size=3, unique=True),
    read=st.sampled_from(list(AFTER)),
    queries=st.tuples(VECTORS, VECTORS),
    options=st.fixed_dictionaries(
        {
            "k": st.integers(1, 9),
            "distance": st.sampled_from(["l2", "cosine"]),
            "exact": st.sampled_from([None, True, False]),
            "max_distance": st.sampled_from([None, 1.0]),
        }
    ),
)
@pytest.mark.filterwarnings("ignore:Article.embedding is indexed")
def test_statement_of_any_composition_is_the_one_that_is_compiled_anew(db, steps, read, queries, options):
    one, other = queries
    columns.forget_columns()
    anew = statements(steps, read, one, options)
    statements(steps, read, other, options)
    assert statements(steps, read, one, options) == anew


def columns_compiled(rows, monkeypatch):
    """Return how often Django compiled the columns of some rows."""
    calls = []
    get_select = columns.SQLCompiler.get_select

    def counted(self, with_col_aliases=False):
        calls.append(self)
        return get_select(self, with_col_aliases)

    with monkeypatch.context() as patch:
        patch.setattr(columns.SQLCompiler, "get_select", counted)
        list(rows)
    return len(calls)


def test_columns_of_a_second_ranking_are_known(monkeypatch):
    Article.objects.create(title="a", embedding=[1, 2, 3])
    list(Article.objects.nearest([1, 2, 3], 3, exact=True))
    again = Article.objects.filter(title="a", pk__gt=0).nearest([3, 2, 1], 5, exact=True)
    assert columns_compiled(again, monkeypatch) == 0
    assert again.get().distance == pytest.approx(8**0.5)


@pytest.mark.parametrize(
    "rows",
    [
        Article.objects.select_related("section"),
        Article.objects.annotate(more=models.F("pk")),
        Article.objects.extra(select={"one": "1"}),
        Article.objects.distinct(),
    ],
    ids=["related", "annotation", "extra", "distinct"],
)
def test_columns_that_more_decides_are_compiled_each_time(rows, monkeypatch):
    for _ in range(2):
        assert columns_compiled(rows.nearest([1, 2, 3], 3, exact=True), monkeypatch) > 0


def test_columns_of_other_fields_are_others():
    Article.objects.create(title="a", embedding=[1, 2, 3])
    loaded = [
        set(vars(rows.nearest([1, 2, 3], 1, exact=True).get())) & {"title", "embedding"}
        for rows in (Article.objects.all(), Article.objects.defer("title"), Article.objects.only("title"))
    ]
    assert loaded == [{"title", "embedding"}, {"embedding"}, {"title"}]


class Signed(models.CharField):
    """A field that writes SQL of its own, which changes."""

    suffix = "a"

    def select_format(self, compiler, sql, params):
        return f"{sql} || '{Signed.suffix}'", params


def test_columns_of_a_field_with_sql_of_its_own_are_compiled_each_time(isolated, monkeypatch):
    class Postcard(models.Model):
        name = Signed(max_length=9)
        embedding = EmbeddingField(dimensions=2)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Postcard)
    Postcard.objects.create(name="x", embedding=[1, 2])
    assert [row.name for row in Postcard.objects.nearest([1, 2])] == ["xa"]
    monkeypatch.setattr(Signed, "suffix", "b")
    assert [row.name for row in Postcard.objects.nearest([1, 2])] == ["xb"]


class Halved(L2Distance):
    """A distance that writes SQL of its own, which changes."""

    by = 2

    def compare(self, compiler, connection):
        sql, params = super().compare(compiler, connection)
        return f"({sql}) / {Halved.by}", params


def test_distance_with_sql_of_its_own_is_compiled_each_time(monkeypatch):
    Article.objects.create(title="a", embedding=[4, 0, 0])
    rows = Article.objects.nearest([0, 0, 0], distance=Halved, exact=True)
    assert rows.get().distance == 2
    monkeypatch.setattr(Halved, "by", 4)
    assert rows.all().get().distance == 1


def test_field_that_a_model_gets_later_is_read(isolated):
    Article.objects.create(title="a", embedding=[1, 2, 3])

    class Short(models.Model):
        embedding = EmbeddingField(dimensions=3, null=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            db_table = Article._meta.db_table

    list(Short.objects.nearest([1, 2, 3]))
    models.CharField(max_length=200).contribute_to_class(Short, "title")
    assert Short.objects.nearest([1, 2, 3]).get().title == "a"


def test_no_more_shapes_are_known_than_a_bound(monkeypatch):
    monkeypatch.setattr(columns, "MOST", 2)
    columns.forget_columns()
    for names in ("title", "published", "section"):
        list(Article.objects.defer(names).nearest([1, 2, 3], exact=True))
    assert len(columns._known) == 1


def test_join_whose_alias_is_a_columns_name_is_another_shape():
    section = Section.objects.create(name="s")
    Article.objects.create(title="a", embedding=[1, 2, 3], section=section)
    for rows in (Article.objects.all(), Article.objects.filter(section__name="s")):
        assert rows.nearest([1, 2, 3], exact=True).get().title == "a"


def test_statement_whose_columns_have_aliases_is_compiled_anew():
    rows = Article.objects.nearest([1, 2, 3], 3, exact=True)
    known = columns.with_known_columns(rows.query, "shape", "distance", ("[1.0,2.0,3.0]",))
    for _ in range(2):
        sql, _ = known.get_compiler(connection=connection).as_sql(with_col_aliases=True)
        assert '"tests_article"."title" AS "col2"' in sql
