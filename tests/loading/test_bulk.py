"""bulk_load(): what it writes, and what it refuses."""

import datetime
import enum
import ipaddress
import pickle
import uuid
from decimal import Decimal

import numpy as np
import pytest
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import (
    DatabaseError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    connection,
    models,
    transaction,
)
from django.db.models import F, Value
from django.test.utils import isolate_apps

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector
from tests.models import Article, Everything, Loose, Required, Section, Tag

pytestmark = pytest.mark.django_db

VALUES = {
    "text": ["", "naïve – 漢字 🎉", "tab\tnew\nline\\N", None],
    "char": ["x" * 20],
    "small": [-32768, 32767, None],
    "integer": [-(2**31), 2**31 - 1, 0],
    "big": [-(2**63), 2**63 - 1],
    "flag": [True, False, None],
    "number": [0.1, -1e300, float("inf"), None],
    "price": [
        Decimal(text)
        for text in (
            "0",
            "1",
            "-1",
            "0.0000000001",
            "12345678901234567890.0123456789",
            "10000",
            "-99990000.5",
            "0.00010001",
        )
    ],
    "data": [{"a": [1, None, "é🎉"]}, [], "text \\u0000 with backslashes", 3, None, Value(None, models.JSONField())],
    "day": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), datetime.date(2000, 1, 1)],
    "moment": [
        datetime.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC),
        datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    ],
    "hour": [datetime.time(0, 0), datetime.time(23, 59, 59, 999999)],
    "span": [
        datetime.timedelta(days=-3, microseconds=7),
        datetime.timedelta(days=400, hours=5),
        datetime.timedelta(days=300_000_000, microseconds=-1),
        datetime.timedelta(days=-300_000_000),
    ],
    "raw": [b"", b"\x00\xff", bytearray(b"a"), memoryview(b"abc"), None],
    "address": ["192.168.0.1", "2001:db8::1", "", None],
    "numbers": [[], [1, -2, 3], [1, None], None],
    "words": [["a", "é,}"], []],
    "embedding": [np.array([0.1, -0.0, 1e-40], np.float32), None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_bulk_load_writes_what_save_writes(name, value):
    saved = Everything(**{name: value})
    saved.save()
    assert Everything.objects.bulk_load([Everything(**{name: value})]) == 1
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name}::text FROM tests_everything ORDER BY id")
        one, other = cursor.fetchall()
    assert one == other


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        ("id", "integer", {"pk": 2**31 - 1}),
        ("small", "bigint", {"small": -5}),
        ("big", "smallint", {"big": 7}),
        ("big", "numeric", {"big": 2**63 - 1}),
        ("number", "real", {"number": 0.5}),
        ("number", "numeric", {"number": 0.1}),
        ("number", "numeric", {"number": float("inf")}),
        ("number", "numeric", {"number": float("-inf")}),
        ("price", "double precision", {"price": Decimal("1.5")}),
    ],
)
@pytest.mark.parametrize("conflicts", [{}, {"update_conflicts": True, "unique_fields": ["key"]}], ids=["", "conflicts"])
def test_bulk_load_into_a_number_of_another_type_than_the_field_says_writes_it(column, kind, values, conflicts):
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE tests_everything ALTER {column} TYPE {kind}")
    Everything.objects.bulk_load([Everything(**values)], **conflicts)
    name, value = next(iter(values.items()))
    stored = Everything.objects.values_list(name, flat=True).get()
    assert type(value)(stored) == value


def test_bulk_load_follows_foreign_keys_in_a_column_of_another_type():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_article ALTER section_id TYPE integer")
    section = Section.objects.create(name="s")
    Article.objects.bulk_load([Article(title="a", section=section)])
    assert Article.objects.get().section == section


def test_bulk_load_of_a_number_that_its_column_cannot_hold_names_the_row():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_everything ALTER big TYPE smallint")
    with pytest.raises(ValidationError, match=r"Row 1 \(pk None\): Everything\.big: "):
        Everything.objects.bulk_load([Everything(big=1), Everything(big=2**15)])


