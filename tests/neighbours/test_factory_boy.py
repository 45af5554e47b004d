"""factory_boy: factories build, create and batch rows with vectors, also with sync="save"."""

import factory
import numpy as np
import pytest
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.embedding import sync

pytestmark = pytest.mark.django_db


class Note(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3)

    objects = EmbeddingManager()


class Line(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", sync="save")

    objects = EmbeddingManager()


sync.watch(Line)  # As at start-up, for the models of apps.


class NoteFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Note

    title = factory.Sequence("note {}".format)
    embedding = factory.Sequence(lambda n: [n, 0, 0])


class LineFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Line

    title = factory.Sequence("line {}".format)


def test_built_note_has_its_vector():
    np.testing.assert_array_equal(NoteFactory.build(embedding=[1, 2, 3]).embedding, [1, 2, 3])


def test_created_note_is_found():
    note = NoteFactory(embedding=[1, 2, 3])
    assert list(Note.objects.nearest([1, 2, 3])) == [note]


def test_batch_of_notes_is_ranked():
    first, *rest = NoteFactory.create_batch(3)
    assert list(Note.objects.nearest(first.embedding)) == [first, *rest]


def test_line_is_embedded_when_it_is_created():
    line = LineFactory(title="ham")
    assert list(Line.objects.nearest("ham", 1)) == [line]
    assert not Line.objects.stale().exists()
