"""The recipe of docs/embedding.md: another model takes the place of the one that serves, and search never stops."""

import pytest
from django.db import models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import isolate_apps

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.maintenance.recall.comparison import compare

TEXTS = [f"cheese number {number}" for number in range(20)]


def make_doc(**fields):
    """The model as it is in one state of the project."""
    with isolate_apps("tests"):
        attrs = {
            "__module__": __name__,
            "Meta": type("Meta", (), {"app_label": "tests"}),
            "body": models.TextField(),
            "objects": EmbeddingManager(),
            **fields,
        }
        return type("Doc", (models.Model,), attrs)


def migrate(connection, *states):
    """Run what makemigrations would write between two states of the model."""
    before, after = ProjectState(), ProjectState()
    for state, model in zip((before, after), states, strict=True):
        if model is not None:
            state.add_model(ModelState.from_model(model))
    (migration,) = MigrationAutodetector(before, after)._detect_changes()["tests"]
    with connection.schema_editor() as editor:
        migration.apply(before, editor)
    return [operation.describe() for operation in migration.operations]


@pytest.fixture
def two_embedders(settings, scripted):
    dummy = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 8}}
    embedders = {**settings.PGEMBEDDING["EMBEDDERS"], "better": dummy}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}


def test_model_is_changed_while_the_old_one_serves(ready_database, two_embedders):
    connection = ready_database.connection

    def old_field():
        return EmbeddingField(dimensions=3, source="body", null=True)

    def new_field():
        return EmbeddingField(dimensions=8, source="body", embedder="better", null=True)

    old = make_doc(embedding=old_field())
    ready_database.migrate("pgembedding_django")
    migrate(connection, None, old)
    old.objects.using("fresh").bulk_create([old(body=text) for text in TEXTS])
    old.objects.using("fresh").embed()

    both = make_doc(embedding=old_field(), better=new_field())
    assert migrate(connection, old, both) == ["Add field better to doc", "Add field better_digest to doc"]
    rows = both.objects.using("fresh")
    assert (rows.stale(field="embedding").count(), rows.stale(field="better").count()) == (0, 20)

    served = []
    rows.embed(
        field="better",
        batch_size=5,
        progress=lambda done: served.append(len(rows.nearest("cheese", 5, field="embedding"))),
    )
    assert served
    assert set(served) == {5}
    assert not rows.stale(field="better").exists()

    found = compare(both, "embedding", "better", sample=10, k=5, using="fresh")
    assert (len(found.overlaps), found.candidates) == (10, 20)
    assert 0 < found.mean < 1

    new = make_doc(better=new_field())
    assert sorted(migrate(connection, both, new)) == [
        "Remove field embedding from doc",
        "Remove field embedding_digest from doc",
    ]
    assert not new.objects.using("fresh").stale().exists()
    assert new.objects.using("fresh").nearest("cheese number 7", 1)[0].body == "cheese number 7"


def test_embedder_that_is_changed_in_place_makes_every_row_stale_and_search_goes_on(ready_database, scripted):
    doc = make_doc(embedding=EmbeddingField(dimensions=3, source="body", null=True))
    ready_database.migrate("pgembedding_django")
    migrate(ready_database.connection, None, doc)
    rows = doc.objects.using("fresh")
    rows.bulk_create([doc(body=text) for text in TEXTS])
    rows.embed()
    scripted.configure(model="b")
    assert rows.stale().count() == 20
    assert rows.embed(limit=5).embedded == 5
    assert rows.stale().count() == 15