def test_bulk_load_vector_reads_back_bit_for_bit():
    vectors = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    Required.objects.bulk_load(Required(embedding=vector) for vector in vectors)
    stored = np.stack(list(Required.objects.order_by("pk").values_list("embedding", flat=True)))
    assert stored.tobytes() == vectors.tobytes()


def test_bulk_load_fills_defaults_and_times():
    before = datetime.datetime.now(datetime.UTC)
    Everything.objects.bulk_load([Everything()])
    row = Everything.objects.get()
    assert (row.filled, row.char) == (7, "char")
    assert isinstance(row.key, uuid.UUID)
    assert before <= row.created <= row.updated


def test_bulk_load_follows_foreign_keys():
    section = Section.objects.create(name="s")
    Article.objects.bulk_load([Article(title="a", section=section), Article(title="b")])
    assert list(Article.objects.order_by("title").values_list("section_id", flat=True)) == [section.pk, None]


def test_bulk_load_takes_the_key_of_a_row_saved_meanwhile():
    section = Section(name="s")
    article = Article(title="a", section=section)
    section.save()
    Article.objects.bulk_load([article])
    assert Article.objects.get().section == section


def test_bulk_load_of_an_unsaved_foreign_key_is_refused():
    with pytest.raises(ValueError, match="bulk_load\\(\\) prohibited to prevent data loss"):
        Article.objects.bulk_load([Article(title="a", section=Section(name="s"))])
    assert not Article.objects.exists()


def test_bulk_load_of_another_model_is_refused():
    with pytest.raises(TypeError) as caught:
        Article.objects.bulk_load([Article(title="a"), {"title": "b"}])
    assert str(caught.value) == "bulk_load() takes instances of Article, got dict as row 1."


@pytest.mark.parametrize("zone", ["Europe/Madrid", "Europe/Dublin", "UTC"])
@pytest.mark.parametrize(
    "moment", ["2026-07-01 12:00", "2026-03-29 01:30", "2026-03-29 02:30", "2026-10-25 01:30", "2026-10-25 02:30"]
)
@pytest.mark.parametrize("fold", [0, 1])
def test_bulk_load_without_time_zones_takes_times_for_local(settings, zone, moment, fold):
    settings.USE_TZ, settings.TIME_ZONE = False, zone
    local = datetime.datetime.fromisoformat(moment).replace(fold=fold)
    Everything.objects.create(moment=local)
    Everything.objects.bulk_load([Everything(moment=local)])
    one, other = Everything.objects.values_list("moment", flat=True)
    assert one == other


def test_bulk_load_of_a_member_of_an_enumeration_writes_its_value():
    class Kind(str, enum.Enum):  # noqa: UP042 - the kind whose str() is its name
        A = "a"

    Everything.objects.bulk_load([Everything(char=Kind.A)])
    assert Everything.objects.get().char == "a"


def test_bulk_load_keeps_given_primary_keys_beside_new_ones():
    Article.objects.bulk_load([Article(pk=70, title="a"), Article(title="b"), Article(pk=71, title="c")])
    assert set(Article.objects.filter(pk__in=[70, 71]).values_list("title", flat=True)) == {"a", "c"}
    assert Article.objects.count() == 3


def test_bulk_load_makes_the_primary_key_that_save_would_make():
    Tag.objects.bulk_load([Tag(pk=None, name="a")])
    assert isinstance(Tag.objects.get().pk, uuid.UUID)


def test_bulk_load_sends_long_rows_in_several_chunks():
    texts = [chr(97 + i % 26) * 4000 for i in range(300)]
    Everything.objects.bulk_load(Everything(text=text) for text in texts)
    assert list(Everything.objects.order_by("pk").values_list("text", flat=True)) == texts


def test_bulk_load_of_nothing_loads_nothing():
    assert Article.objects.bulk_load([]) == 0


