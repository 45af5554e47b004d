"""django-lifecycle: hooks run where a vector changed, and save() goes through."""

import pytest
from django.db import models
from django_lifecycle import AFTER_UPDATE, LifecycleModel, hook

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


class Train(LifecycleModel):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)
    moves = models.IntegerField(default=0)

    objects = EmbeddingManager()

    @hook(AFTER_UPDATE, when="embedding", has_changed=True)
    def count(self):
        Train.objects.filter(pk=self.pk).update(moves=models.F("moves") + 1)


@pytest.mark.parametrize(("vector", "moves"), [(ONE, 0), ([0.1, 2, 3], 0), (TWO, 1), (None, 1)])
def test_hook_runs_where_the_vector_changed(vector, moves):
    train = Train.objects.get(pk=Train.objects.create(title="a", embedding=ONE).pk)
    train.embedding = vector
    train.save()
    assert Train.objects.get().moves == moves


def test_what_it_was_is_known():
    train = Train.objects.create(title="a", embedding=ONE)
    train.embedding = TWO
    assert train.has_changed("embedding")
    assert train.initial_value("embedding") == ONE
