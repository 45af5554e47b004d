"""bulk_load_arrays(): what it writes of a matrix and of columns, and what it refuses."""

import datetime
import uuid

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, models, transaction

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.documents.models import Collection
from pgembedding_django.testing import assertIndexUsed
from tests.models import Article, Everything, Loose, Memo, Required, Section

pytestmark = pytest.mark.django_db

MATRIX = np.random.default_rng(3).standard_normal((30, 3)).astype(np.float32)
TITLES = [f"é {i}" for i in range(30)]


def stored(rows, field="embedding"):
    return np.stack([np.asarray(vector) for vector in rows.order_by("pk").values_list(field, flat=True)])


def test_arrays_are_written_bit_for_bit_beside_their_columns():
    assert Article.objects.bulk_load_arrays(MATRIX, title=TITLES, published=np.arange(30) % 2 == 0) == 30
    assert stored(Article.objects).tobytes() == MATRIX.tobytes()
    expected = [(title, i % 2 == 0) for i, title in enumerate(TITLES)]
    assert list(Article.objects.order_by("pk").values_list("title", "published")) == expected


def test_arrays_of_a_text_in_columns_are_not_stale():
    Article.objects.bulk_load_arrays(MATRIX, title=TITLES)
    assert not Article.objects.stale().exists()
    Article.objects.filter(title=TITLES[3]).update(title="another")
    assert Article.objects.stale().count() == 1


def test_arrays_whose_text_is_none_are_stale():
    class Text:
        def __str__(self):
            return "text"

    Article.objects.bulk_load_arrays(MATRIX[:1], title=[Text()])
    assert Article.objects.get().embedding_digest is None


def test_arrays_where_nothing_embeds_have_no_digest(settings):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    Article.objects.bulk_load_arrays(MATRIX, title=TITLES)
    assert set(Article.objects.values_list("embedding_digest", flat=True)) == {None}


def test_arrays_keep_a_digest_that_comes_with_them():
    Article.objects.bulk_load_arrays(MATRIX, title=TITLES, embedding_digest=["d"] * 30)
    assert set(Article.objects.values_list("embedding_digest", flat=True)) == {"d"}


def test_arrays_of_a_model_whose_fields_make_their_values_are_saved_as_instances():
    before = datetime.datetime.now(datetime.UTC)
    Everything.objects.bulk_load_arrays(MATRIX, integer=np.arange(30), text=np.array(TITLES))
    row = Everything.objects.get(integer=7)
    assert (row.text, row.filled, row.embedding.tolist()) == (TITLES[7], 7, MATRIX[7].tolist())
    assert before <= row.created <= row.updated


def test_arrays_of_one_field_of_several_leave_the_other_without_a_vector():
    Memo.objects.bulk_load_arrays(MATRIX, field="embedding", title=TITLES, body=TITLES)
    assert stored(Memo.objects).tobytes() == MATRIX.tobytes()
    assert not Memo.objects.exclude(loud=None).exists()


def test_arrays_take_a_column_of_vectors_for_another_field(isolated):
    class Double(models.Model):
        one = EmbeddingField(dimensions=3)
        two = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Double)
    Double.objects.bulk_load_arrays(MATRIX, field="two", one=list(-MATRIX))
    assert stored(Double.objects, "two").tobytes() == MATRIX.tobytes()
    assert stored(Double.objects, "one").tobytes() == (-MATRIX).tobytes()


def test_arrays_take_keys_and_related_keys():
    section = Section.objects.create(name="s")
    Article.objects.bulk_load_arrays(
        MATRIX[:2], id=[70, 71], title=["a", "b"], section_id=(key for key in [section.pk, None])
    )
    assert list(Article.objects.order_by("pk").values_list("pk", "section")) == [(70, section.pk), (71, None)]


def test_arrays_make_the_defaults_that_save_would_make(isolated):
    class Keyed(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)
        count = models.IntegerField(default=5)
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Keyed)
    Keyed.objects.bulk_load_arrays(MATRIX)
    assert Keyed.objects.filter(count=5).count() == 30


@pytest.mark.parametrize(
    "matrix",
    [MATRIX.astype(np.float64), MATRIX.tolist(), np.asfortranarray(MATRIX), np.ma.array(MATRIX), MATRIX.astype(">f4")],
    ids=["double", "lists", "columns first", "mask of nothing", "big-endian"],
)
def test_arrays_may_be_of_any_kind(matrix):
    Required.objects.bulk_load_arrays(matrix)
    assert stored(Required.objects).tobytes() == MATRIX.tobytes()