def test_bulk_load_reads_a_generator_batch_by_batch():
    seen = []
    rows = (Article(title=str(i)) for i in range(25))
    assert Article.objects.bulk_load(rows, batch_size=10, progress=seen.append) == 25
    assert seen == [10, 20, 25]


def test_bulk_load_index_finds_what_was_loaded():
    vectors = np.random.default_rng(2).standard_normal((300, 3)).astype(np.float32)
    Article.objects.bulk_load(Article(title=str(i), embedding=vector) for i, vector in enumerate(vectors))
    expected = int(np.linalg.norm(vectors - vectors[17] - 0.01, axis=1).argmin())
    assert Article.objects.nearest(vectors[17] + np.float32(0.01), 1).get().title == str(expected)


def valid_indexes():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "WHERE a.amname = 'hnsw' AND i.indisvalid AND i.indrelid = 'tests_article'::regclass"
        )
        return [name for (name,) in cursor.fetchall()]


def test_bulk_load_around_the_index_builds_it_again_and_says_so(caplog):
    section = Section.objects.create(name="s")
    rows = (Article(title=str(i), section=section, embedding=[i, 0, 0]) for i in range(50))
    with caplog.at_level("INFO", logger="pgembedding_django"):
        assert Article.objects.bulk_load(rows, batch_size=20, rebuild_indexes=True) == 50
    assert valid_indexes() == ["article_embedding_hnsw"]
    assert Article.objects.nearest([7, 0, 0], 1, exact=False).get().title == "7"
    assert caplog.messages == [
        "Dropped article_embedding_hnsw for the load.",
        "Built article_embedding_hnsw again over 50 rows loaded.",
    ]


def test_bulk_load_around_the_index_that_fails_leaves_all_as_it_was():
    rows = [*(Article(title=str(i), embedding=[i, 0, 0]) for i in range(50)), Article(embedding=[1])]
    with pytest.raises(ValidationError):
        Article.objects.bulk_load(rows, batch_size=20, rebuild_indexes=True)
    assert valid_indexes() == ["article_embedding_hnsw"]
    assert not Article.objects.exists()


NESTED = []
for _ in range(100_000):
    NESTED = [NESTED]

BAD = {
    "wrong length": ({"embedding": [1, 2]}, "Everything.embedding must have 3 dimensions, got 2."),
    "text in a number": (
        {"integer": "many"},
        "Everything.integer: Field 'integer' expected a number but got 'many'.",
    ),
    "out of range": ({"small": 40000}, "Everything.small: "),
    "NaN": ({"price": Decimal("NaN")}, "Everything.price: “NaN” value must be a decimal number."),
    "NUL": ({"text": "a\0b"}, "Everything.text: Postgres stores no NUL character in text"),
    "expression": (
        {"integer": F("big")},
        "Everything.integer: bulk_load() writes values, not expressions; use bulk_create() for them",
    ),
    "vector expression": (
        {"embedding": Value(None)},
        "Everything.embedding: bulk_load() writes values, not expressions; use bulk_create() for them",
    ),
    "NUL in JSON": ({"data": {"a": ["b\0"]}}, "Everything.data: Postgres stores no NUL character in text"),
    "NUL in a key of JSON": ({"data": {"\0": 1}}, "Everything.data: Postgres stores no NUL character in text"),
    "NaN in JSON": ({"data": [float("nan")]}, "Everything.data: Out of range float values are not JSON compliant"),
    "half a character in JSON": ({"data": "\ud800"}, "Everything.data: 'utf-8' codec can't encode character"),
    "no JSON": ({"data": {"a": object()}}, "Everything.data: Object of type object is not JSON serializable"),
    "JSON without end": ({"data": NESTED}, "Everything.data: "),
    "value for JSON": ({"data": Value(5)}, "Everything.data: Object of type Value is not JSON serializable"),
    "number of bytes": ({"raw": 5}, "Everything.raw: memoryview: a bytes-like object is required, not 'int'"),
    "text for bytes": ({"raw": "ab"}, "Everything.raw: memoryview: a bytes-like object is required, not 'str'"),
    "infinite": ({"price": Decimal("Infinity")}, "Everything.price: "),
    "no number": ({"price": Decimal("sNaN")}, "Everything.price: "),
    "set for a list": ({"numbers": {1}}, "Everything.numbers: must be a list, got set"),
    "dict for a list": ({"numbers": {1: 2}}, "Everything.numbers: must be a list, got dict"),
    "array for a list": ({"numbers": np.array([1, 2])}, "Everything.numbers: must be a list, got ndarray"),
    "text for a list": ({"words": "django"}, "Everything.words: must be a list, got str"),
    "address": ({"address": "nowhere"}, "Everything.address: 'nowhere' does not appear to be an IPv4 or IPv6 "),
}


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_bulk_load_names_the_bad_row_and_stores_nothing_of_its_batch(values, message):
    rows = [Everything() for _ in range(30)]
    rows[17] = Everything(pk=5, **values)
    with pytest.raises(ValidationError) as caught:
        Everything.objects.bulk_load(rows, batch_size=10)
    assert caught.value.messages[0].startswith(f"Row 17 (pk 5): {message}")
    assert Everything.objects.count() == 10


