"""sync="save" and sync="task": what save() sets off."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from unittest import mock

import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import connection, connections, models, transaction
from django.db.models.signals import pre_save
from django.forms import modelform_factory
from django.test.utils import CaptureQueriesContext

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.compat import background
from pgembedding_django.embedders import EmbedderUnavailable, EmbeddingError, TextRejected
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.embedding.rows import get_field
from pgembedding_django.embedding.sync import watch
from pgembedding_django.embedding.tasks import embed_row, embed_rows
from tests.models import Article, Memo, Queued, Saved
from tests.support.scripted import AWAY, vector_of
from tests.tasks import DOWN

pytestmark = pytest.mark.django_db

#: What is enqueued, is enqueued on commit.
committed = pytest.mark.django_db(transaction=True)


def vector(model):
    value = model.objects.get().embedding
    return None if value is None else value.tolist()


# sync="save"


def test_save_of_a_new_row_embeds_its_text(scripted):
    row = Saved.objects.create(text="a")
    assert vector(Saved) == row.embedding.tolist() == vector_of("a")
    assert not Saved.objects.stale().exists()


def test_save_of_another_text_embeds_it(scripted):
    Saved.objects.create(text="a")
    row = Saved.objects.get()
    row.text = "bb"
    row.save()
    assert vector(Saved) == vector_of("bb")
    assert not Saved.objects.stale().exists()


@pytest.mark.parametrize("load", [lambda rows: rows.get(), lambda rows: rows.defer("embedding").get()])
def test_save_of_the_same_text_pays_for_nothing(scripted, load):
    Saved.objects.create(text="a")
    row = load(Saved.objects)
    row.views = 5
    row.save()
    assert scripted.paid == {"a": 1}


@pytest.mark.parametrize("touch", [lambda row: None, lambda row: row.embedding])
@pytest.mark.parametrize(
    "save", [lambda row: row.save(), lambda row: row.save(update_fields=["text"])], ids=["all", "text"]
)
def test_save_without_the_vector_embeds_another_text_afterwards(scripted, touch, save):
    Saved.objects.create(text="a")
    row = Saved.objects.defer("embedding").get()
    touch(row)
    row.text = "bb"
    save(row)
    assert vector(Saved) == vector_of("bb")
    assert not Saved.objects.stale().exists()


@pytest.mark.parametrize("load", [lambda row: row, lambda row: Saved.objects.get(pk=row.pk)], ids=["made", "loaded"])
def test_save_that_names_the_text_puts_the_new_vector_on_the_instance(scripted, load):
    row = load(Saved.objects.create(text="a"))
    row.text = "bb"
    row.save(update_fields=["text"])
    assert row.embedding.tolist() == vector_of("bb")
    Saved.objects.bulk_update([row], ["embedding"])
    row.save(update_fields=["views", "embedding"])
    assert vector(Saved) == vector_of("bb")
    assert not Saved.objects.stale().exists()


@pytest.mark.parametrize("options", [{}, {"update_fields": ["embedding"]}], ids=["all", "vector"])
def test_save_of_another_text_after_a_vector_by_hand_embeds_it(scripted, options):
    row = Saved.objects.create(text="a")
    row.embedding = [7, 8, 9]
    row.save(**options)
    assert vector(Saved) == [7, 8, 9]
    row.text = "bb"
    row.save()
    assert vector(Saved) == row.embedding.tolist() == vector_of("bb")
    assert not Saved.objects.stale().exists()


def test_save_of_other_fields_reads_no_text(scripted, django_assert_num_queries):
    Saved.objects.create(text="a")
    row = Saved.objects.only("views").get()
    with django_assert_num_queries(1):
        row.save(update_fields=["views"])


def test_save_after_a_change_of_the_model_embeds_again(scripted):
    row = Saved.objects.create(text="a")
    scripted.configure(model="b")
    row.save()
    assert scripted.paid == {"a": 2}


def test_save_of_a_vector_given_by_hand_pays_for_nothing(scripted):
    row = Saved.objects.create(text="a", embedding=[1, 2, 3])
    row.text, row.embedding = "b", [4, 5, 6]
    row.save()
    assert vector(Saved) == [4, 5, 6]
    assert not scripted.paid


def test_save_of_a_form_that_hands_the_vector_back_embeds_its_text(scripted):
    row = Saved.objects.create(text="a")
    form_class = modelform_factory(Saved, fields=["text", "embedding"])
    data = {**form_class(instance=Saved.objects.get()).initial, "text": "bb", "embedding": "[1, 97, 0.5]"}
    form = form_class(data, instance=Saved.objects.get(pk=row.pk))
    form.save()
    assert vector(Saved) == vector_of("bb")


def test_save_of_blank_text_takes_the_vector_away(scripted):
    row = Saved.objects.create(text="a")
    row.text = " "
    row.save()
    assert vector(Saved) is None
    assert scripted.paid == {"a": 1}


def test_save_of_a_rejected_text_saves_nothing(scripted):
    with pytest.raises(TextRejected):
        Saved.objects.create(text="bad")
    assert not Saved.objects.exists()


def test_save_of_a_rejected_text_alone_says_so(scripted):
    row = Saved.objects.create(text="a")
    row.text = "bad"
    with pytest.raises(TextRejected) as error, transaction.atomic():
        row.save(update_fields=["text"])
    assert str(error.value) == f"Saved.embedding of pk {row.pk} could not be embedded: it is bad"


def test_save_with_an_embedder_out_of_reach_saves_nothing(scripted):
    scripted.failures = [AWAY]
    with pytest.raises(EmbedderUnavailable):
        Saved.objects.create(text="a")
    assert not Saved.objects.exists()


def test_save_of_a_fixture_embeds_nothing(scripted):
    Saved.objects.bulk_create([Saved(text="a")])
    data = serializers.serialize("json", Saved.objects.all())
    for row in serializers.deserialize("json", data):
        row.save()
    assert not scripted.paid


def test_bulk_create_embeds_nothing_and_leaves_the_rows_stale(scripted):
    Saved.objects.bulk_create([Saved(text="a")])
    assert Saved.objects.stale().count() == 1


def test_save_where_null_is_refused_keeps_the_vector_of_a_text_that_went(scripted, isolated):
    class Item(Saved._meta.model._meta.concrete_model):
        class Meta:
            proxy = True
            app_label = "tests"

    watch(Item)
    field = Saved._meta.get_field("embedding")
    row = Item(text="a")
    row.save()
    with mock.patch.object(field, "null", False):
        row.text = ""
        row.save()
    assert vector(Saved) == vector_of("a")


@pytest.fixture
def made(isolated):
    """A model whose vector save() makes, and which must have one."""

    class Made(models.Model):
        text = models.TextField(blank=True)
        embedding = EmbeddingField(dimensions=3, source="text", sync="save")

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    watch(Made)
    with connection.schema_editor() as editor:
        editor.create_model(Made)
    return Made


def test_row_whose_vector_save_makes_is_valid_without_it(scripted, made):
    row = made(text="a")
    row.full_clean()
    row.save()
    assert vector(made) == vector_of("a")


@pytest.mark.parametrize("fields", [["text"], ["text", "embedding"]])
def test_form_of_a_new_row_whose_vector_save_makes_is_saved(scripted, made, fields):
    form = modelform_factory(made, fields=fields)({"text": "a"})
    assert form.errors == {}
    form.save()
    assert vector(made) == vector_of("a")


@pytest.mark.parametrize(
    "write", [lambda row: row.save(), lambda row: type(row).objects.bulk_create([row])], ids=["save", "bulk_create"]
)
def test_row_whose_vector_was_not_made_says_what_to_do(scripted, made, write):
    with pytest.raises(ValidationError) as caught:
        write(made(text=" "))
    assert caught.value.messages == [
        "Made.embedding must have a vector: save() the row with a text, or let the field be null until it is embedded."
    ]


def test_save_of_other_columns_and_the_text_takes_two_statements_more(scripted):
    row = Saved.objects.create(text="a")
    row.text = "bb"
    with CaptureQueriesContext(connection) as sent:
        row.save(update_fields=["text"])
    assert [query["sql"].split()[0] for query in sent] == ["UPDATE", "SELECT", "UPDATE"]


def test_save_of_the_text_of_a_row_that_a_run_has_claimed_embeds_it(scripted):
    row = Saved.objects.create(text="a")
    with Claims(get_field(Saved, None), "default") as claims:
        claims.take([row.pk], fresh_too=True)
        row.text = "bb"
        row.save(update_fields=["text"])
    assert vector(Saved) == vector_of("bb")


# sync="task"


@committed
def test_task_embeds_a_saved_row(scripted):
    Queued.objects.create(text="a")
    assert vector(Queued) == vector_of("a")


@committed
def test_task_is_enqueued_when_its_transaction_commits(scripted):
    with transaction.atomic():
        Queued.objects.create(text="a")
        assert not scripted.paid
    assert scripted.paid == {"a": 1}


@committed
def test_task_of_a_transaction_that_is_rolled_back_is_none(scripted):
    with transaction.atomic():
        Queued.objects.create(text="a")
        transaction.set_rollback(True)
    assert not scripted.paid


@committed
def test_task_for_another_text_embeds_it(scripted):
    row = Queued.objects.create(text="a")
    row.refresh_from_db()
    row.text = "bb"
    row.save(update_fields=["text"])
    assert vector(Queued) == vector_of("bb")


@committed
@pytest.mark.parametrize("update_fields", [None, ["views"]])
def test_task_for_the_same_text_is_none(scripted, update_fields, monkeypatch):
    Queued.objects.create(text="a")
    row = Queued.objects.get()
    monkeypatch.setattr("pgembedding_django.embedding.sync.enqueue", None)
    row.save(update_fields=update_fields)


@committed
def test_task_that_fails_leaves_the_row_stale(scripted, caplog):
    scripted.failures = [AWAY]
    Queued.objects.create(text="a")
    assert Queued.objects.stale().count() == 1
    assert Queued.objects.embed().embedded == 1


@committed
def test_task_that_cannot_be_enqueued_fails_no_save(scripted, monkeypatch, caplog):
    monkeypatch.setattr("pgembedding_django.embedding.sync.embed_row", lambda *args: None)
    caplog.set_level(logging.ERROR, "django.db.backends.base")
    Queued.objects.create(text="a")
    assert Queued.objects.stale().count() == 1
    assert "Background work needs Django 6.0" in caplog.text


@committed
@pytest.mark.parametrize("together", [transaction.atomic, nullcontext])
def test_task_whose_queue_is_down_fails_no_save_and_is_logged(scripted, settings, caplog, together):
    settings.TASKS = {"default": {"BACKEND": "tests.tasks.DownBackend"}}
    with together():
        Queued.objects.create(text="a")
    assert Queued.objects.stale().count() == 1
    assert DOWN in caplog.text
    assert Queued.objects.embed().embedded == 1


def run_task(row):
    function = getattr(embed_row, "func", embed_row)
    function("tests.Queued", "embedding", str(row.pk), connection.alias)


def test_task_that_runs_twice_pays_once(scripted):
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    run_task(row)
    run_task(row)
    assert scripted.paid == {"a": 1}


def test_task_takes_two_statements(scripted):
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    with CaptureQueriesContext(connection) as sent:
        run_task(row)
    assert [query["sql"].split()[0] for query in sent] == ["SELECT", "UPDATE"]
    assert vector(Queued) == vector_of("a")


def edit(**values):
    """Edit the row on another connection, while its text is under way."""

    def write(texts):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: (Queued.objects.update(**values), connections.close_all())).result()

    return write


@committed
@pytest.mark.parametrize(
    ("values", "kept"),
    [({"text": "new"}, None), ({"embedding": [7, 8, 9], "embedding_digest": "x"}, [7, 8, 9])],
    ids=["text", "vector"],
)
def test_task_for_a_row_that_is_edited_meanwhile_writes_nothing(scripted, values, kept):
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    scripted.before = edit(**values)
    run_task(row)
    assert vector(Queued) == kept
    assert Queued.objects.stale().count() == 1


def test_task_for_a_row_that_lost_its_text_takes_the_vector_away(scripted):
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    run_task(row)
    Queued.objects.update(text=" ")
    run_task(row)
    assert vector(Queued) is None
    assert not Queued.objects.stale().exists()


def test_task_for_a_row_that_a_run_has_claimed_leaves_it_to_the_run(scripted):
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    with Claims(get_field(Queued, None), "default") as claims:
        claims.take([row.pk], fresh_too=False)
        run_task(row)
    assert not scripted.paid


@committed
@pytest.mark.parametrize(("title", "expected"), [("a", vector_of("A")), ("new", None)], ids=["same", "edited"])
def test_task_for_a_row_whose_text_a_method_makes_compares_it_again(scripted, title, expected):
    memo = Memo.objects.create(title="a")

    def write(texts):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: (Memo.objects.update(title=title), connections.close_all())).result()

    scripted.before = write
    getattr(embed_row, "func", embed_row)("tests.Memo", "loud", str(memo.pk), "default")
    loud = Memo.objects.get().loud
    assert (None if loud is None else loud.tolist()) == expected


def test_task_of_many_rows_embeds_them_and_fails_for_a_bad_one(scripted):
    rows = Queued.objects.bulk_create([Queued(text=text) for text in ("a", "bad")])
    function = getattr(embed_rows, "func", embed_rows)
    with pytest.raises(TextRejected, match=f"^Queued.embedding of pk {rows[1].pk} could not be embedded: it is bad$"):
        function("tests.Queued", "embedding", [str(row.pk) for row in rows], "default")
    assert Queued.objects.get(text="a").embedding.tolist() == vector_of("a")


def test_task_whose_vector_has_another_length_fails(scripted, monkeypatch):
    monkeypatch.setattr(scripted, "dimensions", None)
    monkeypatch.setattr(scripted, "embed_each", lambda self, texts: [[1.0, 2.0]] * len(texts))
    (row,) = Queued.objects.bulk_create([Queued(text="a")])
    with pytest.raises(EmbeddingError, match=r"^Queued.embedding must have 3 dimensions, got 2.$"):
        run_task(row)


def test_task_for_a_row_that_is_gone_does_nothing(scripted):
    run_task(Queued(text="a"))
    assert not scripted.paid


def test_task_for_a_rejected_text_fails(scripted):
    (row,) = Queued.objects.bulk_create([Queued(text="bad")])
    with pytest.raises(TextRejected, match=f"^Queued.embedding of pk {row.pk} could not be embedded: it is bad$"):
        run_task(row)


def test_watch_of_a_model_without_sync_connects_nothing():
    watch(Article)
    assert not pre_save.has_listeners(Article)


def test_tasks_framework_of_the_tests_runs_at_once():
    assert background.is_available()
    assert not background.has_workers()
