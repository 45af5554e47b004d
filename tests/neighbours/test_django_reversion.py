"""django-reversion: a revision holds the vector, and reverting brings it back with its digest."""

import pytest
import reversion
from django.db import models
from reversion.models import Version

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


@reversion.register
class Draft(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = EmbeddingManager()


@pytest.fixture
def draft():
    draft = Draft(title="a", embedding=ONE)
    for title, vector in (("a", ONE), ("b", TWO)):
        with reversion.create_revision():
            draft.title, draft.embedding = title, vector
            draft.save()
    return draft


def test_versions_hold_the_vectors(draft):
    versions = Version.objects.get_for_object(draft)
    assert [Vector(version.field_dict["embedding"]) for version in versions] == [TWO, ONE]


def test_reverted_row_has_its_vector_and_is_not_stale(draft):
    Version.objects.get_for_object(draft).last().revision.revert()
    row = Draft.objects.get()
    assert (row.title, row.embedding) == ("a", ONE)
    assert not Draft.objects.stale().exists()


def test_deleted_row_is_recovered(draft):
    draft.delete()
    Version.objects.get_deleted(Draft).get().revert()
    assert Draft.objects.get().embedding == TWO