def test_bulk_load_in_one_transaction_stores_all_or_nothing():
    rows = [*(Required(embedding=[1, 2, 3]) for _ in range(30)), Required(embedding=[1])]
    with pytest.raises(ValidationError):
        Required.objects.bulk_load(rows, batch_size=None)
    assert not Required.objects.exists()


def test_bulk_load_rolled_back_leaves_nothing():
    with transaction.atomic():
        Required.objects.bulk_load([Required(embedding=[1, 2, 3])])
        transaction.set_rollback(True)
    assert not Required.objects.exists()


def test_bulk_load_null_where_none_may_be_names_the_row_of_the_load():
    rows = [Article(pk=i + 100, title=None if i == 17 else "a") for i in range(30)]
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Article.objects.bulk_load(rows, batch_size=10)
    assert str(caught.value).startswith('Row 17 (pk 117): null value in column "title" of relation')
    assert caught.value.__cause__.diag.column_name == "title"


def test_bulk_load_without_a_vector_where_one_must_be_names_the_row_of_the_load():
    rows = [Required(pk=i + 100, embedding=None if i == 17 else [1, 2, 3]) for i in range(30)]
    with pytest.raises(ValidationError) as caught, transaction.atomic():
        Required.objects.bulk_load(rows, batch_size=10)
    assert caught.value.messages == [
        "Row 17 (pk 117): Required.embedding must have a vector: assign one, or let the field be null until it is "
        "embedded."
    ]


def test_bulk_load_unique_conflict_names_the_row_and_stores_nothing():
    key = uuid.uuid4()
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Everything.objects.bulk_load([Everything(key=key), Everything(pk=7, key=key)])
    assert str(caught.value).startswith("Row 1 (pk 7): duplicate key value violates unique constraint")
    assert str(key) in str(caught.value)
    assert not Everything.objects.exists()


@pytest.mark.parametrize("conflicts", [{}, {"update_conflicts": True, "unique_fields": ["pk"]}], ids=["", "conflicts"])
@isolate_apps("tests")
def test_bulk_load_into_a_table_that_is_not_there_is_the_servers_error(conflicts):
    class Missing(models.Model):
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with pytest.raises(ProgrammingError, match='relation "tests_missing" does not exist'), transaction.atomic():
        Missing.objects.bulk_load([Missing(pk=1)], **conflicts)


