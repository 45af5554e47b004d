import hashlib
import sys

import django
import numpy as np
import pytest
from django.core import serializers
from django.db import connection, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import F
from django.forms import modelform_factory

from pgembedding_django import EmbeddingField
from pgembedding_django.fields.source import WHITESPACE, InvalidSource
from tests.models import Article, Memo, Required

pytestmark = pytest.mark.django_db

HOSTILE = {
    "ascii": "cheese",
    "spaces around": " \t cheese \n\n",
    "no-break and ideographic spaces": "\u00a0\u3000cheese\u2003",
    "zero width space, which is none": "\u200bcheese\ufeff",
    "right to left": "גבינה \u202eesrever\u202c جبن",
    "emoji": "🧀" * 300,
    "flags and families": "👨‍👩‍👧‍👦🇮🇸",
    "composed and decomposed": "é e\u0301",
    "line ends": "a\r\nb\rc\n",
    "controls": "\x01\x02\x7f cheese \x1f",
    "backslashes and quotes": "E'\\u0041' %s %(a)s \" $1 {}",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "a megabyte": "käse " * 200_000,
    "blank": " \u2028\x85 ",
    "empty": "",
}


@pytest.fixture
def vector():
    return np.array([1, 2, 3], np.float32)


def digest_of(text, *, identity="scripted:a"):
    return hashlib.sha256(f"{identity}\x1f3\x1f{text}".encode()).hexdigest()


def stored(row, name="embedding"):
    """The digest that the row has in the table."""
    return type(row)._base_manager.values_list(f"{name}_digest", flat=True).get(pk=row.pk)


# The text


