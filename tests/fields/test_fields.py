"""EmbeddingField on a real Postgres: what goes in, what comes out, and what is refused before any SQL."""

import array
import copy
import json
import math
import pickle
import struct
from collections import deque
from fractions import Fraction
from io import StringIO

import numpy as np
import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.serializers.base import DeserializationError
from django.db import connection, models, transaction
from django.db.models import Avg, Case, Count, Exists, F, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce
from django.forms import Textarea, model_to_dict, modelform_factory

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex, L2Distance
from pgembedding_django.forms import EmptyValues
from pgembedding_django.vectors import InvalidVector, Vector
from tests.models import Article, Loose, Pair, Required, Section

pytestmark = pytest.mark.django_db

VECTOR = [1.5, -2.0, 0.25]
OTHER = [0.0, 3.0, 4.0]


@pytest.fixture
def article():
    return Article.objects.create(title="a", embedding=VECTOR)


@pytest.fixture
def create_table():
    """Create the tables of isolated models, until the test's transaction is rolled back."""

    def create(*created):
        with connection.schema_editor() as editor:
            for model in created:
                editor.create_model(model)

    return create


def assert_vector(value, expected=VECTOR):
    assert type(value) is Vector
    assert value.dtype == np.float32
    assert value.shape == (len(expected),)
    assert value.tolist() == expected


# Declaration


@pytest.mark.parametrize("dimensions", [0, -1, "3", True, 1.5, [3]])
def test_field_wrong_dimensions_are_refused(dimensions):
    with pytest.raises(ValueError) as caught:
        EmbeddingField(dimensions=dimensions)
    assert str(caught.value) == f"EmbeddingField.dimensions must be a positive integer, got {dimensions!r}."


@pytest.mark.parametrize("storage", ["double", None, 2, ["half"]])
def test_field_wrong_storage_is_refused(storage):
    with pytest.raises(ValueError) as caught:
        EmbeddingField(dimensions=3, storage=storage)
    assert str(caught.value) == f'EmbeddingField.storage must be "single" or "half", got {storage!r}.'


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dimensions": 3},
        {"dimensions": 3, "source": "title", "embedder": "other", "storage": "half", "null": True},
        {"dimensions": 3, "default": [1, 2, 3]},
        {"source": ["title", "body"], "blank": True, "help_text": "made by the backfill", "verbose_name": "vector"},
    ],
)
def test_field_deconstruct_gives_the_field_again(options):
    _name, path, args, kwargs = EmbeddingField(**options).deconstruct()
    assert path == "pgembedding_django.EmbeddingField"
    assert (args, kwargs) == ([], options)
    assert EmbeddingField(*args, **kwargs).deconstruct()[1:] == (path, args, kwargs)


def test_field_clone_keeps_every_option():
    field = EmbeddingField(dimensions=3, source="title", embedder="other", storage="half")
    again = field.clone()
    assert (again.dimensions, again.source, again.embedder, again.storage) == (3, "title", "other", "half")


def test_field_first_argument_is_dimensions():
    field = EmbeddingField(3, "the vector")
    assert (field.dimensions, field.verbose_name) == (3, "the vector")


def test_field_label_is_the_model_and_the_name():
    assert Article._meta.get_field("embedding").label == "Article.embedding"
    assert EmbeddingField(dimensions=3).label == "EmbeddingField"


def test_field_pickled_is_the_field_of_the_model():
    field = Article._meta.get_field("embedding")
    assert pickle.loads(pickle.dumps(field)) is field
    assert copy.deepcopy(field) == field


def test_makemigrations_finds_nothing_to_do():
    out = StringIO()
    call_command("makemigrations", "tests", check=True, dry_run=True, stdout=out)
    assert out.getvalue() == "No changes detected in app 'tests'\n"


def collected(old, new):
    for field in (old, new):
        field.set_attributes_from_name("embedding")
        field.model = Article
    with connection.schema_editor(collect_sql=True) as editor:
        editor.alter_field(Article, old, new)
    return editor.collected_sql


@pytest.mark.parametrize("options", [{"source": "title"}, {"embedder": "other"}, {"source": ["title"], "blank": True}])
def test_alter_field_source_or_embedder_makes_no_ddl(options):
    assert collected(EmbeddingField(dimensions=3), EmbeddingField(dimensions=3, **options)) == []


@pytest.mark.pgvector
def test_alter_field_dimensions_makes_ddl():
    assert collected(EmbeddingField(dimensions=3), EmbeddingField(dimensions=4)) != []


