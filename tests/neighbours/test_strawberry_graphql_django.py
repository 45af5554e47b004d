"""strawberry-graphql-django: an auto field has the vector as numbers, in types and in inputs."""

import pytest
import strawberry
import strawberry_django
from django.db import models

from pgembedding_django import BitField, EmbeddingField, EmbeddingManager, SparseVector, SparseVectorField

pytestmark = pytest.mark.django_db


class Film(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3)
    bits = BitField(length=4, null=True, blank=True)
    words = SparseVectorField(dimensions=9, null=True, blank=True)

    objects = EmbeddingManager()


@strawberry_django.type(Film)
class FilmType:
    title: strawberry.auto
    embedding: strawberry.auto
    bits: strawberry.auto
    words: strawberry.auto


@strawberry_django.input(Film)
class FilmInput:
    title: strawberry.auto
    embedding: strawberry.auto
    bits: strawberry.auto
    words: strawberry.auto


@strawberry.type
class Query:
    @strawberry_django.field
    def films(self) -> list[FilmType]:
        return Film.objects.nearest([0, 0, 0], 5)


@strawberry.type
class Mutation:
    create_film: FilmType = strawberry_django.mutations.create(FilmInput)


schema = strawberry.Schema(query=Query, mutation=Mutation)


def test_type_is_a_list_of_numbers():
    assert "embedding: [Float!]!" in schema.as_str()


def test_query_answers_the_vector_as_numbers():
    Film.objects.create(title="x", embedding=[0.5, 1, 2])
    answer = schema.execute_sync("{ films { title embedding } }")
    assert answer.data == {"films": [{"title": "x", "embedding": [0.5, 1, 2]}]}


def test_mutation_reads_numbers():
    answer = schema.execute_sync(
        'mutation { createFilm(data: {title: "x", embedding: [0.5, 1, 2]}) { ... on FilmType { embedding } } }'
    )
    assert answer.data == {"createFilm": {"embedding": [0.5, 1, 2]}}
    assert Film.objects.get().embedding == [0.5, 1, 2]


def test_bits_and_sparse_vectors_are_text():
    answer = schema.execute_sync(
        'mutation { createFilm(data: {title: "x", embedding: [0.5, 1, 2], bits: "0110", words: "{1:0.5,9:2}/9"}) '
        "{ ... on FilmType { bits words } } }"
    )
    assert answer.data == {"createFilm": {"bits": "0110", "words": "{1:0.5,9:2.0}/9"}}
    assert Film.objects.get().words == SparseVector({0: 0.5, 8: 2}, 9)