def test_arrays_of_integers_are_vectors():
    Required.objects.bulk_load_arrays(np.arange(6).reshape(2, 3))
    assert stored(Required.objects).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_of_any_length_are_vectors_of_a_field_without_dimensions():
    Loose.objects.bulk_load_arrays(MATRIX)
    Loose.objects.bulk_load_arrays(MATRIX[:, :2])
    assert {len(vector) for vector in Loose.objects.values_list("embedding", flat=True)} == {2, 3}


def test_arrays_are_loaded_in_batches():
    seen = []
    assert Required.objects.bulk_load_arrays(MATRIX, batch_size=20, progress=seen.append) == 30
    assert Required.objects.bulk_load_arrays(MATRIX, batch_size=None, progress=seen.append) == 30
    assert Required.objects.bulk_load_arrays(MATRIX[:0], progress=seen.append) == 0
    assert seen == [20, 30, 30]


def test_arrays_around_the_index_are_found_by_it(force_index):
    Article.objects.bulk_load_arrays(MATRIX, title=TITLES, rebuild_indexes=True)
    assertIndexUsed(Article.objects.nearest(MATRIX[7], 1, exact=False))
    assert Article.objects.nearest(MATRIX[7], 1).get().title == TITLES[7]


def test_arrays_of_documents_belong_to_their_collection():
    collection = Collection.objects.create(name="c")
    collection.documents.bulk_load_arrays(MATRIX, content=TITLES, key=TITLES)
    collection.refresh_from_db()
    assert (collection.dimensions, collection.documents.count()) == (3, 30)
    assert collection.documents.nearest(MATRIX[7], 1).get().key == TITLES[7]
    with pytest.raises(ValidationError, match="must have 3 dimensions, got 2"):
        collection.documents.bulk_load_arrays(MATRIX[:, :2])


def test_abulk_load_arrays_loads():
    async def load():
        return await Required.objects.abulk_load_arrays(MATRIX)

    assert async_to_sync(load)() == 30


def broken(row, value):
    matrix = MATRIX.astype(object if value is None else np.float64)
    matrix[row, 1] = value
    return matrix


BAD = {
    "NaN": (broken(17, np.nan), {}, "Article.embedding must be finite, got nan at position 1."),
    "too large": (broken(17, 1e39), {}, "Article.embedding must fit float32"),
    "None": (broken(17, None), {}, "Article.embedding must hold numbers only, got NoneType at position 1."),
    "NUL": (MATRIX, {"title": [*TITLES[:17], "a\0", *TITLES[18:]]}, "Article.title: Postgres stores no NUL"),
    "no number": (
        MATRIX,
        {"id": [*range(17), "x", *range(12)]},
        "Article.id: Field 'id' expected a number but got 'x'.",
    ),
}


@pytest.mark.parametrize(("matrix", "columns", "message"), BAD.values(), ids=BAD)
def test_arrays_that_cannot_be_written_name_the_row_and_store_nothing_of_its_batch(matrix, columns, message):
    columns = {"id": range(100, 130), "title": TITLES, **columns}
    with pytest.raises(ValidationError) as caught:
        Article.objects.bulk_load_arrays(matrix, batch_size=10, **columns)
    pk = "x" if "expected a number" in message else 117
    assert caught.value.messages[0].startswith(f"Row 17 (pk {pk!r}): {message}")
    assert Article.objects.count() == 10


def test_masked_numbers_are_no_vectors():
    masked = np.ma.array(MATRIX, mask=np.arange(90).reshape(30, 3) == 40)
    with pytest.raises(ValidationError, match=r"Row 13 \(pk None\): Required\.embedding must hold numbers only"):
        Required.objects.bulk_load_arrays(masked)


def test_arrays_that_the_server_refuses_name_the_row():
    keys = [*range(1, 30), 7]
    with pytest.raises(IntegrityError, match=r"^Row 29 \(pk 7\): duplicate key"), transaction.atomic():
        Required.objects.bulk_load_arrays(MATRIX, id=np.array(keys))


ARGUMENTS = {
    "vector": ([1, 2, 3], {}, ValueError, "matrix must have the shape (rows, dimensions), got (3,)."),
    "other length": (
        MATRIX,
        {"title": ["a"]},
        ValueError,
        "title must have a value for each of the 30 rows of the matrix, got 1.",
    ),
    "batch": (MATRIX, {"batch_size": 0}, ValueError, "batch_size must be a positive integer or None, got 0."),
    "unknown": (
        MATRIX,
        {"titel": TITLES},
        TypeError,
        "bulk_load_arrays() takes columns of Article (id, title, published, section, section_id, embedding, "
        "embedding_digest), got 'titel'.",
    ),
}


@pytest.mark.parametrize(("matrix", "arguments", "kind", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arrays_with_a_wrong_argument_are_refused(matrix, arguments, kind, message):
    with pytest.raises(kind) as caught:
        Article.objects.bulk_load_arrays(matrix, **arguments)
    assert str(caught.value) == message