def test_bulk_load_update_conflicts_updates_and_inserts():
    old = Everything.objects.create(text="old", integer=1)
    rows = [Everything(key=old.key, text="new", embedding=[1, 2, 3]), Everything(text="other")]
    assert Everything.objects.bulk_load(rows, update_conflicts=True, unique_fields=["key"]) == 2
    created, (old_text, integer, vector) = (
        old.created,
        Everything.objects.values_list("text", "integer", "embedding").get(pk=old.pk),
    )
    assert (old_text, integer, vector.tolist()) == ("new", None, [1, 2, 3])
    assert Everything.objects.get(pk=old.pk).created == created
    assert Everything.objects.count() == 2


def test_bulk_load_update_conflicts_by_primary_key():
    old = Required.objects.create(embedding=[1, 1, 1])
    rows = [Required(pk=old.pk, embedding=[2, 2, 2])]
    Required.objects.bulk_load(rows, update_conflicts=True, unique_fields=["pk"])
    assert Required.objects.get().embedding.tolist() == [2, 2, 2]


def test_bulk_load_update_conflicts_with_nothing_to_update_keeps_the_row():
    Tag.objects.bulk_load([Tag(name="old")])
    Tag.objects.bulk_load([Tag(name="old"), Tag(name="new")], update_conflicts=True, unique_fields=["name"])
    assert set(Tag.objects.values_list("name", flat=True)) == {"old", "new"}


def test_bulk_load_update_fields_updates_no_others():
    old = Everything.objects.create(text="old", integer=1, embedding=[1, 2, 3])
    rows = [Everything(key=old.key, text="new", integer=2)]
    Everything.objects.bulk_load(rows, update_conflicts=True, unique_fields=["key"], update_fields=["text"])
    text, integer, vector = Everything.objects.values_list("text", "integer", "embedding").get()
    assert (text, integer, vector.tolist()) == ("new", 1, [1, 2, 3])


@pytest.mark.parametrize("update_fields", [["embedding"], ["embedding", "embedding_digest"]])
def test_bulk_load_that_updates_a_vector_updates_its_digest(update_fields):
    old = Article.objects.create(title="old", embedding=[1, 1, 1])
    Article.objects.filter(pk=old.pk).update(title="new")
    rows = [Article(pk=old.pk, title="new", embedding=[2, 2, 2])]
    Article.objects.bulk_load(rows, update_conflicts=True, unique_fields=["pk"], update_fields=update_fields)
    assert Article.objects.get().embedding.tolist() == [2, 2, 2]
    assert not Article.objects.stale().exists()


def test_bulk_load_of_the_same_row_twice_names_both():
    key = uuid.uuid4()
    rows = [Everything(), Everything(key=key), Everything(key=key)]
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        Everything.objects.bulk_load(rows, update_conflicts=True, unique_fields=["key"])
    assert str(caught.value) == (
        "Row 2 (pk None) has the key of row 1, and a batch can update a row only once. Load each once."
    )


def test_bulk_load_of_a_row_twice_in_the_eyes_of_the_server_is_its_error():
    rows = [Required(pk=1, embedding=[1, 2, 3]), Required(pk="1", embedding=[1, 2, 3])]
    with pytest.raises(DatabaseError, match="cannot affect row a second time"), transaction.atomic():
        Required.objects.bulk_load(rows, update_conflicts=True, unique_fields=["pk"])


def test_bulk_load_that_violates_a_check_in_an_update_is_the_servers_error():
    rows = [Required(pk=1, embedding=[1, 2, 3])]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_required ADD CHECK (id > 1)")
    with pytest.raises(IntegrityError, match="violates check constraint"), transaction.atomic():
        Required.objects.bulk_load(rows, update_conflicts=True, unique_fields=["pk"])