@pytest.mark.pgvector
def test_alter_field_storage_keeps_the_rows():
    Required.objects.create(embedding=VECTOR)
    old, new = Required._meta.get_field("embedding"), EmbeddingField(dimensions=3, storage="half")
    new.set_attributes_from_name("embedding")
    new.model = Required
    with connection.schema_editor() as editor:
        editor.alter_field(Required, old, new)
    assert raw("SELECT pg_typeof(embedding)::text, embedding::text FROM tests_required") == [
        ("halfvec", "[1.5,-2,0.25]")
    ]


def test_add_field_with_default_fills_the_rows(isolated, create_table):
    class Note(models.Model):
        class Meta:
            app_label = "tests"

    create_table(Note)
    Note.objects.create()
    added = EmbeddingField(dimensions=3, default=tuple(VECTOR))
    added.set_attributes_from_name("embedding")
    with connection.schema_editor() as editor:
        editor.add_field(Note, added)
    [(text,)] = raw("SELECT embedding::text FROM tests_note")
    assert json.loads("[" + text[1:-1] + "]") == VECTOR


def test_generated_copy_of_a_field_is_a_vector_too(isolated, create_table):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3)
        twin = models.GeneratedField(
            expression=F("embedding"), output_field=EmbeddingField(dimensions=3), db_persist=True
        )

        class Meta:
            app_label = "tests"

    create_table(Note)
    Note.objects.bulk_create([Note(embedding=VECTOR), Note(embedding=OTHER)])
    assert_vector(Note.objects.order_by(L2Distance("twin", VECTOR))[0].twin)
    assert_vector(Note.objects.filter(twin=OTHER).values_list("twin", flat=True)[0], OTHER)
    assert Note.check(databases=["default"]) == []


def test_field_db_default_fills_the_row(isolated, create_table):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3, db_default=VECTOR)

        class Meta:
            app_label = "tests"

    create_table(Note)
    note = Note.objects.create()
    assert_vector(note.embedding)
    note.refresh_from_db()
    assert_vector(note.embedding)


def test_placeholder_casts_a_value_and_leaves_an_expression(engine):
    field, compiler = Article._meta.get_field("embedding"), Article.objects.all().query.get_compiler("default")
    cast, expression = f"%s::{engine.cast('single')}", Value(1)
    assert field.get_placeholder("[1]", compiler, connection) == cast
    assert field.get_placeholder(expression, compiler, connection) == "%s"
    assert field.get_placeholder_sql("[1]", compiler, connection) == (cast, ("[1]",))
    sql, params = field.get_placeholder_sql(expression, compiler, connection)
    assert (sql, list(params)) == ("%s", [1])


