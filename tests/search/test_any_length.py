"""Fields without dimensions: nearest() ranks the rows of the query's length."""

import pytest
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex, Vector
from pgembedding_django.maintenance import measure_recall
from pgembedding_django.maintenance.recall.tuning import tune
from pgembedding_django.models import HnswIndexStatus
from tests.models import Loose

pytestmark = pytest.mark.django_db

#: By the distance of their two numbers to [1, 0]; one of three, and one without.
VECTORS = [[1, 0], [3, 0], [1, 4], [1, 0, 0], None]


@pytest.fixture
def rows():
    return Loose.objects.bulk_create(Loose(embedding=vector) for vector in VECTORS)


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"exact": False}, {"max_distance": 9}])
def test_rows_of_the_query_s_length_are_ranked(rows, options):
    found = Loose.objects.nearest([1, 0], **options)
    assert [(row, row.distance) for row in found] == [(rows[0], 0), (rows[1], 2), (rows[2], 4)]
    assert found.count() == 3
    assert list(found[1:]) == rows[1:3]
    assert set(Loose.objects.filter(pk__in=found.values("pk"))) == set(rows[:3])


def test_instance_asks_for_its_own_length(rows):
    assert list(Loose.objects.nearest(rows[1])) == [rows[0], rows[2]]
    assert list(Loose.objects.nearest(rows[3])) == []


def test_text_asks_for_the_length_of_its_embedder(rows):
    assert list(Loose.objects.nearest("three numbers, says the dummy")) == [rows[3]]


def test_ranking_by_cosine_and_behind_a_filter(rows):
    found = Loose.objects.exclude(pk=rows[0].pk).nearest([1, 0], distance="cosine")
    assert list(found) == rows[1:3]


def test_explanation_names_the_length(rows):
    assert (
        Loose.objects.nearest([1, 0])
        .explain_nearest()
        .startswith("Exact scan: Loose.embedding of 2 dimensions has no HnswIndex for L2Distance.")
    )


def make(*declared, **options):
    class Note(models.Model):
        embedding = EmbeddingField(null=True, **options)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = declared

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    return Note


def hnsw(dimensions, **options):
    return HnswIndex(fields=["embedding"], name=f"note_{dimensions}", dimensions=dimensions, **options)


def plan_of(ranking):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    return ranking.explain()


@pytest.mark.parametrize("options", [{}, {"distance": "cosine"}])
def test_index_of_one_length_serves_it(isolated, options):
    note = make(hnsw(2, **options), hnsw(3, **options))
    notes = note.objects.bulk_create(note(embedding=vector) for vector in VECTORS)
    found = note.objects.nearest([1, 0], 2, exact=False)
    assert set(found) == {notes[0], notes[1]}
    assert list(note.objects.nearest([1, 0, 0], exact=False)) == [notes[3]]
    assert list(note.objects.nearest([1, 0, 0, 0], exact=False)) == []
    assert "note_2" in plan_of(found)
    assert "Index scan on note_2" in found.explain_nearest()


def test_index_of_one_length_is_listed_with_it(isolated):
    note = make(hnsw(2))
    status = HnswIndexStatus.objects.get(name="note_2")
    assert (status.column, status.dimensions, status.partial) == ("embedding", 2, False)
    assert note._meta.indexes[0].get_field(note).dimensions == 2


@pytest.mark.pgvector
@pytest.mark.parametrize("options", [{"precision": "half"}, {"precision": "binary"}])
def test_index_of_one_length_and_reduced_precision_serves_it(isolated, options):
    note = make(hnsw(2, **options))
    notes = note.objects.bulk_create(note(embedding=vector) for vector in VECTORS)
    found = note.objects.nearest([1, 0], 2, exact=False)
    assert list(found) == notes[:2]
    assert "note_2" in plan_of(found)


@pytest.mark.pgvector
def test_index_of_one_length_over_half_storage_serves_it(isolated):
    note = make(hnsw(2), storage="half", distance="cosine")
    notes = note.objects.bulk_create(note(embedding=vector) for vector in VECTORS)
    assert set(note.objects.nearest([1, 0], 2, exact=False)) == {notes[0], notes[1]}


def test_index_of_one_length_deconstructs_to_itself():
    index = hnsw(384, distance="cosine")
    path, args, kwargs = index.deconstruct()
    assert (path, args, kwargs["dimensions"]) == ("pgembedding_django.HnswIndex", (), 384)
    assert HnswIndex(*args, **kwargs) == index
    assert HnswIndex(*args, **{**kwargs, "dimensions": 385}) != index


@pytest.mark.parametrize("dimensions", [0, -1, "3", True, 1.5])
def test_index_refuses_what_is_no_length(dimensions):
    with pytest.raises(ValueError) as caught:
        hnsw(dimensions)
    assert str(caught.value) == f"HnswIndex.dimensions must be a positive integer, got {dimensions!r}."


def test_vector_stays_as_it_was():
    row = Loose.objects.create(embedding=[1, 2])
    row.embedding = [1, 2, 3, 4]
    row.save()
    assert Loose.objects.get().embedding == Vector([1, 2, 3, 4])


# Recall


@pytest.fixture
def lengths(transactional_db, monkeypatch):
    """Give Loose an index of two dimensions, and rows of two lengths."""
    index = HnswIndex(fields=["embedding"], name="loose_2", dimensions=2)
    monkeypatch.setattr(Loose._meta, "indexes", [index])
    with connection.schema_editor() as editor:
        editor.add_index(Loose, index)
    Loose.objects.bulk_load(Loose(embedding=[i, 1]) for i in range(60))
    Loose.objects.bulk_load(Loose(embedding=[i, 1, 2]) for i in range(40))
    yield index
    with connection.schema_editor() as editor:
        editor.remove_index(Loose, index)


@pytest.mark.django_db(transaction=True)
def test_recall_of_an_index_of_one_length_is_measured(lengths):
    report = measure_recall(Loose, sample=10, k=5)
    assert (report.index.name, report.field, report.default.recall) == ("loose_2", "embedding", 1)
    asked = Loose.objects.filter(pk__in=report.queries).values_list("embedding", flat=True)
    assert {len(vector) for vector in asked} == {2}


@pytest.mark.django_db(transaction=True)
def test_index_of_one_length_is_tuned(lengths):
    assert tune(Loose, recall=0.5, k=3, sample_rows=50).rows == 50


def test_recall_of_indexes_of_several_lengths_is_refused(monkeypatch):
    monkeypatch.setattr(Loose._meta, "indexes", [hnsw(2), hnsw(3)])
    with pytest.raises(ValueError) as caught:
        Loose.objects.all().get_embedding_field(None)
    assert str(caught.value) == (
        "Loose.embedding has no dimensions, which only nearest() can do without, unless its indexes are of one length, "
        "got 2 lengths."
    )
