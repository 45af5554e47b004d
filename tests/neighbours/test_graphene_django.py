"""graphene-django: a DjangoObjectType of every field has the vector as numbers."""

import graphene
import pytest
from django.db import models
from graphene_django import DjangoObjectType

from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, SparseVectorField

pytestmark = pytest.mark.django_db


class Poem(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)
    bits = BitField(length=4, null=True)
    words = SparseVectorField(dimensions=9, null=True)

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


def test_bits_and_sparse_vectors_are_text():
    assert "bits: String\n" in str(schema)
    Poem.objects.create(title="x", embedding=[0.5, 1, 2], bits="0110", words={0: 0.5, 8: 2})
    assert schema.execute("{ poems { bits words } }").data == {"poems": [{"bits": "0110", "words": "{1:0.5,9:2.0}/9"}]}
