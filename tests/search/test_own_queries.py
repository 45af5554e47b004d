"""A queryset that comes with a Query class of its own keeps what that class does, behind every ranking."""

import copy
import pickle

import pytest
from django.db import connection, connections, models
from django.db.models import Exists, OuterRef, Q
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django import EmbeddingField, EmbeddingManager, EmbeddingQuerySet, HnswIndex
from tests.models import Article
from tests.support.many import QUERY, RANKED, VECTORS, ids, ranked

pytestmark = pytest.mark.django_db


class VisibleQuery(Query):
    """Adds its condition when it is compiled, and so does nothing before."""

    def get_compiler(self, *args, **kwargs):
        if not any("visible" in str(child) for child in self.where.children):
            self.add_q(Q(visible=True))
        return super().get_compiler(*args, **kwargs)


class PlainQuery(Query):
    """Does what Django's does."""


class EvenCompiler(SQLCompiler):
    """Begins its statements with WITH, as a package for CTEs does."""

    def as_sql(self, *args, **kwargs):
        sql, params = super().as_sql(*args, **kwargs)
        return f"WITH even AS (SELECT id FROM tests_article WHERE published) {sql}", params


class EvenQuery(Query):
    """Keeps the rows of a CTE."""

    def get_compiler(self, using=None, connection=None, elide_empty=True):
        return EvenCompiler(self, connection or connections[using], using, elide_empty)


class VisibleQuerySet(EmbeddingQuerySet):
    def __init__(self, model=None, query=None, **kwargs):
        super().__init__(model, query or VisibleQuery(model), **kwargs)


def build(model):
    """Create a table of a model."""
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


def analyze(model):
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {model._meta.db_table}")


@pytest.fixture
def hiding(isolated):
    """Rows of which two of three are visible, with an index."""

    class Hiding(models.Model):
        title = models.CharField(max_length=50)
        visible = models.BooleanField()
        published = models.BooleanField()
        embedding = EmbeddingField(dimensions=3, null=True)
        everything = EmbeddingManager()
        objects = VisibleQuerySet.as_manager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="hiding_hnsw")]

    build(Hiding)
    Hiding.everything.bulk_load(
        (
            Hiding(title=str(i), visible=i % 3 > 0, published=i % 2 == 0, embedding=vector)
            for i, vector in enumerate(VECTORS)
        ),
        rebuild_indexes=True,
    )
    analyze(Hiding)
    return Hiding


VISIBLE = ranked(lambda i: i % 3 > 0)


@pytest.mark.parametrize("exact", [None, True, False])
def test_nearest_keeps_the_condition_of_an_own_query_class(hiding, force_index, exact):
    rows = hiding.objects.nearest(QUERY, 10, exact=exact)
    assert ids(rows) == VISIBLE[:10]
    assert ids(rows[5:]) == VISIBLE[5:10]
    published = hiding.objects.filter(published=True).nearest(QUERY, 10, exact=exact)
    assert ids(published) == [i for i in VISIBLE if i % 2 == 0][:10]


def test_nearest_of_an_own_query_class_goes_through_the_index(hiding, force_index):
    rows = hiding.objects.nearest(QUERY, 10)
    assert "hiding_hnsw" in rows.explain()
    assert rows.explain_nearest().startswith("Index scan on hiding_hnsw")


def test_nearest_of_an_own_query_class_is_counted_and_selected_alike(hiding):
    rows = hiding.objects.nearest(QUERY, len(VECTORS))
    assert rows.count() == len(VISIBLE)
    assert hiding.everything.filter(pk__in=rows.values("pk")).count() == len(VISIBLE)
    assert hiding.objects.nearest(QUERY, 10, max_distance=0.2).exists()
    assert len(rows.union(rows.all())) == len(VISIBLE)


def test_nearest_of_an_own_query_class_stays_one(hiding):
    rows = hiding.objects.nearest(QUERY, 3)
    assert isinstance(rows.query, VisibleQuery)
    for again in (copy.copy(rows.query), copy.deepcopy(rows.query), rows.query.clone()):
        assert isinstance(again, VisibleQuery)
        copied = hiding.objects.all()
        copied.query = again
        assert ids(copied) == VISIBLE[:3]


def test_nearest_of_an_own_query_class_is_pickled(many):
    class_of_its_own = EmbeddingQuerySet(Article, PlainQuery(Article)).nearest(QUERY, 3)
    again = pickle.loads(pickle.dumps(class_of_its_own))
    assert type(again.query) is type(class_of_its_own.query)
    assert ids(again) == RANKED[:3]


def test_nearest_behind_an_exists_keeps_the_condition_of_an_own_query_class(hiding):
    near = hiding.objects.filter(pk=OuterRef("pk")).nearest(QUERY, 1)
    assert set(ids(hiding.everything.filter(Exists(near)))) == set(VISIBLE)


@pytest.mark.pgvector
def test_candidates_of_a_reduced_index_keep_the_condition_of_an_own_query_class(hiding, force_index, monkeypatch):
    index = HnswIndex(fields=["embedding"], name="hiding_half", precision="half")
    with connection.schema_editor() as editor:
        editor.add_index(hiding, index)
    monkeypatch.setattr(hiding._meta, "indexes", [index])
    rows = hiding.objects.nearest(QUERY, 10)
    assert "hiding_half" in rows.explain()
    assert ids(rows) == VISIBLE[:10]


def test_hybrid_keeps_the_condition_of_an_own_query_class(hiding):
    hidden = next(i for i in RANKED if i % 3 == 0)
    hiding.everything.filter(title__in=[str(hidden), str(VISIBLE[5])]).update(title="fox")
    rows = hiding.objects.hybrid("fox", 3, fields=["title"])
    assert all(row.visible for row in rows)
    assert "fox" in {row.title for row in rows}
    assert rows.count() == 3
    assert hiding.everything.filter(pk__in=rows.values("pk")).count() == 3


@pytest.mark.parametrize("exact", [None, True, False])
def test_rankings_of_a_query_that_begins_with_with(many, force_index, exact):
    rows = EmbeddingQuerySet(Article, EvenQuery(Article)).extra(where=["id IN (SELECT id FROM even)"])
    assert ids(rows.nearest(QUERY, 10, exact=exact)[2:]) == ranked(lambda i: i % 2 == 0)[2:10]
    assert rows.nearest(QUERY, 10, exact=exact).count() == 10
    found = rows.hybrid("12", 5, fields=["title"])
    assert len(found) == 5
    assert all(row.published for row in found)
