"""EmbeddingField(distance=): what measures unless told otherwise."""

import pytest
from django.db import connection, migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import isolate_apps

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex
from pgembedding_django.indexes import declared_index
from tests.models import Required

pytestmark = pytest.mark.django_db

ROWS = [[9, 1], [0.1, 0], [1, 1]]
#: The order of ROWS by their distance to [1, 0].
BY_COSINE, BY_L2 = [1, 0, 2], [1, 2, 0]


def make(*declared, **options):
    """Return a model in a registry of its own."""
    with isolate_apps("tests"):

        class Note(models.Model):
            embedding = EmbeddingField(dimensions=2, **options)
            objects = EmbeddingManager()

            class Meta:
                app_label = "tests"
                indexes = declared

    return Note


def order(model, **options):
    with connection.schema_editor() as editor:
        editor.create_model(model)
    rows = model.objects.bulk_create(model(embedding=vector) for vector in ROWS)
    return [rows.index(row) for row in model.objects.nearest([1, 0], exact=True, **options)]


def hnsw(name="note_hnsw", **options):
    return HnswIndex(fields=["embedding"], name=name, **options)


@pytest.mark.parametrize(
    ("field", "indexes", "asked", "ranking"),
    [
        ({}, [], {}, BY_L2),
        ({"distance": "cosine"}, [], {}, BY_COSINE),
        ({"distance": "cosine"}, [], {"distance": "l2"}, BY_L2),
        ({"distance": "cosine"}, [{"distance": "l2"}], {}, BY_COSINE),
        ({"distance": "l2"}, [{"distance": "cosine"}], {}, BY_L2),
        ({}, [{"distance": "cosine"}], {}, BY_COSINE),
    ],
)
def test_nearest_measures_by_argument_field_index_l2(field, indexes, asked, ranking):
    assert order(make(*(hnsw(**options) for options in indexes), **field), **asked) == ranking


def test_index_without_a_distance_takes_the_field_s():
    note = make(hnsw(), hnsw("note_l1", distance="l1"), distance="cosine")
    assert [index.distance for index in note._meta.indexes] == ["cosine", "l1"]
    assert note._meta.indexes[0].deconstruct()[2]["distance"] == "cosine"
    assert declared_index(note._meta.get_field("embedding")).name == "note_hnsw"


@pytest.mark.parametrize("storage", ["single", "half"])
def test_index_takes_distance_and_storage_of_an_abstract_model(isolated, storage):
    class Base(models.Model):
        embedding = EmbeddingField(dimensions=2, distance="cosine", storage=storage)

        class Meta:
            app_label = "tests"
            abstract = True
            indexes = [HnswIndex(fields=["embedding"], name="%(class)s_hnsw")]

    class Note(Base):
        pass

    [index] = Note._meta.indexes
    assert (index.distance, list(index.opclasses)) == ("cosine", ["halfvec_cosine_ops"] if storage == "half" else [])


def test_index_built_for_the_field_s_distance_has_its_operator_class(engine):
    note = make(hnsw(), distance="cosine")
    with connection.schema_editor(collect_sql=True) as editor:
        editor.create_model(note)
    assert engine.opclasses["single"]["cosine"] in "".join(editor.collected_sql)


def changes(before, after):
    states = []
    for model in (before, after):
        state = ProjectState()
        state.add_model(ModelState.from_model(model))
        states.append(state)
    return MigrationAutodetector(*states)._detect_changes().get("tests", [])


def test_migration_of_another_distance_touches_no_column():
    [migration] = changes(make(distance="l2"), make(distance="cosine"))
    [operation] = migration.operations
    assert isinstance(operation, migrations.AlterField)
    assert operation.field.deconstruct()[3] == {"dimensions": 2, "distance": "cosine"}
    with connection.schema_editor(collect_sql=True) as editor:
        old, new = EmbeddingField(dimensions=2), operation.field
        for field in (old, new):
            field.set_attributes_from_name("embedding")
            field.model = Required
        editor.alter_field(Required, old, new)
    assert editor.collected_sql == []


def test_migration_of_another_distance_makes_the_index_anew():
    [migration] = changes(make(hnsw()), make(hnsw(), distance="cosine"))
    assert {type(operation).__name__ for operation in migration.operations} == {"RemoveIndex", "AddIndex", "AlterField"}


@pytest.mark.parametrize("distance", ["L2", "hamming", "", 2])
def test_field_refuses_a_distance_that_there_is_not(distance):
    with pytest.raises(ValueError) as caught:
        EmbeddingField(dimensions=3, distance=distance)
    assert str(caught.value) == (
        f'EmbeddingField.distance must be one of "l2", "cosine", "l1", "inner_product", got {distance!r}.'
    )
