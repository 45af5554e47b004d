"""vectors(): keys and a matrix, read through COPY."""

import uuid

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.documents.models import Collection
from tests.models import Article, Loose, Memo, Required, Section

pytestmark = pytest.mark.django_db

MATRIX = np.random.default_rng(3).standard_normal((30, 3)).astype(np.float32)


@pytest.fixture
def articles():
    keys = range(100, 130)
    Article.objects.bulk_load_arrays(MATRIX, id=keys, title=[str(i) for i in range(30)])
    return list(keys)


def test_vectors_are_the_keys_in_order_and_the_matrix_bit_for_bit(articles):
    keys, matrix = Article.objects.order_by("-pk").vectors()
    assert keys == articles
    assert (matrix.dtype, matrix.tobytes()) == (np.float32, MATRIX.tobytes())


def test_vectors_of_a_filter_leave_out_rows_without_one(articles):
    Article.objects.create(pk=5, title="7")
    keys, matrix = Article.objects.filter(title__in=["7", "3% %s"]).vectors()
    assert (keys, matrix.tolist()) == ([107], [MATRIX[7].tolist()])


@pytest.mark.parametrize("rows", [Article.objects.none(), Article.objects.filter(pk__in=[]), Article.objects.all()])
def test_vectors_of_no_rows_are_an_empty_matrix(rows):
    keys, matrix = rows.all().vectors()
    assert (keys, matrix.shape) == ([], (0, 3))


@pytest.mark.parametrize(("size", "pages"), [(7, [7, 7, 7, 7, 2]), (15, [15, 15]), (30, [30]), (31, [30])])
def test_iter_vectors_reads_pages(articles, size, pages):
    read = list(Article.objects.iter_vectors(size))
    assert [len(keys) for keys, _ in read] == [len(matrix) for _, matrix in read] == pages
    assert [key for keys, _ in read for key in keys] == articles
    assert np.concatenate([matrix for _, matrix in read]).tobytes() == MATRIX.tobytes()


def test_iter_vectors_without_a_size_is_refused():
    with pytest.raises(ValueError, match="chunk_size must be a positive integer, got 0"):
        Article.objects.iter_vectors(0)


def test_vectors_of_a_ranking_come_in_its_order(articles):
    keys, matrix = Article.objects.nearest(MATRIX[3], 5).vectors()
    expected = np.argsort(np.linalg.norm(MATRIX - MATRIX[3], axis=1))[:5]
    assert keys == [100 + i for i in expected]
    assert matrix.tobytes() == MATRIX[expected].tobytes()


@pytest.mark.parametrize("combine", [lambda rows: rows[:7], lambda rows: rows[:5].union(rows[3:7]).order_by("id")])
def test_vectors_of_a_slice_and_of_a_union_are_its_rows(articles, combine):
    keys, matrix = combine(Article.objects.order_by("id")).vectors()
    assert (keys, matrix.tobytes()) == (articles[:7], MATRIX[:7].tobytes())


def test_vectors_of_a_slice_of_no_rows_are_an_empty_matrix():
    assert Article.objects.all()[:3].vectors()[1].shape == (0, 3)


def test_vectors_through_a_relation_are_each_read_once_behind_distinct(articles):
    Article.objects.filter(pk__lt=103).update(section=Section.objects.create(name="s"))
    keys, _ = Article.objects.filter(section__article__pk__lt=103).distinct().order_by("pk").vectors()
    assert keys == [100, 101, 102]


def test_vectors_of_one_field_of_several():
    Memo.objects.bulk_load_arrays(MATRIX, field="loud", title=["a"] * 30)
    assert Memo.objects.vectors(field="loud")[1].tobytes() == MATRIX.tobytes()
    assert Memo.objects.vectors(field="embedding")[1].shape == (0, 3)


def test_vectors_of_one_length_of_a_field_without_dimensions():
    Loose.objects.bulk_load_arrays(MATRIX)
    assert Loose.objects.vectors()[1].tobytes() == MATRIX.tobytes()


