"""django-pghistory: events that Postgres writes keep vector and digest of a field with source=."""

import pghistory
import pytest
from django.core.checks import run_checks
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


@pghistory.track()
class Coin(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = EmbeddingManager()


@pghistory.track(fields=["title", "embedding"])
class Stamp(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True, sync="save")

    objects = EmbeddingManager()


def columns(model):
    return [field.column for field in model._meta.concrete_fields if field.column.startswith("embedding")]


def test_events_have_each_column_once_and_pass_the_checks():
    assert columns(Coin.pgh_event_model) == ["embedding", "embedding_digest"]
    assert columns(Stamp.pgh_event_model) == ["embedding"]
    assert [message for message in run_checks() if message.obj in (Coin.pgh_event_model, Stamp.pgh_event_model)] == []


def test_events_keep_vector_and_digest():
    coin = Coin.objects.create(title="a", embedding=ONE)
    coin.embedding = TWO
    coin.save()
    events = Coin.pgh_event_model.objects.order_by("pgh_id")
    assert [event.embedding for event in events] == [ONE, TWO]
    assert events[0].embedding_digest == coin._meta.get_field("embedding").text_source.digest("a")
    assert events[0].pgh_tracked_model is Coin


def test_embedding_many_is_an_event_of_each():
    Coin.objects.create(title="a")
    assert Coin.objects.all().embed().embedded == 1
    assert [event.embedding is None for event in Coin.pgh_event_model.objects.order_by("pgh_id")] == [True, False]


def test_row_is_reverted_to_an_event():
    coin = Coin.objects.create(title="a", embedding=ONE)
    Coin.objects.filter(pk=coin.pk).update(embedding=TWO)
    Coin.pgh_event_model.objects.earliest("pgh_id").revert()
    assert Coin.objects.get().embedding == ONE