def raw(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


# Assignment


@pytest.mark.parametrize("value", [VECTOR, tuple(VECTOR), np.array(VECTOR), str(VECTOR), struct.pack("<3f", *VECTOR)])
def test_assignment_converts_to_float32(value):
    assert_vector(Article(embedding=value).embedding)
    article = Article()
    article.embedding = value
    assert_vector(article.embedding)


def test_assignment_of_an_array_subclass_gives_a_plain_array():
    assert_vector(Article(embedding=np.ma.array(VECTOR, dtype=np.float32)).embedding)


@pytest.mark.parametrize("value", ["x", [1, None], {"a": 1}, [[1]], np.zeros((2, 2)), True])
def test_assignment_of_what_is_no_vector_keeps_it_for_validation(value):
    assert Article(embedding=value).embedding is value


def test_assigned_vector_stays_float32_after_save_and_reload(article):
    assert_vector(article.embedding)
    article.save()
    assert_vector(article.embedding)
    article.refresh_from_db()
    assert_vector(article.embedding)


def test_deleted_attribute_is_loaded_again(article, django_assert_num_queries):
    article.embedding = OTHER
    del article.embedding
    with django_assert_num_queries(1):
        assert_vector(article.embedding)


# What is accepted, down to the bits

KINDS = {
    "list": VECTOR,
    "tuple": tuple(VECTOR),
    "deque": deque(VECTOR),
    "array": array.array("d", VECTOR),
    "memoryview": memoryview(array.array("f", VECTOR)),
    "float16": np.array(VECTOR, np.float16),
    "float32": np.array(VECTOR, np.float32),
    "float64": np.array(VECTOR, np.float64),
    "big-endian": np.array(VECTOR, ">f4"),
    "strided": np.array([1.5, 9, -2, 9, 0.25], np.float32)[::2],
    "object": np.array([Fraction(3, 2), -2, 0.25], object),
    "bytes": struct.pack("<3f", *VECTOR),
    "text": "[1.5, -2, 0.25]",
}
WRITERS = {
    "save": lambda value: Article(embedding=value).save(),
    "create": lambda value: Article.objects.create(embedding=value),
    "bulk_create": lambda value: Article.objects.bulk_create([Article(embedding=value)]),
    "update": lambda value: Article.objects.update(embedding=value),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("value", KINDS.values(), ids=KINDS)
def test_accepted_kind_comes_back_equal(value, write):
    Article.objects.create()
    write(value)
    assert_vector(Article.objects.latest("pk").embedding)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u8"])
def test_accepted_integers_come_back_equal(dtype):
    pk = Article.objects.create(embedding=np.array([1, 2, 3], dtype)).pk
    assert_vector(Article.objects.get(pk=pk).embedding, [1.0, 2.0, 3.0])


def test_random_float32_comes_back_bit_for_bit():
    bits = np.random.default_rng(3).integers(0, 2**32, 4000, dtype=np.uint32).view(np.float32)
    small = np.array([0.0, -0.0, 2.0**-126], np.float32)
    vector = np.concatenate([bits[(np.abs(bits) < 1e16) & (np.abs(bits) > 2.0**-126)], small])
    pk = Loose.objects.create(embedding=vector).pk
    assert Loose.objects.get(pk=pk).embedding.tobytes() == vector.tobytes()
    # The server's text of a vector has no sign on a zero.
    assert np.array_equal(Loose.objects.raw("SELECT * FROM tests_loose")[0].embedding, vector)


def test_subnormal_float32_comes_back_as_the_engine_can(engine):
    vector = np.array([1e-45, -1.1e-38, 1.0], np.float32)
    pk = Loose.objects.create(embedding=vector).pk
    expected = vector if engine.name == "pgvector" else np.array([0.0, -0.0, 1.0], np.float32)
    assert Loose.objects.get(pk=pk).embedding.tobytes() == expected.tobytes()


def test_field_without_dimensions_takes_any_length():
    Loose.objects.bulk_create([Loose(embedding=np.ones(size)) for size in (1, 3, 1536)])
    assert [loose.embedding.size for loose in Loose.objects.order_by("pk")] == [1, 3, 1536]


def test_null_is_kept_apart(article):
    Article.objects.create(title="none")
    assert Article.objects.get(title="none").embedding is None
    assert list(Article.objects.filter(embedding__isnull=False)) == [article]
    assert Article.objects.filter(embedding=None).values_list("title", flat=True)[0] == "none"


MISSING = "Required.embedding must have a vector: assign one, or let the field be null until it is embedded."


@pytest.mark.parametrize(
    "write",
    [
        lambda: Required.objects.create(),
        lambda: Required(embedding=None).save(),
        lambda: Required.objects.bulk_create([Required(embedding=VECTOR), Required()]),
    ],
)
def test_null_into_a_required_field_is_refused_before_any_insert(write, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        write()
    assert (caught.value.messages, caught.value.code) == ([MISSING], "null")


def test_null_into_a_required_field_is_refused_on_update_too():
    row = Required.objects.create(embedding=VECTOR)
    row.embedding = None
    with pytest.raises(ValidationError, match=r"Required\.embedding must have a vector"):
        row.save()


def test_null_into_a_required_field_is_no_valid_row():
    with pytest.raises(ValidationError) as caught:
        Required().full_clean()
    assert caught.value.message_dict == {"embedding": ["This field cannot be null."]}


@pytest.fixture
def half_model(isolated, create_table):
    class Half(models.Model):
        embedding = EmbeddingField(dimensions=3, storage="half", null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [HnswIndex(fields=["embedding"], name="half_hnsw")]

    create_table(Half)
    return Half


@pytest.mark.pgvector
def test_half_storage_loads_float32_rounded_to_half(half_model):
    given = [0.1, 65519.0, -6e-8]
    row = half_model.objects.create(embedding=given)
    rounded = [struct.unpack("<e", struct.pack("<e", number))[0] for number in (0.1, 65504.0, -6e-8)]
    assert_vector(row.embedding, np.float32(given).tolist())
    assert_vector(half_model.objects.get().embedding, rounded)
    assert_vector(half_model.objects.raw("SELECT * FROM tests_half")[0].embedding, rounded)


@pytest.mark.pgvector
def test_half_storage_refuses_what_rounds_to_infinity(half_model, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        half_model.objects.create(embedding=[0, 65520, 0])
    assert caught.value.messages == [
        "Half.embedding must be below 65520 in size for half precision, got 65520.0 at position 1."
    ]


# What is refused: each a ValidationError that names the field and the position, before any SQL

HELD = "Article.embedding must hold numbers only, got "
REFUSED = {
    "short": ([1, 2], "dimensions", "Article.embedding must have 3 dimensions, got 2."),
    "long": ([1, 2, 3, 4], "dimensions", "Article.embedding must have 3 dimensions, got 4."),
    "empty": ([], "empty", "Article.embedding must have at least 1 dimension, got 0."),
    "NaN": ([1, math.nan, 3], "element", "Article.embedding must be finite, got nan at position 1."),
    "inf": ([1, 2, math.inf], "element", "Article.embedding must be finite, got inf at position 2."),
    "-inf": ([-math.inf, 2, 3], "element", "Article.embedding must be finite, got -inf at position 0."),
    "NaN in float32": (
        np.array([1, 2, math.nan], np.float32),
        "element",
        "Article.embedding must be finite, got nan at position 2.",
    ),
    "None inside": ([1, None, 3], "element", HELD + "NoneType at position 1."),
    "1e39": (
        [1, 1e39, 3],
        "range",
        "Article.embedding must fit float32 (at most 3.4e+38 in size), got a larger number at position 1.",
    ),
    "10**400": (
        [1, 2, 10**400],
        "range",
        "Article.embedding must fit float32 (at most 3.4e+38 in size), got a larger number at position 2.",
    ),
    "1e38": (
        [1e38, 1, 1],
        "norm",
        "Article.embedding must have a norm of at most 9.2e+18 so that distances fit float32, got 1.0e+38.",
    ),
    "garbage": (
        "x",
        "text",
        "Article.embedding must be a list of numbers such as [0.1, 0.2], got text that is no JSON from character 1 on.",
    ),
    "two rows": (np.zeros((2, 3)), "shape", "Article.embedding must be one-dimensional, got shape (2, 3)."),
    "nested list": ([[1, 2, 3]], "element", HELD + "list at position 0."),
    "bool": ([1, True, 3], "element", HELD + "bool at position 1."),
    "str": (["1", "2", "3"], "element", HELD + "str at position 0."),
    "complex": ([1, 2, 3j], "element", HELD + "complex at position 2."),
    "dict": ({"a": 1}, "type", "Article.embedding must be a sequence of numbers, got dict."),
    "number": (3, "type", "Article.embedding must be a sequence of numbers, got int."),
    "bytes": (
        b"abc",
        "bytes",
        "Article.embedding must have 4 bytes a dimension (little-endian float32), got 3 bytes.",
    ),
}
each_refused = pytest.mark.parametrize(("value", "code", "sentence"), REFUSED.values(), ids=REFUSED)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@each_refused
def test_refused_value_raises_before_sql(write, value, code, sentence, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        write(value)
    assert [message.removeprefix("Row 0 (pk None): ") for message in caught.value.messages] == [sentence]
    assert caught.value.code == code


@each_refused
def test_refused_value_full_clean_names_the_field(value, code, sentence, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        Article(title="a", embedding=value).full_clean()
    assert caught.value.message_dict == {"embedding": [sentence]}
    assert caught.value.error_dict["embedding"][0].code == code


@each_refused
def test_refused_value_has_an_invalid_vector_as_its_cause(value, code, sentence):
    with pytest.raises(ValidationError) as caught:
        Article._meta.get_field("embedding").clean(value, Article())
    assert isinstance(caught.value.__cause__, InvalidVector)


def test_refused_generator_names_its_type():
    with pytest.raises(ValidationError, match=r"Article\.embedding must be a sequence of numbers, got generator\."):
        Article.objects.create(embedding=(x for x in VECTOR))


def test_refused_value_leaves_the_connection_usable(article):
    with pytest.raises(ValidationError), transaction.atomic():
        Article.objects.create(embedding=[1])
    assert Article.objects.get() == article


@pytest.mark.parametrize("value", [[], ()])
def test_refused_empty_value_is_no_blank(isolated, value):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3, null=True, blank=True)

        class Meta:
            app_label = "tests"

    with pytest.raises(ValidationError, match=r"Note\.embedding must"):
        Note(embedding=value).full_clean()
    Note(embedding=None).full_clean()


@pytest.mark.parametrize("options", [{"null": True}, {"null": True, "blank": True}, {"blank": True}])
def test_full_clean_accepts_none_where_the_field_may_be_empty(isolated, options):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3, **options)

        class Meta:
            app_label = "tests"

    Note(embedding=None).full_clean()


def test_full_clean_keeps_a_good_vector(article):
    article.full_clean()
    assert_vector(article.embedding)


def test_full_clean_runs_the_field_s_validators(isolated):
    def positive(vector):
        if vector.min() < 0:
            raise ValidationError("It must be positive.")

    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3, validators=[positive])

        class Meta:
            app_label = "tests"

    with pytest.raises(ValidationError, match="It must be positive"):
        Note(embedding=VECTOR).full_clean()
    Note(embedding=OTHER).full_clean()


def test_zero_vector_is_kept():
    Pair.objects.create(one=[0, 0], two=[0, 0])
    assert_vector(Pair.objects.get().one, [0.0, 0.0])
    assert_vector(Pair.objects.get().two, [0.0, 0.0])


@pytest.mark.parametrize("bad", [0, 500, 999])
def test_bulk_create_one_bad_row_names_it_and_writes_nothing(bad, django_assert_num_queries):
    rows = [Article(pk=1000 + number, embedding=VECTOR) for number in range(1000)]
    rows[bad].embedding = [1, 2]
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        Article.objects.bulk_create(rows)
    assert caught.value.messages == [f"Row {bad} (pk {1000 + bad}): Article.embedding must have 3 dimensions, got 2."]
    assert Article.objects.count() == 0


def test_bulk_update_one_bad_row_names_it_and_writes_nothing(django_assert_num_queries):
    rows = Article.objects.bulk_create([Article(embedding=VECTOR) for _ in range(1000)])
    for row in rows:
        row.embedding = OTHER
    rows[700].embedding = [1, None, 3]
    with django_assert_num_queries(0), pytest.raises(ValidationError) as caught:
        Article.objects.bulk_update(rows, ["embedding"])
    assert caught.value.messages == [
        f"Row 700 (pk {rows[700].pk}): Article.embedding must hold numbers only, got NoneType at position 1."
    ]
    assert Article.objects.filter(embedding=VECTOR).count() == 1000


@pytest.mark.parametrize("value", ["x", [[1, 2, 3]], np.zeros((2, 3))])
def test_update_or_create_refused_value_changes_nothing(article, value):
    with pytest.raises(ValidationError), transaction.atomic():
        Article.objects.update_or_create(title="a", defaults={"embedding": value})
    assert_vector(Article.objects.get().embedding)


# Writing


def test_bulk_update_writes_vectors_and_none():
    rows = Article.objects.bulk_create([Article(title=str(number), embedding=VECTOR) for number in range(3)])
    rows[0].embedding, rows[1].embedding, rows[2].embedding = OTHER, None, np.array([7, 8, 9])
    assert Article.objects.bulk_update(rows, ["embedding"], batch_size=2) == 3
    first, second, third = Article.objects.order_by("title")
    assert_vector(first.embedding, OTHER)
    assert second.embedding is None
    assert_vector(third.embedding, [7.0, 8.0, 9.0])


def test_bulk_create_conflict_updates_the_vector(article):
    again = Article(pk=article.pk, title="again", embedding=OTHER)
    Article.objects.bulk_create([again], update_conflicts=True, unique_fields=["id"], update_fields=["embedding"])
    article.refresh_from_db()
    assert_vector(article.embedding, OTHER)


def test_update_takes_expressions():
    Pair.objects.create(one=[1, 2], two=[3, 4])
    Pair.objects.update(one=F("two"), two=F("one"))
    pair = Pair.objects.get()
    assert_vector(pair.one, [3.0, 4.0])
    assert_vector(pair.two, [1.0, 2.0])


def test_update_takes_a_subquery_a_case_and_none(article):
    other = Article.objects.create(title="b", embedding=OTHER)
    found = Article.objects.filter(pk=article.pk).values("embedding")
    Article.objects.filter(pk=other.pk).update(embedding=Subquery(found))
    assert_vector(Article.objects.get(pk=other.pk).embedding)
    nothing = Value(None, output_field=EmbeddingField(dimensions=3))
    Article.objects.update(embedding=Case(When(title="a", then=F("embedding")), default=nothing))
    assert list(Article.objects.filter(embedding=None)) == [other]
    Article.objects.update(embedding=None)
    assert Article.objects.filter(embedding=None).count() == 2


def test_save_takes_an_expression():
    pair = Pair.objects.create(one=[1, 2], two=[3, 4])
    pair.one = F("two")
    pair.save()
    pair.refresh_from_db()
    assert_vector(pair.one, [3.0, 4.0])


def test_save_update_fields_leaves_the_vector_alone(article):
    article.embedding, article.title = OTHER, "b"
    article.save(update_fields=["title"])
    article.refresh_from_db()
    assert_vector(article.embedding)


def test_get_or_create_and_update_or_create_take_vectors():
    first, created = Article.objects.get_or_create(title="a", defaults={"embedding": VECTOR})
    assert created
    again, created = Article.objects.get_or_create(title="a", defaults={"embedding": OTHER})
    assert (again, created) == (first, False)
    assert_vector(again.embedding)
    Article.objects.update_or_create(title="a", defaults={"embedding": OTHER})
    assert_vector(Article.objects.get().embedding, OTHER)


def test_get_or_create_finds_by_the_vector(article):
    assert Article.objects.get_or_create(embedding=VECTOR) == (article, False)


# Reading


def test_values_and_values_list_give_arrays(article):
    [row] = Article.objects.values("title", "embedding")
    assert_vector(row["embedding"])
    [(vector,)] = Article.objects.values_list("embedding")
    assert_vector(vector)
    assert_vector(Article.objects.values_list("embedding", flat=True)[0])
    assert_vector(Article.objects.values_list("embedding", named=True)[0].embedding)


def test_raw_gives_arrays(article):
    assert_vector(Article.objects.raw("SELECT * FROM tests_article")[0].embedding)
    [deferred] = Article.objects.raw("SELECT id FROM tests_article")
    assert_vector(deferred.embedding)


def test_defer_and_only_load_the_vector_when_asked(article, django_assert_num_queries):
    for rows in (Article.objects.defer("embedding"), Article.objects.only("title")):
        row = rows.get()
        assert row.get_deferred_fields() >= {"embedding"}
        with django_assert_num_queries(1):
            assert_vector(row.embedding)


def test_refresh_from_db_reads_the_vector_again(article):
    Article.objects.update(embedding=OTHER)
    article.refresh_from_db(fields=["embedding"])
    assert_vector(article.embedding, OTHER)


def test_annotated_column_gives_arrays(article):
    assert_vector(Article.objects.annotate(again=F("embedding")).get().again)
    assert_vector(Article.objects.annotate(again=F("embedding")).values("again").get()["again"])
    assert_vector(Article.objects.alias(again=F("embedding")).annotate(more=F("again")).get().more)


def test_coalesce_case_and_value_give_arrays():
    Article.objects.create()
    fallback = Value(OTHER, output_field=EmbeddingField(dimensions=3))
    rows = Article.objects.annotate(
        coalesced=Coalesce("embedding", fallback),
        chosen=Case(When(published=True, then=fallback), default=F("embedding")),
        plain=fallback,
    )
    for vector in (rows.get().coalesced, rows.get().chosen, rows.get().plain):
        assert_vector(vector, OTHER)


def test_subquery_gives_arrays(article):
    section = Section.objects.create(name="s")
    Article.objects.update(section=section)
    inner = Article.objects.filter(section=OuterRef("pk")).values("embedding")
    assert_vector(Section.objects.annotate(vector=Subquery(inner)).get().vector)
    assert Section.objects.filter(Exists(inner.filter(embedding=VECTOR))).get() == section


def test_sliced_subquery_and_in_compare_vectors(article):
    Article.objects.create(title="b", embedding=OTHER)
    inner = Article.objects.filter(title="a").order_by("pk").values("embedding")[:1]
    assert Article.objects.filter(embedding__in=inner).get() == article
    assert Article.objects.filter(pk__in=Article.objects.filter(embedding=VECTOR)).get() == article
    assert Article.objects.filter(embedding__in=[VECTOR, None]).get() == article


@pytest.mark.parametrize("value", KINDS.values(), ids=KINDS)
def test_exact_lookup_finds_the_row(article, value):
    Article.objects.create(embedding=OTHER)
    assert Article.objects.get(embedding=value) == article
    assert Article.objects.exclude(embedding=value).count() == 1
    assert Article.objects.filter(Q(embedding=value) | Q(embedding=OTHER)).count() == 2


@pytest.mark.parametrize("value", [[1, 2], "x", [1, None, 3]])
def test_exact_lookup_refuses_what_is_no_vector(value, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(ValidationError, match=r"^\['Article\.embedding must "):
        Article.objects.filter(embedding=value).first()


def test_exact_lookup_compares_two_columns():
    Pair.objects.create(one=[1, 2], two=[1, 2])
    Pair.objects.create(one=[1, 2], two=[3, 4])
    assert Pair.objects.filter(one=F("two")).count() == 1


def test_distinct_gives_arrays():
    Article.objects.bulk_create([Article(embedding=vector) for vector in (VECTOR, OTHER, VECTOR, None)])
    vectors = Article.objects.values_list("embedding", flat=True).exclude(embedding=None).distinct()
    assert sorted(vector.tolist() for vector in vectors) == [OTHER, VECTOR]
    assert vectors.count() == 2
    ordered = Article.objects.exclude(embedding=None).order_by("embedding").distinct("embedding")
    assert [row.embedding.tolist() for row in ordered] == [OTHER, VECTOR]
    assert Article.objects.order_by("embedding").distinct().count() == 4


def test_union_intersection_and_difference_give_arrays(article):
    Article.objects.create(title="b", embedding=OTHER)
    both, one = Article.objects.all(), Article.objects.filter(title="a")
    assert {row.title: row.embedding.tolist() for row in one.union(both)} == {"a": VECTOR, "b": OTHER}
    assert_vector(both.intersection(one).get().embedding)
    assert_vector(both.difference(one).get().embedding, OTHER)
    assert_vector(one.values_list("embedding").union(one.values_list("embedding")).get()[0])
    assert one.union(both).count() == 2


def test_grouping_by_the_vector_gives_arrays(article):
    Article.objects.create(title="b", embedding=VECTOR)
    [row] = Article.objects.values("embedding").annotate(rows=Count("pk"))
    assert row["rows"] == 2
    assert_vector(row["embedding"])
    assert_vector(Article.objects.annotate(rows=Count("section")).first().embedding)


@pytest.mark.pgvector
def test_average_and_sum_give_arrays(article):
    Article.objects.create(embedding=OTHER)
    found = Article.objects.aggregate(average=Avg("embedding"), total=Sum("embedding"))
    assert_vector(found["average"], [0.75, 0.5, 2.125])
    assert_vector(found["total"], [1.5, 1.0, 4.25])
    assert_vector(Article.objects.order_by("pk")[:1].aggregate(average=Avg("embedding"))["average"])
    assert Article.objects.none().aggregate(average=Avg("embedding")) == {"average": None}


def test_iterator_and_in_bulk_give_arrays():
    rows = Article.objects.bulk_create([Article(embedding=[number, 1, 2]) for number in range(5)])
    assert [row.embedding[0] for row in Article.objects.order_by("pk").iterator(chunk_size=2)] == [0, 1, 2, 3, 4]
    found = Article.objects.in_bulk([rows[0].pk, rows[3].pk])
    assert [row.embedding[0] for row in found.values()] == [0, 3]


def test_select_for_update_gives_arrays(article):
    assert_vector(Article.objects.select_for_update().get().embedding)


def test_order_by_the_vector_orders_by_its_elements(article):
    other = Article.objects.create(embedding=OTHER)
    assert list(Article.objects.order_by("embedding")) == [other, article]
    assert list(Article.objects.order_by("-embedding")) == [article, other]


def test_related_rows_bring_their_vectors(isolated, create_table, django_assert_num_queries):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3)

        class Meta:
            app_label = "tests"

    class Remark(models.Model):
        note = models.ForeignKey(Note, models.CASCADE, related_name="remarks")

        class Meta:
            app_label = "tests"

    create_table(Note, Remark)
    note = Note.objects.create(embedding=VECTOR)
    remark = Remark.objects.create(note=note)
    with django_assert_num_queries(1):
        assert_vector(Remark.objects.select_related("note").get().note.embedding)
    assert_vector(Remark.objects.values_list("note__embedding", flat=True).get())
    assert_vector(Remark.objects.annotate(vector=F("note__embedding")).get().vector)
    assert_vector(Note.objects.prefetch_related("remarks").get().remarks.get().note.embedding)
    assert Remark.objects.filter(note__embedding=VECTOR).get() == remark
    assert note.remarks.filter(note__embedding=OTHER).count() == 0


def test_inherited_vector_is_saved_in_both_tables(isolated, create_table):
    class Note(models.Model):
        embedding = EmbeddingField(dimensions=3)

        class Meta:
            app_label = "tests"

    class Remark(Note):
        reply = EmbeddingField(dimensions=3, null=True)

        class Meta:
            app_label = "tests"

    create_table(Note, Remark)
    Remark.objects.create(embedding=VECTOR, reply=OTHER)
    assert_vector(Remark.objects.get().embedding)
    assert_vector(Remark.objects.get().reply, OTHER)
    assert_vector(Note.objects.get().remark.reply, OTHER)


# Copies, comparisons and serializers


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
def test_copied_instance_keeps_its_vector(article, duplicate):
    again = duplicate(article)
    assert again == article
    assert_vector(again.embedding)


def test_deepcopied_instance_has_a_vector_of_its_own(article):
    again = copy.deepcopy(article)
    again.embedding[0] = 99
    assert_vector(article.embedding)


def test_pickled_queryset_gives_the_rows(article):
    rows = pickle.loads(pickle.dumps(Article.objects.filter(embedding=VECTOR)))
    assert_vector(rows.get().embedding)
    unread = Article.objects.all()
    unread.query = pickle.loads(pickle.dumps(Article.objects.filter(embedding=VECTOR).query))
    assert unread.get() == article


def test_instances_and_querysets_compare_by_pk(article, django_assert_num_queries):
    from django.test import TestCase

    assert Article.objects.get() == article
    assert article in Article.objects.all()
    assert len({article, Article.objects.get()}) == 1
    TestCase().assertQuerySetEqual(Article.objects.all(), [article])


def test_model_to_dict_gives_the_array(article):
    assert_vector(model_to_dict(article)["embedding"])


@pytest.mark.parametrize("kind", ["json", "xml", "yaml", "jsonl"])
def test_dumpdata_and_loaddata_bring_the_same_bits(kind, tmp_path):
    vector = np.array([0.1, -0.0, 1.2e-38, 123456.78], np.float32)
    Loose.objects.create(embedding=vector)
    Loose.objects.create()
    fixture = tmp_path / f"rows.{kind}"
    call_command("dumpdata", "tests.Loose", format=kind, output=str(fixture), verbosity=0)
    Loose.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    first, second = Loose.objects.order_by("pk")
    assert first.embedding.tobytes() == vector.tobytes()
    assert second.embedding is None


def test_loaddata_takes_a_list_of_numbers_too(tmp_path):
    fixture = tmp_path / "rows.json"
    fixture.write_text(json.dumps([{"model": "tests.required", "pk": 1, "fields": {"embedding": VECTOR}}]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert_vector(Required.objects.get().embedding)


@pytest.mark.parametrize("value", [[1, 2], "x", [1, None, 3]])
def test_loaddata_refused_vector_names_the_row_and_the_field(tmp_path, value):
    fixture = tmp_path / "rows.json"
    good = {"model": "tests.required", "pk": 1, "fields": {"embedding": VECTOR}}
    fixture.write_text(json.dumps([good, {**good, "pk": 7, "fields": {"embedding": value}}]))
    with pytest.raises(DeserializationError) as caught:
        call_command("loaddata", str(fixture), verbosity=0)
    assert "Required.embedding must " in str(caught.value)
    assert "pk=7" in str(caught.value)
    assert Required.objects.count() == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(VECTOR, "[1.5,-2.0,0.25]"), (np.array([1, 9, 2, 9, 3], np.float32)[::2], "[1.0,2.0,3.0]"), (None, None)],
)
def test_serialized_unsaved_instance_has_its_vector_as_text(value, text):
    [row] = serializers.serialize("python", [Article(embedding=value)])
    assert row["fields"]["embedding"] == text


def test_value_to_string_leaves_what_is_no_vector():
    assert Article._meta.get_field("embedding").value_to_string(Article(embedding="x")) == "x"


# The form field


def test_formfield_takes_what_the_field_says():
    field = EmbeddingField(dimensions=3, storage="half", null=True, default=list).formfield()
    assert (field.dimensions, field.half, field.required, field.show_hidden_initial) == (3, True, False, False)


@pytest.mark.parametrize(("options", "required"), [({}, True), ({"null": True}, False), ({"blank": True}, False)])
def test_formfield_is_required_unless_it_may_be_empty(options, required):
    assert EmbeddingField(dimensions=3, **options).formfield().required is required


def test_formfield_arguments_come_first():
    assert EmbeddingField(dimensions=3, null=True).formfield(required=True).required is True


def test_model_form_without_data_keeps_the_vector(article):
    form_class = modelform_factory(Article, fields=["title", "embedding"])
    form = form_class({"title": "b"}, instance=article)
    assert form.is_valid()
    assert form.changed_data == ["title"]
    form.save()
    assert_vector(Article.objects.get(title="b").embedding)


def test_model_form_with_text_sets_the_vector(article):
    form_class = modelform_factory(Article, fields=["embedding"], widgets={"embedding": Textarea})
    form = form_class({"embedding": " [0, 3, 4] "}, instance=article)
    assert form.is_valid()
    assert form.changed_data == ["embedding"]
    assert_vector(form.save().embedding, OTHER)


@each_refused
def test_model_form_refused_text_is_a_field_error(article, value, code, sentence):
    form_class = modelform_factory(Article, fields=["embedding"], widgets={"embedding": Textarea})
    form = form_class({"embedding": str(value)}, instance=article)
    assert not form.is_valid() or value == []
    assert set(form.errors) <= {"embedding"}
    assert 'name="embedding"' in form.as_p()


def test_empty_values_are_told_by_identity():
    values = EmptyValues((None, []))
    assert None in values
    assert [] in values
    assert "" not in values
    assert np.zeros(3) not in values