def test_whitespace_is_what_python_strips():
    assert set(WHITESPACE) == {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_digest_in_sql_is_the_digest_in_python(scripted, text):
    memo = Memo.objects.create(body=text)
    source = Memo._meta.get_field("embedding").text_source
    in_sql = Memo.objects.annotate(text=source.text_expression, digest=source.digest_expression)
    assert in_sql.values_list("text", "digest").get() == (text.strip(), digest_of(text.strip()))
    assert source.digest(source.text(memo)) == digest_of(text.strip())


@pytest.mark.parametrize(
    ("title", "body", "text"),
    [("a", "b", "a\n\nb"), (" ", "b", "b"), ("a", None, "a"), ("", None, ""), (" a ", " b ", "a\n\nb")],
)
def test_text_of_columns_is_joined_and_blank_ones_are_left_out(title, body, text):
    memo = Memo.objects.create(title=title, body=body)
    source = Memo._meta.get_field("embedding").text_source
    assert source.text(memo) == text
    assert Memo.objects.annotate(text=source.text_expression).values_list("text", flat=True).get() == text


def test_text_of_a_method_is_what_it_returns():
    assert Memo._meta.get_field("loud").text_source.text(Memo(title=" aha ")) == "AHA"


def test_text_of_an_attribute_is_its_value(isolated):
    class Item(models.Model):
        embedding = EmbeddingField(source="label")
        label = property(lambda self: "cheese")

    assert Item._meta.get_field("embedding").text_source.text(Item()) == "cheese"


def test_text_of_a_method_that_returns_something_else_is_refused(isolated):
    class Item(models.Model):
        embedding = EmbeddingField(source="label")

        def label(self):
            return 5

    with pytest.raises(InvalidSource) as error:
        Item._meta.get_field("embedding").text_source.text(Item())
    assert str(error.value) == "Item.label, the source of Item.embedding, must be text, got int."


def test_digest_of_a_lone_surrogate_is_defined(scripted):
    assert len(Memo._meta.get_field("loud").text_source.digest("\ud800")) == 64


def test_source_of_a_field_without_one_is_refused():
    with pytest.raises(ValueError, match=r"^Required.embedding has no source, so nothing can be embedded for it. Name"):
        _ = Required._meta.get_field("embedding").text_source


# The companion column


def names(model):
    return [field.name for field in model._meta.fields]


def test_digest_field_is_added_beside_a_field_with_source():
    assert names(Article)[-2:] == ["embedding", "embedding_digest"]
    assert "embedding_digest" not in names(Required)


def test_digest_field_is_in_no_form():
    assert "embedding_digest" not in modelform_factory(Article, fields="__all__")().fields


def test_digest_field_of_an_abstract_model_is_added_to_those_that_inherit(isolated):
    class Base(models.Model):
        text = models.TextField()
        embedding = EmbeddingField(source="text")

        class Meta:
            abstract = True

    class Item(Base):
        pass

    class Child(Item):
        pass

    class Proxy(Item):
        class Meta:
            proxy = True

    assert names(Item) == ["id", "text", "embedding", "embedding_digest"]
    assert names(Child) == ["id", "text", "embedding", "embedding_digest", "item_ptr"]
    assert names(Proxy) == names(Item)
    assert Item._meta.get_field("embedding").text_source.model is Item


def test_digest_field_in_a_migration_is_a_plain_column_of_its_own():
    state = ProjectState()
    state.add_model(ModelState.from_model(Article))
    state.models["tests", "article"].fields.pop("section")
    fields = [field.name for field in state.apps.get_model("tests", "article")._meta.local_fields]
    assert fields.count("embedding_digest") == 1
    name, path, args, kwargs = Article._meta.get_field("embedding_digest").deconstruct()
    assert (name, path, args) == ("embedding_digest", "django.db.models.CharField", [])
    assert kwargs == {"max_length": 64, "null": True, "blank": True, "editable": False}


def test_digest_field_of_an_existing_model_is_found_by_makemigrations(isolated):
    class Item(models.Model):
        text = models.TextField()
        embedding = EmbeddingField(source="text")

    after, before = ProjectState(), ProjectState()
    after.add_model(ModelState.from_model(Item))
    fields = [(n, f) for n, f in ModelState.from_model(Item).fields.items() if n != "embedding_digest"]
    before.add_model(ModelState("tests", "Item", fields))
    changes = MigrationAutodetector(before, after)._detect_changes()
    (operation,) = changes["tests"][0].operations
    assert operation.describe() == "Add field embedding_digest to item"


def test_vector_in_a_migration_leaves_the_digest_alone(transactional_db):
    Article.objects.create(title="a", embedding=[1, 2, 3])
    state = ProjectState()
    state.add_model(ModelState.from_model(Article))
    state.models["tests", "article"].fields.pop("section")
    row = state.apps.get_model("tests", "article")._base_manager.defer("embedding").get()
    before = row.embedding_digest
    row.embedding = row.embedding * 2
    row.save()
    assert stored(Article.objects.get()) == before


# Which digest a save writes


def test_vector_given_by_hand_stands_for_the_text_of_its_row(scripted, vector):
    article = Article.objects.create(title="cheese", embedding=vector)
    assert article.embedding_digest == stored(article) == digest_of("cheese")


def test_row_without_vector_has_no_digest(scripted):
    article = Article.objects.create(title="cheese")
    assert article.embedding_digest is stored(article) is None


@pytest.mark.parametrize("load", ["bulk_create", "bulk_load"])
def test_vector_given_in_bulk_stands_for_the_text_of_its_row(scripted, vector, load):
    getattr(Article.objects, load)([Article(title="a", embedding=vector), Article(title="b")])
    assert dict(Article.objects.values_list("title", "embedding_digest")) == {"a": digest_of("a"), "b": None}


def test_vector_assigned_after_loading_stands_for_the_text_of_its_row(scripted, vector):
    Article.objects.create(title="a", embedding=vector)
    article = Article.objects.get()
    article.title, article.embedding = "b", vector * 2
    article.save()
    assert stored(article) == digest_of("b")
    article.save()
    assert stored(article) == digest_of("b")


def test_vector_assigned_to_a_row_without_one_stands_for_its_text(scripted, vector):
    Article.objects.create(title="a")
    article = Article.objects.defer("embedding").get()
    article.embedding = vector
    article.save()
    assert stored(article) == digest_of("a")


def test_vector_taken_away_takes_its_digest_along(scripted, vector):
    article = Article.objects.create(title="a", embedding=vector)
    article.embedding = None
    article.save()
    assert stored(article) is None


@pytest.mark.parametrize(
    "load",
    [
        lambda rows: rows.get(),
        lambda rows: rows.only("title").get(),
        lambda rows: rows.defer("embedding").get(),
        lambda rows: rows.only("title", "embedding").get(),
        lambda rows: rows.defer("embedding_digest").get(),
    ],
)
@pytest.mark.parametrize("touch", [lambda row: None, lambda row: row.embedding, lambda row: row.refresh_from_db()])
def test_vector_that_was_loaded_never_stands_for_a_new_text(scripted, vector, load, touch):
    Article.objects.create(title="a", embedding=vector)
    article = load(Article.objects)
    touch(article)
    article.title = "b"
    article.save()
    assert stored(article) == digest_of("a")


def test_vector_refreshed_by_itself_never_stands_for_a_new_text(scripted, vector):
    article = Article.objects.create(title="a", embedding=vector)
    Article.objects.update(embedding=vector * 2)
    article.title = "b"
    article.refresh_from_db(fields=["embedding"])
    article.save()
    assert stored(article) == digest_of("a")


def test_vector_not_loaded_keeps_the_digest_that_somebody_gave_it_meanwhile(scripted, vector):
    Article.objects.create(title="a", embedding=vector)
    article = Article.objects.defer("embedding").get()
    Article.objects.update(title="b", embedding=vector * 2, embedding_digest=digest_of("b"))
    article.save()
    assert stored(article) == digest_of("b")
    assert Article.objects.stale().exists()


def test_vector_loaded_late_comes_with_the_digest_of_that_moment(scripted, vector):
    Article.objects.create(title="a", embedding=vector)
    article = Article.objects.defer("embedding").get()
    Article.objects.update(title="b", embedding=vector * 2, embedding_digest=digest_of("b"))
    assert list(article.embedding) == [2, 4, 6]
    article.save()
    assert stored(article) == digest_of("b")


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Fetch modes came with Django 6.1.")
def test_vectors_loaded_late_for_peers_come_with_their_digests(scripted, vector, django_assert_num_queries):
    Article.objects.bulk_create([Article(title="a", embedding=vector), Article(title="a", embedding=vector)])
    rows = list(Article.objects.fetch_mode(models.FETCH_PEERS).defer("embedding"))
    Article.objects.update(title="b", embedding=vector * 2, embedding_digest=digest_of("b"))
    with django_assert_num_queries(1):
        assert [row.embedding.tolist() for row in rows] == [[2, 4, 6]] * 2
    rows[1].save()
    assert stored(rows[1]) == digest_of("b")


def test_copy_of_a_row_of_unknown_text_stays_unknown(scripted, vector):
    Article.objects.create(title="a", embedding=vector)
    Article.objects.update(embedding_digest=None)
    article = Article.objects.get()
    article.pk, article._state.adding = None, True
    article.title = "b"
    article.save()
    assert stored(article) is None


def test_vector_given_where_nothing_embeds_is_of_unknown_text(settings, vector):
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {}}
    assert stored(Article.objects.create(title="a", embedding=vector)) is None