ARGUMENTS = {
    "batch zero": ({"batch_size": 0}, "batch_size must be a positive integer or None, got 0."),
    "batch bool": ({"batch_size": True}, "batch_size must be a positive integer or None, got True."),
    "no unique": (
        {"update_conflicts": True},
        "update_conflicts=True and unique_fields go together: which conflicts make an update?",
    ),
    "unique text": ({"unique_fields": "pk"}, "unique_fields must be a list of names, got 'pk'."),
    "unique unknown": (
        {"update_conflicts": True, "unique_fields": ["titel"]},
        "unique_fields must name fields of Article (id, title, published, section, embedding, embedding_digest, pk), "
        "got 'titel'.",
    ),
    "update text": ({"update_fields": "title"}, "update_fields must be a list of names, got 'title'."),
    "update alone": (
        {"update_fields": ["title"]},
        "update_fields needs update_conflicts=True: what else would be updated?",
    ),
    "update unknown": (
        {"update_conflicts": True, "unique_fields": ["pk"], "update_fields": ["titel"]},
        "update_fields must name fields of Article (id, title, published, section, embedding, embedding_digest, pk), "
        "got 'titel'.",
    ),
    "unique alone": (
        {"unique_fields": ["pk"]},
        "update_conflicts=True and unique_fields go together: which conflicts make an update?",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_bulk_load_bad_argument_is_refused(arguments, message):
    with pytest.raises(ValueError) as caught:
        Article.objects.bulk_load([], **arguments)
    assert str(caught.value) == message


@isolate_apps("tests")
def test_bulk_load_of_a_model_with_a_parents_table_is_refused():
    class Child(Article):
        class Meta:
            app_label = "tests"

    with pytest.raises(NotSupportedError) as caught:
        Child.objects.bulk_load([])
    assert str(caught.value) == "bulk_load() cannot load Child, which inherits from another table."


@isolate_apps("tests")
def test_bulk_load_of_a_type_without_encoder_is_refused():
    from django.contrib.postgres.fields import IntegerRangeField

    class Ranged(models.Model):
        span = IntegerRangeField()
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with pytest.raises(NotSupportedError) as caught:
        Ranged.objects.bulk_load([Ranged(span=(1, 2))])
    assert str(caught.value) == (
        "Ranged.span is of type 'int4range', which bulk_load() does not write. Use bulk_create()."
    )


def test_bulk_load_of_an_address_takes_objects_too():
    Everything.objects.bulk_load([Everything(address=ipaddress.ip_address("10.0.0.1"))])
    assert Everything.objects.get().address == "10.0.0.1"


def test_bulk_load_when_the_source_fails_stores_nothing_of_its_batch():
    def rows():
        yield Required(embedding=[1, 2, 3])
        raise OSError("the source went away")

    with pytest.raises(OSError, match="the source went away"):
        Required.objects.bulk_load(rows())
    assert not Required.objects.exists()
    assert connection.is_usable()


OLD = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def test_bulk_load_raw_keeps_times_that_a_save_would_set():
    Everything.objects.bulk_load([Everything(created=OLD, updated=OLD)], raw=True)
    assert Everything.objects.values_list("created", "updated").get() == (OLD, OLD)


def test_bulk_load_raw_updates_what_was_set_when_the_row_was_made():
    row = Everything.objects.create()
    row.created = row.updated = OLD
    Everything.objects.bulk_load([row], raw=True, update_conflicts=True, unique_fields=["pk"])
    assert Everything.objects.values_list("created", "updated").get() == (OLD, OLD)


@pytest.mark.parametrize("digest", ["d" * 64, None])
def test_bulk_load_raw_keeps_the_digest(digest):
    row = Article(title="a", embedding=[1, 2, 3], embedding_digest=digest)
    Article.objects.bulk_load([row], raw=True)
    assert Article.objects.get().embedding_digest == digest


def test_bulk_load_raw_of_a_vector_given_by_hand_leaves_it_stale():
    Article.objects.bulk_load([Article(title="a", embedding=[1, 2, 3])], raw=True)
    assert Article.objects.get().embedding_digest is None
    assert Article.objects.stale().exists()


def test_bulk_load_raw_without_a_vector_where_one_must_be_is_the_servers_error():
    with pytest.raises(IntegrityError, match=r"^Row 0 \(pk 7\): null value"), transaction.atomic():
        Required.objects.bulk_load([Required(pk=7, embedding=None)], raw=True)


@isolate_apps("tests")
def test_bulk_load_raw_of_a_model_with_a_parents_table_loads_its_own():
    class Child(Article):
        note = models.CharField(max_length=9)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    parent = Article.objects.create(title="parent")
    with connection.schema_editor() as editor:
        editor.create_model(Child)
    Child.objects.bulk_load([Child(article_ptr_id=parent.pk, note="own")], raw=True)
    assert Child.objects.values_list("pk", "title", "note").get() == (parent.pk, "parent", "own")


@isolate_apps("tests")
def test_bulk_load_writes_what_a_field_hands_to_the_driver():
    class Encrypted(models.BinaryField):
        def get_db_prep_value(self, value, connection, prepared=False):
            return super().get_db_prep_value(value[::-1], connection, prepared)

    class Secret(models.Model):
        text = Encrypted()
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Secret)
    Secret.objects.bulk_load([Secret(text=b"abc")])
    assert bytes(Secret.objects.get().text) == b"cba"


@isolate_apps("tests")
def test_bulk_load_writes_arrays_of_a_size_and_of_json():
    class Sized(models.Model):
        numbers = ArrayField(models.IntegerField(), size=2)
        data = ArrayField(models.JSONField())
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Sized)
    Sized.objects.bulk_load([Sized(numbers=(1, 2), data=[{"a": 1}, [2]])])
    assert Sized.objects.values_list("numbers", "data").get() == ([1, 2], [{"a": 1}, [2]])


