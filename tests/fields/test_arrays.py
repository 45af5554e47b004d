"""Arrays of vectors, by django.contrib.postgres."""

import pytest
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models
from django.db.backends.base.base import NO_DB_ALIAS

from pgembedding_django import EmbeddingField, Vector
from pgembedding_django.checks import check_arrays
from pgembedding_django.engines import arrays
from tests.models import Article, Section

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


@pytest.fixture
def section():
    section = Section.objects.create(name="a")
    for vector in (ONE, TWO, None):
        Article.objects.create(title="a", section=section, embedding=vector)
    return section


def vectors_of(values):
    assert {type(value) for value in values} <= {Vector, type(None)}
    return values


def test_array_agg_gives_vectors(section):
    rows = Article.objects.aggregate(vectors=ArrayAgg("embedding", order_by="pk", filter=~models.Q(embedding=None)))
    assert vectors_of(rows["vectors"]) == [ONE, TWO]


def test_array_agg_of_no_row_is_none(db):
    assert Article.objects.aggregate(vectors=ArrayAgg("embedding")) == {"vectors": None}


def test_array_subquery_gives_vectors(section):
    of_section = Article.objects.filter(section=models.OuterRef("pk"), embedding__isnull=False).order_by("pk")
    row = Section.objects.annotate(vectors=ArraySubquery(of_section.values("embedding"))).get()
    assert vectors_of(row.vectors) == [ONE, TWO]


@pytest.mark.pgvector
@pytest.mark.parametrize("storage", ["single", "half"])
@pytest.mark.parametrize("vectors", [[[1, 2, 3], (4, 5, 6)], [], None])
def test_array_field_keeps_vectors(isolated, storage, vectors):
    class Note(models.Model):
        embeddings = ArrayField(EmbeddingField(dimensions=3, storage=storage), null=True)

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    Note.objects.create(embeddings=vectors)
    row = Note.objects.get()
    assert row.embeddings == vectors
    vectors_of(row.embeddings or [])


@pytest.mark.pgvector
def test_array_agg_of_halfvec_and_null(section):
    rows = Article.objects.aggregate(vectors=ArrayAgg("embedding", order_by="pk"))
    assert vectors_of(rows["vectors"]) == [ONE, TWO, None]


def test_connection_of_another_server_and_of_no_database_are_left_alone(sqlite):
    arrays.read_arrays(sqlite)
    arrays.read_arrays(connection.copy(NO_DB_ALIAS))


def test_vector_that_the_driver_reads_already_is_taken_as_it_is():
    field = Article._meta.get_field("embedding")
    assert vectors_of([field.from_db_value([0.1, 2, 3], None, connection)]) == [ONE]


@pytest.mark.parametrize(
    ("engine", "messages"),
    [
        ("pgvector", []),
        ("pg_embedding", ["Note.embeddings is an array of vectors, which pg_embedding cannot store."]),
        ("nothing", []),
    ],
)
def test_array_field_is_refused_where_the_engine_has_no_arrays(isolated, settings, engine, messages):
    class Note(models.Model):
        embeddings = ArrayField(EmbeddingField(dimensions=3))

        class Meta:
            app_label = "tests"

    settings.PGEMBEDDING = {"ENGINE": engine}
    found = check_arrays([isolated.get_app_config("tests")])
    assert [message.msg for message in found] == messages
    assert {message.id for message in found} <= {"pgembedding.E009"}