@pytest.mark.parametrize("chunk", [lambda rows: rows.vectors(), lambda rows: list(rows[:40].iter_vectors())])
def test_vectors_of_several_lengths_make_no_matrix(chunk):
    Loose.objects.bulk_load_arrays(MATRIX)
    Loose.objects.bulk_load_arrays(MATRIX[:, :2])
    with pytest.raises(ValueError, match="holds vectors of 2 and 3 dimensions here, which make no matrix"):
        chunk(Loose.objects.order_by("pk"))


def test_vectors_of_several_lengths_of_one_size_together_make_no_matrix():
    Loose.objects.bulk_load_arrays(MATRIX[:1, [0, 1]])
    Loose.objects.bulk_load_arrays(MATRIX[:1, [0]])
    Loose.objects.bulk_load_arrays(MATRIX[:1])
    with pytest.raises(ValueError, match="dimensions here, which make no matrix"):
        Loose.objects.vectors()


def test_vectors_of_several_lengths_in_several_pages_are_a_matrix_each():
    Loose.objects.bulk_load_arrays(MATRIX[:2])
    Loose.objects.bulk_load_arrays(MATRIX[:2, :2])
    pages = list(Loose.objects.iter_vectors(2))
    assert [matrix.shape for _, matrix in pages] == [(2, 3), (2, 2)]


def make(*fields, **attributes):
    class Meta:
        app_label = "tests"

    embedding = EmbeddingField(dimensions=3, **attributes.pop("options", {}))
    model = type(
        "Keyed",
        (models.Model,),
        {**attributes, "embedding": embedding, "objects": EmbeddingManager(), "Meta": Meta, "__module__": __name__},
    )
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


def test_vectors_with_keys_of_text_and_of_other_kinds(isolated):
    model = make(id=models.UUIDField(primary_key=True, default=uuid.uuid4))
    model.objects.bulk_load_arrays(MATRIX)
    keys, matrix = model.objects.vectors()
    assert keys == sorted(model.objects.values_list("pk", flat=True))
    assert [row.tolist() for row in matrix] == [model.objects.get(pk=key).embedding.tolist() for key in keys]


@pytest.mark.parametrize("kind", [models.IntegerField(), models.CharField(max_length=9)])
def test_vectors_with_composite_keys(isolated, kind):
    model = make(pk=models.CompositePrimaryKey("tenant", "number"), tenant=kind, number=models.SmallIntegerField())
    tenants = [kind.to_python(i // 10) for i in range(30)]
    model.objects.bulk_load_arrays(MATRIX, tenant=tenants, number=[i % 10 for i in range(30)])
    read = list(model.objects.iter_vectors(8))
    assert [key for keys, _ in read for key in keys] == [(tenants[i], i % 10) for i in range(30)]
    assert np.concatenate([matrix for _, matrix in read]).tobytes() == MATRIX.tobytes()


@pytest.mark.pgvector
def test_vectors_in_half_precision(isolated):
    model = make(options={"storage": "half"})
    model.objects.bulk_load_arrays(MATRIX)
    assert model.objects.vectors()[1].tobytes() == MATRIX.astype(np.float16).astype(np.float32).tobytes()


def test_vectors_of_documents_are_those_of_the_collection():
    collection = Collection.objects.create(name="c", dimensions=3)
    collection.documents.bulk_load_arrays(MATRIX)
    Collection.objects.create(name="other", dimensions=3).documents.bulk_load_arrays(MATRIX)
    assert collection.documents.vectors()[1].tobytes() == MATRIX.tobytes()


def test_avectors_reads():
    async def read():
        return await Required.objects.avectors()

    Required.objects.bulk_load_arrays(MATRIX)
    _, matrix = async_to_sync(read)()
    assert matrix.tobytes() == MATRIX.tobytes()