def test_vector_given_with_an_expression_as_text_is_of_unknown_text(scripted, vector):
    article = Article.objects.create(title="a")
    article.title, article.embedding = F("title"), vector
    article.save()
    assert stored(article) is None


def test_vector_given_by_an_update_leaves_the_digest(scripted, vector):
    article = Article.objects.create(title="a", embedding=vector)
    Article.objects.update(embedding=vector * 2, title="b")
    assert stored(article) == digest_of("a")


def test_vector_in_a_fixture_keeps_its_digest(scripted, vector):
    Article.objects.create(title="a", embedding=vector)
    data = serializers.serialize("json", Article.objects.all())
    Article.objects.all().delete()
    (row,) = serializers.deserialize("json", data)
    row.save()
    assert stored(row.object) == digest_of("a")


def test_literals_of_the_expressions_hold_no_parameter(scripted):
    sql, params = Memo.objects.stale(field="embedding").query.sql_with_params()
    assert params == ("", "scripted:a\x1f3\x1f")
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


@pytest.mark.django_db
def test_row_saved_raw_with_a_vector_given_by_hand_is_stale():
    Article(title="a", embedding=[1, 2, 3]).save_base(raw=True)
    assert Article.objects.get().embedding_digest is None
    assert Article.objects.stale().count() == 1