@pytest.fixture
def tenants(isolated):
    """A model with a composite primary key, of which one half is made when a row is saved."""

    class Tenant(models.Model):
        pk = models.CompositePrimaryKey("tenant", "key")
        tenant = models.IntegerField()
        key = models.UUIDField(default=uuid.uuid4)
        name = models.CharField(max_length=9)
        embedding = EmbeddingField(dimensions=3, null=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Tenant)
    return Tenant


def test_bulk_load_with_a_composite_primary_key_loads(tenants):
    tenants.objects.bulk_load([tenants(tenant=1, name="a", embedding=[1, 2, 3]), tenants(tenant=1, key=None)])
    assert sorted(tenants.objects.values_list("tenant", "name")) == [(1, ""), (1, "a")]


def test_bulk_load_updates_by_a_composite_primary_key(tenants):
    row = tenants.objects.create(tenant=1, name="a")
    rows = [tenants(tenant=1, key=row.key, name="b", embedding=[1, 2, 3]), tenants(tenant=2, key=row.key, name="c")]
    tenants.objects.bulk_load(rows, update_conflicts=True, unique_fields=["pk"])
    assert sorted(tenants.objects.values_list("tenant", "name")) == [(1, "b"), (2, "c")]
    assert tenants.objects.get(tenant=1).embedding.tolist() == [1, 2, 3]


def test_bulk_load_of_the_same_composite_key_twice_names_both_rows(tenants):
    row = tenants(tenant=1, name="a")
    with pytest.raises(DatabaseError, match=r"has the tenant, key of row 0, and a batch"), transaction.atomic():
        tenants.objects.bulk_load([row, row], update_conflicts=True, unique_fields=["pk"])


def test_bulk_load_by_a_role_without_temporary_tables_names_the_right(migrated_database, role):
    migrated_database.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", superuser=True)
    migrated_database.execute(f"REVOKE TEMPORARY ON DATABASE {migrated_database.name} FROM PUBLIC", superuser=True)
    rows = [Required(pk=1, embedding=[1, 2, 3])]
    with pytest.raises(ProgrammingError) as caught:
        Required.objects.using("fresh").bulk_load(rows, update_conflicts=True, unique_fields=["pk"])
    assert str(caught.value) == (
        f'Role "{role}" may not create temporary tables in database "{migrated_database.name}", in which rows are '
        f"gathered before they are merged. Run as its owner: GRANT TEMPORARY ON DATABASE "
        f'"{migrated_database.name}" TO "{role}"'
    )
    assert Required.objects.using("fresh").bulk_load(rows) == 1


