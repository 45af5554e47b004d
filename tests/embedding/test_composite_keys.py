"""embed() and the modes of sync= for a model whose primary key has several columns."""

import io

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.admin.embedding import embed_rows
from pgembedding_django.embedding import rows, tasks
from pgembedding_django.embedding.sync import watch
from tests.support.scripted import vector_of
from tests.tasks import RecordingBackend

#: sync= of the model.
MANUAL = pytest.mark.parametrize("model", ["manual"], indirect=True)


@pytest.fixture
def model(request, db):
    """A model of pages by tenant; the parameter is its sync=."""

    class Page(models.Model):
        pk = models.CompositePrimaryKey("tenant_id", "id")
        tenant_id = models.IntegerField()
        id = models.IntegerField()
        body = models.TextField()
        embedding = EmbeddingField(dimensions=3, source="body", null=True, sync=request.param)
        loud = EmbeddingField(dimensions=3, source="shout", null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

        def shout(self):
            return self.body.upper()

    watch(Page)
    with connection.schema_editor() as editor:
        editor.create_model(Page)
    yield Page
    del apps.all_models["tests"]["page"]
    apps.clear_cache()


def add(model, count):
    """Pages of two tenants, whose ids are the same."""
    pages = [model(tenant_id=number % 2, id=number // 2, body=f"{number} texts") for number in range(count)]
    return model.objects.bulk_create(pages)


def check(model):
    assert [row.embedding.tolist() for row in model.objects.all()] == [
        vector_of(row.body) for row in model.objects.all()
    ]
    assert not model.objects.stale(field="embedding").exists()


@MANUAL
@pytest.mark.parametrize(("count", "size"), [(3, 256), (40, 256), (40, 7)], ids=["few", "COPY", "batches"])
def test_embed_gives_every_row_the_vector_of_its_text(scripted, model, count, size):
    add(model, count)
    assert model.objects.embed(field="embedding", batch_size=size).embedded == count
    check(model)


@MANUAL
@pytest.mark.parametrize("size", [1, 1000])
def test_embed_of_a_method_gives_every_row_its_vector(scripted, model, monkeypatch, size):
    monkeypatch.setattr(rows, "PAGE", size)
    add(model, 20)
    assert model.objects.stale(field="loud").count() == 20
    assert model.objects.embed(field="loud").embedded == 20
    assert not model.objects.stale(field="loud").exists()


@MANUAL
def test_embed_takes_the_vector_of_a_text_that_went_and_reports_a_bad_one(scripted, model):
    add(model, 4)
    model.objects.embed(field="embedding")
    model.objects.filter(pk=(1, 0)).update(body="")
    model.objects.filter(pk=(0, 1)).update(body="bad")
    report = model.objects.embed(field="embedding")
    assert (report.skipped, report.failures) == (1, [((0, 1), "it is bad")])
    assert model.objects.get(pk=(1, 0)).embedding is None


@MANUAL
def test_embed_of_identical_texts_pays_once(scripted, model):
    add(model, 20)
    model.objects.update(body="same")
    model.objects.embed(field="embedding", batch_size=3)
    assert scripted.paid == {"same": 1}
    check(model)


@MANUAL
def test_command_embeds_them(scripted, model):
    add(model, 20)
    call_command("embed", "tests.Page.embedding", stdout=io.StringIO())
    check(model)


@pytest.mark.parametrize("model", ["save"], indirect=True)
def test_save_embeds_the_row(scripted, model):
    row = model.objects.create(tenant_id=1, id=1, body="a")
    row.body = "bb"
    row.save(update_fields=["body"])
    assert row.embedding.tolist() == vector_of("bb")
    check(model)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", ["task"], indirect=True)
def test_task_embeds_a_saved_row(scripted, model):
    model.objects.create(tenant_id=1, id=1, body="a")
    check(model)
    with connection.schema_editor() as editor:
        editor.delete_model(model)


@MANUAL
def test_task_of_many_rows_embeds_them(scripted, model):
    pages = [tasks.write_pk(model, row.pk) for row in add(model, 20)]
    tasks.embed_rows.func("tests.Page", "embedding", pages, "default")
    check(model)


@MANUAL
def test_admin_hands_them_to_a_worker(scripted, model, settings, monkeypatch):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.RecordingBackend"}}
    monkeypatch.setattr(RecordingBackend, "enqueued", [])
    add(model, 2)
    list(embed_rows(model.objects.order_by("pk")))
    assert RecordingBackend.enqueued[0] == ["tests.Page", "embedding", ['["0", "0"]', '["1", "0"]'], "default"]
