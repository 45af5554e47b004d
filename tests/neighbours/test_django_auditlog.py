"""django-auditlog: a change of a vector is logged with every number, and an equal vector is none."""

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = (Vector([number] * 1536) for number in (0.1, 0.2))


class Key(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=1536, null=True)

    objects = EmbeddingManager()


auditlog.register(Key)


@pytest.fixture
def key():
    return Key.objects.get(pk=Key.objects.create(title="a", embedding=ONE).pk)


def test_creation_is_logged_whole(key):
    assert Vector(LogEntry.objects.get().changes["embedding"][1]) == ONE


def test_change_is_logged_whole(key):
    key.embedding = TWO
    key.save()
    before, after = LogEntry.objects.first().changes["embedding"]
    assert (Vector(before), Vector(after)) == (ONE, TWO)


def test_equal_vector_is_not_logged(key):
    key.embedding = ONE.tolist()
    key.save()
    assert LogEntry.objects.count() == 1


def test_lost_vector_is_logged(key):
    key.embedding = None
    key.save()
    assert LogEntry.objects.first().changes["embedding"] == [str(ONE), "None"]