@isolate_apps("tests")
def test_bulk_load_writes_the_vectors_that_a_field_of_ones_own_makes():
    class UnitField(EmbeddingField):
        def to_vector(self, value):
            vector = super().to_vector(value)
            return Vector(vector / np.linalg.norm(vector))

    class Unit(models.Model):
        embedding = UnitField(dimensions=2)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Unit)
    Unit.objects.bulk_load([Unit(embedding=[3, 4])])
    assert Unit.objects.get().embedding.tolist() == [np.float32(0.6), np.float32(0.8)]


def test_bulk_load_writes_vectors_of_several_lengths():
    Loose.objects.bulk_load([Loose(embedding=[1, 2]), Loose(embedding=None), Loose(embedding=[1, 2, 3])])
    stored = Loose.objects.order_by("pk").values_list("embedding", flat=True)
    assert [vector is not None and vector.tolist() for vector in stored] == [[1, 2], False, [1, 2, 3]]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e19])
def test_bulk_load_of_a_vector_that_was_changed_in_place_names_the_row(broken):
    rows = [Required(pk=i, embedding=[1, 2, 3]) for i in range(9)]
    rows[7].embedding[1] = broken
    with pytest.raises(ValidationError, match=r"Row 7 \(pk 7\): Required\.embedding must "):
        Required.objects.bulk_load(rows)


@isolate_apps("tests")
def test_bulk_load_of_a_vector_without_direction_where_none_may_be_names_the_row():
    class Directed(models.Model):
        embedding = EmbeddingField(dimensions=2, allow_zero=False)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Directed)
    Directed.objects.bulk_load([Directed(embedding=[1e-30, 0])])
    with pytest.raises(ValidationError, match=r"Row 1 \(pk 9\): Directed\.embedding must not be all zeros"):
        Directed.objects.bulk_load([Directed(embedding=[0, 1]), Directed(pk=9, embedding=[0, 0])])


@pytest.mark.pgvector
@isolate_apps("tests")
def test_bulk_load_of_half_vectors_writes_them_and_names_one_that_is_too_large():
    class Half(models.Model):
        embedding = EmbeddingField(dimensions=2, storage="half")
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Half)
    rows = [Half(embedding=[1.5, -2]), Half(embedding=[1, 65519])]
    Half.objects.bulk_load(rows)
    assert [vector.tolist() for vector in Half.objects.values_list("embedding", flat=True)] == [[1.5, -2], [1, 65504]]
    with pytest.raises(ValidationError, match=r"Row 2 \(pk None\): Half\.embedding must be below 65520"):
        Half.objects.bulk_load([*rows, Half(embedding=[1, 65520])])


def test_bulk_load_names_a_row_by_what_was_read_and_a_pickle_keeps_it():
    with pytest.raises(ValidationError) as caught:
        Required.objects.bulk_load([Required(pk=5, embedding=[1])])
    error = pickle.loads(pickle.dumps(caught.value))
    reason = "Required.embedding must have 3 dimensions, got 1."
    assert (error.position, error.pk, error.field, error.reason) == (0, 5, "Required.embedding", reason)
    assert error.messages == [f"Row 0 (pk 5): {reason}"]


def test_bulk_create_names_a_row_whose_key_has_a_percent_sign():
    with pytest.raises(ValidationError, match=r"Row 0 \(pk '50%s'\): Required\.embedding must have 3 dimensions"):
        Required.objects.bulk_create([Required(pk="50%s", embedding=[1])])


@isolate_apps("tests")
def test_bulk_load_takes_instances_of_a_proxy_too():
    class Short(Required):
        class Meta:
            app_label = "tests"
            proxy = True

    assert Required.objects.bulk_load([Short(embedding=[1, 2, 3]), Required(embedding=[1, 2, 3])]) == 2
