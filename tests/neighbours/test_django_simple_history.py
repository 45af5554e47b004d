"""django-simple-history: a history of a field with source= keeps vector and digest, and shows them."""

import pytest
from django.core.checks import run_checks
from django.db import models
from simple_history.admin import SimpleHistoryAdmin
from simple_history.models import HistoricalRecords

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex, Vector
from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.embedding import sync
from tests.admin import serve
from tests.neighbours.browser import chromium, needs_chromium, visit  # noqa: F401 (fixtures)

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


class Letter(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)
    history = HistoricalRecords()

    objects = EmbeddingManager()

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="letter_hnsw")]


class Opera(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", sync="save")
    history = HistoricalRecords(excluded_fields=["embedding_digest"])

    objects = EmbeddingManager()


sync.watch(Opera)  # As at start-up, for the models of apps.


def columns(model):
    return [field.column for field in model._meta.concrete_fields if field.column.startswith("embedding")]


def test_history_has_each_column_once_and_passes_the_checks():
    assert columns(Letter.history.model) == ["embedding", "embedding_digest"]
    assert columns(Opera.history.model) == ["embedding"]
    assert [message for message in run_checks() if message.obj in (Letter.history.model, Opera.history.model)] == []


def test_history_in_a_migration_is_plain():
    field = Letter.history.model._meta.get_field("embedding")
    assert field.deconstruct()[3] == {"dimensions": 3, "null": True}


def test_records_keep_vector_and_digest():
    letter = Letter.objects.create(title="a", embedding=ONE)
    letter.embedding = TWO
    letter.save()
    letter.delete()
    records = Letter.history.order_by("history_id")
    assert [record.embedding for record in records] == [ONE, TWO, TWO]
    digest = letter._meta.get_field("embedding").text_source.digest("a")
    assert [record.embedding_digest for record in records] == [digest] * 3


def test_records_embed_nothing(monkeypatch):
    opera = Opera.objects.create(title="a")
    monkeypatch.setattr(DummyEmbedder, "compute", pytest.fail)
    opera.save()
    assert [record.embedding for record in Opera.history.all()] == [opera.embedding, opera.embedding]


def test_records_are_compared_and_restored():
    letter = Letter.objects.create(title="a", embedding=ONE)
    letter.title, letter.embedding = "b", TWO
    letter.save()
    after, before = Letter.history.all()
    changes = {change.field: (change.old, change.new) for change in after.diff_against(before).changes}
    assert changes["title"] == ("a", "b")
    assert changes["embedding"] == (ONE, TWO)
    assert before.diff_against(before).changes == []
    before.instance.save()
    assert Letter.objects.get().embedding == ONE
    assert Letter.history.as_of(after.history_date).get().embedding == TWO


@pytest.mark.filterwarnings(r"ignore:Calling select_related\(\)")  # django-simple-history on Django 6.1.
def test_history_pages_of_the_admin_are_served(settings, admin_client):
    letter = Letter.objects.create(title="a", embedding=ONE)
    letter.embedding = TWO
    letter.save()
    serve(settings, Letter, base=SimpleHistoryAdmin, mixin=False, history_list_display=["embedding"])
    page = admin_client.get(f"/admin/neighbours/letter/{letter.pk}/history/")
    assert (page.status_code, b"[0.1,2.0,3.0]" in page.content) == (200, True)
    record = Letter.history.last()
    old = admin_client.get(f"/admin/neighbours/letter/{letter.pk}/history/{record.pk}/")
    assert (old.status_code, "3 dimensions" in old.content.decode()) == (200, True)


@pytest.mark.filterwarnings(r"ignore:Calling select_related\(\)")
@needs_chromium
def test_history_pages_open_in_a_browser(settings, visit):  # noqa: F811
    letter = Letter.objects.create(title="a", embedding=ONE)
    letter.embedding = TWO
    letter.save()
    serve(settings, Letter, base=SimpleHistoryAdmin, mixin=False, indexes=False, history_list_display=["embedding"])
    address = f"/admin/neighbours/letter/{letter.pk}/history/"
    # Its table is wider than a phone without a vector too.
    assert "[0.1,2.0,3.0]" in visit(address, "history", fits=False)
    assert "3 dimensions" in visit(f"{address}{Letter.history.last().pk}/", "record")
