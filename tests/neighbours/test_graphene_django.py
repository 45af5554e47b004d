"""graphene-django: a DjangoObjectType of every field has the vector as numbers."""

import graphene
import pytest
from django.db import models
from graphene_django import DjangoObjectType

from pgembedding_django import EmbeddingField, EmbeddingManager

pytestmark = pytest.mark.django_db


class Poem(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()


class PoemType(DjangoObjectType):
    class Meta:
        model = Poem
        fields = "__all__"


class Query(graphene.ObjectType):
    poems = graphene.List(PoemType)

    def resolve_poems(root, info):
        return Poem.objects.nearest([0, 0, 0], 5)


schema = graphene.Schema(query=Query)


def test_type_is_a_list_of_numbers():
    assert "embedding: [Float!]\n" in str(schema)


def test_query_answers_the_vector_as_numbers():
    Poem.objects.create(title="x", embedding=[0.5, 1, 2])
    assert schema.execute("{ poems { title embedding } }").data == {"poems": [{"title": "x", "embedding": [0.5, 1, 2]}]}
